package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// deskMemory watches how much of the node's memory is left: a goroutine reads it, the more often the less there is, and when there
// is hardly any brings the desk what it has read; the work core then chooses a worker that ends (work.Short). Memory for values is
// taken only while there is enough.
type deskMemory struct {
	reading sync.Mutex // guards the gauge
	gauge   *device.Gauge
	arenas  atomic.Int64           // bytes that values take
	bounded atomic.Bool            // the store was told that there is no more for it
	kills   uint64                 // of the kernel, that are known. The desk's turns'.
	below   map[int][]int          // while a worker is chosen: processes that others have started
	last    atomic.Pointer[string] // what was read last, for people
}

const (
	memoryPart  = 20                     // a twentieth of what bounds memory is kept free,
	memoryLeast = 128 << 20              // but at least so much,
	memoryMost  = 3 << 30                // and at most so much;
	memorySmall = 8                      // of little memory no more than an eighth
	memoryRate  = 2 << 30                // bytes that a CPU may take in a second
	memoryOften = 5 * time.Millisecond   // between two looks, at least,
	memoryRare  = time.Second            // and at most
	memoryCost  = 10                     // looks take at most a tenth of the time
	memoryBound = 500 * time.Millisecond // as often it is looked at least while the store is bounded
)

// memoryKept is what is to stay free.
func memoryKept(limit uint64) uint64 {
	return min(max(limit/memoryPart, memoryLeast), memoryMost, limit/memorySmall)
}

// spare is what may be used of what was read; negative: more than that is.
func spare(r device.Reading) int64 { return int64(r.Free()) - int64(memoryKept(r.Limit)) }

// forValues is what values may take of it: they leave room to those who can't be told to wait.
func forValues(r device.Reading) int64 { return spare(r) - int64(memoryKept(r.Limit)) }

// read looks how much there is.
func (m *deskMemory) read() device.Reading {
	m.reading.Lock()
	defer m.reading.Unlock()
	r := m.gauge.Read(uint64(m.arenas.Load()))
	text := r.String()
	m.last.Store(&text)
	return r
}

// watchMemory reads until ctx is over. It is one of the loop's goroutines.
func (d *desk) watchMemory(ctx context.Context) {
	cpus := max(amountOf(d.l.core.cfg.Resources, "CPU")/whole, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		r := d.memory.read()
		left := spare(r)
		if left < 0 {
			d.memory.reading.Lock()
			list := d.memory.gauge.Processes()
			d.memory.reading.Unlock()
			d.post(mail{do: func() { d.memoryShort(ctx, r, list) }})
		}
		if d.memory.bounded.Load() {
			d.post(mail{do: func() { d.boundStore(forValues(r)) }})
		}
		next := min(max(time.Duration(float64(left)/float64(memoryRate*cpus)*float64(time.Second)), memoryOften), memoryRare)
		if d.memory.bounded.Load() {
			next = min(next, memoryBound)
		}
		timer.Reset(max(next, memoryCost*time.Since(began)))
	}
}

// memoryShort has the core end a worker.
func (d *desk) memoryShort(ctx context.Context, r device.Reading, list []device.Process) {
	if d.core == nil || d.over != "" {
		return
	}
	if d.store != nil {
		if empty := d.store.store.Shrink(nil); len(empty) > 0 { // which may be enough
			d.store.do(empty, nil)
			return
		}
	}
	ev := work.Short{Text: r.String()}
	at := map[int]int{} // by a process that is spoken of, its place in ev.Uses
	for _, h := range d.sortedHired() {
		if h.pid > 0 && h.state == nil && h.conn != nil {
			at[h.pid] = len(ev.Uses)
			ev.Uses = append(ev.Uses, work.Used{Process: h.conn.process, PID: h.pid})
		}
	}
	d.memory.below = map[int][]int{}
	for _, p := range list { // each behind its parent
		i, known := at[p.PID]
		if !known {
			if i, known = at[p.Parent]; known && ev.Uses[i].Process != 0 {
				top := ev.Uses[i].PID
				d.memory.below[top] = append(d.memory.below[top], p.PID)
			}
		}
		if !known {
			i = len(ev.Uses)
			ev.Uses = append(ev.Uses, work.Used{PID: p.PID, Name: p.Name})
		}
		at[p.PID] = i
		ev.Uses[i].Bytes += int64(p.Anon)
	}
	for _, c := range d.sorted() {
		pid := int(c.pid)
		if _, known := at[pid]; known || c.kind != fb.AttachKindDriver || pid == 0 {
			continue
		}
		d.memory.reading.Lock()
		if p, ok := d.memory.gauge.Process(pid); ok {
			ev.Uses = append(ev.Uses, work.Used{PID: pid, Name: "driver " + p.Name, Bytes: int64(p.Anon)})
		}
		d.memory.reading.Unlock()
	}
	if d.store != nil {
		ev.Text += ", values " + objstore.Bytes(d.store.store.Used(objstore.Arenas))
	}
	d.step(ctx, ev)
	d.memory.below = nil
}

// endBelow ends what a worker that is being ended for want of memory has started.
func (d *desk) endBelow(pid int) {
	if d.memory == nil {
		return
	}
	for _, p := range d.memory.below[pid] {
		d.slay(p)
	}
}

// kernelEnded tells whether the kernel has ended something for want of memory that was not known of, and what was read before.
func (d *desk) kernelEnded() (before string, yes bool) {
	if d.memory == nil {
		return "", false
	}
	d.memory.reading.Lock()
	n := d.memory.gauge.Kills()
	d.memory.reading.Unlock()
	yes, d.memory.kills = n > d.memory.kills, n
	if s := d.memory.last.Load(); s != nil {
		before = *s
	}
	return before, yes
}

// boundStore tells the store how much more memory there is for it.
func (d *desk) boundStore(left int64) {
	s, now := d.store, d.l.now()
	if s == nil {
		return
	}
	if left > s.store.Explain().Limit {
		d.memory.bounded.Store(false)
		s.do(s.store.Unbound(now, nil), nil)
		return
	}
	d.memory.bounded.Store(true)
	s.do(s.store.Bound(now, left, nil), nil)
}

// growStore makes an arena if the node has the memory.
func (s *deskStore) growStore(e objstore.Grow) {
	m, before := s.d.memory, s.store.Used(objstore.Arenas)-e.Size
	s.d.l.goes(func() {
		if m != nil {
			m.arenas.Store(before)
			if left := forValues(m.read()); left < e.Size {
				s.d.post(mail{do: func() {
					s.d.boundStore(left - e.Size) // which it counts already
					s.do(s.store.GrowFailed(s.d.l.now(), e.Arena, objstore.ErrShort, nil))
				}})
				return
			}
			m.arenas.Store(before + e.Size)
		}
		err := s.memory.Make(e.Arena, e.Size)
		s.d.post(mail{do: func() { s.made(e.Arena, err) }})
	})
}
