package agent

import (
	"context"
	"time"

	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// post brings something to the desk; it never waits, nor takes a turn.
func (d *desk) post(m mail) {
	d.put(m)
	d.stir()
}

func (d *desk) put(m mail) {
	d.mu.Lock()
	d.box = append(d.box, m)
	d.mu.Unlock()
}

func (d *desk) stir() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// hear takes what a connection brought, on its reader's goroutine.
func (d *desk) hear(c *workConn, b carrier.Batch) {
	d.put(mail{conn: c, batch: b})
	if d.poll == nil {
		d.stir()
	}
}

// heard takes a turn for what connections brought, on the goroutine that reads them, unless somebody turns.
func (d *desk) heard(ctx context.Context) {
	if d.some() && d.turning.TryLock() { // else whoever has it looks again
		d.turn(ctx)
		d.release()
	}
}

func (d *desk) some() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.box) > 0
}

// release ends a turn. What came meanwhile is run's: a reader that went on would leave its own socket unread.
func (d *desk) release() {
	d.turning.Unlock()
	if d.some() {
		d.stir()
	}
}

// run is the desk's goroutine. It ends with ctx, and every connection with it: the fate rule.
func (d *desk) run(ctx context.Context) {
	d.timer = time.NewTimer(time.Hour)
	defer d.timer.Stop()
	var err error
	if d.poll, err = carrier.NewPoll(func() { d.heard(ctx) }); err != nil {
		d.l.log.Warn("each connection of a process has a goroutine of its own, which is slower", "error", err)
	}
	d.release()
	for {
		fired := false
		select {
		case <-d.wake:
		case <-d.timer.C:
			fired = true
		case <-ctx.Done():
			d.turning.Lock()
			d.end()
			if d.poll != nil {
				d.poll.Close()
			}
			return
		}
		d.turning.Lock()
		if fired {
			d.due = 0
		}
		d.turn(ctx)
		d.release()
	}
}

// turn takes what is in the box. The timer is left alone if it fires in time, or early.
func (d *desk) turn(ctx context.Context) {
	d.mu.Lock()
	d.taken, d.box = d.box, d.taken[:0]
	d.mu.Unlock()
	for i := range d.taken {
		d.take(ctx, &d.taken[i])
		d.taken[i] = mail{}
	}
	if next := d.settle(ctx); next < d.due || d.due == 0 {
		d.due = next
		if d.timer != nil { // else a simulation looks
			d.timer.Reset(max(0, time.Duration(next-d.l.now())))
		}
	}
}
