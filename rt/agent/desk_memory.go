package agent

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// deskMemory watches how much of the node's memory is left: a goroutine reads it, the more often the less there is, and when there
// is hardly any brings the desk what it has read, so that no turn waits for /proc; the work core then chooses a worker that ends (work.Short). Memory for values is
// taken only while there is enough.
type deskMemory struct {
	gauge   *device.Gauge
	arenas  atomic.Int64           // bytes that values take
	bounded atomic.Bool            // the store was told that there is no more for it
	kills   atomic.Uint64          // of the kernel, that are known
	below   map[int][]int          // while a worker is chosen: processes that others have started
	last    atomic.Pointer[string] // what was read last, for people
	asked   int64                  // when one look was waited for slabs that were asked for
	over    time.Time              // of the watch: since when there is too little, which fading views would mend; zero: there is not
	views   atomic.Uint64          // bytes that all may have of values in their page tables, where these count for each process; 0: any
	shared  bool                   // all processes that there are know their share of them
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
	slabsLate   = int64(time.Second)     // so long no more looks are waited for slabs, after one that was
	fadePart    = 8                      // views fade when no more than an eighth is left, once they are an eighth;
	fadeLeast   = 1 << 20                // of values that have so many bytes;
	fadeEvery   = 100 * time.Millisecond // as often they may be told, since all of them have to be entered again
	fadeTime    = 3 * time.Second        // so long they may take: NodeManagers look as often
	viewsPart   = 4                      // a quarter is left for what processes enter between two looks at what they have of values
	viewsLeast  = 32 << 20               // that each of them may have
)

// memoryKept is what is to stay free.
func memoryKept(limit uint64) uint64 {
	return min(max(limit/memoryPart, memoryLeast), memoryMost, limit/memorySmall)
}

// spare is what may be used of what was read; negative: more than that is.
func spare(r device.Reading) int64 { return int64(r.Free()) - int64(memoryKept(r.Limit)) }

// forValues is what values may take of it: they leave room to those who can't be told to wait.
func forValues(r device.Reading) int64 { return spare(r) - int64(memoryKept(r.Limit)) }

// fades tells whether processes are to let go of the pages of what they look at: where these count for each process, 16 that look at
// one value have 16 times its size, and may have it again a moment later.
func fades(r device.Reading) bool {
	return r.Used > r.Limit-r.Limit/fadePart && r.Views > r.Limit/fadePart
}

// forViews is what all processes may have of values in their page tables, where these count for each; 0: as much as they like. NodeManagers look every few
// seconds, and end a container that has too much just then: what processes enter in milliseconds has to be kept small by themselves.
func forViews(r device.Reading) uint64 {
	if r.Counted == 0 {
		return 0
	}
	most := r.Counted - r.Counted/viewsPart
	return max(most-min(r.Beside, most), viewsLeast)
}

// another tells whether a number is another one by more than an eighth.
func another(n, was uint64) bool { return n > was+was/8 || n < was-was/8 }

// recount has what values may take in page tables shared out anew: there are other processes.
func (d *desk) recount() {
	if d.memory != nil {
		d.memory.shared = false
	}
}

// shareViews tells drivers and workers how much of values each may have in its page table, if that is new to them.
func (d *desk) shareViews() {
	if d.memory == nil || d.memory.shared {
		return
	}
	all := d.memory.views.Load()
	d.memory.shared = true
	if all == 0 {
		return
	}
	list := slices.DeleteFunc(d.sorted(), func(c *workConn) bool { return c.kind != fb.AttachKindDriver && c.kind != fb.AttachKindWorker })
	for _, c := range list {
		if each := max(all/uint64(len(list)), viewsLeast); another(each, c.views) {
			c.views = each
			d.send(c, &fb.ViewFadeT{Most: each}, 0, nil)
		}
	}
}

// waits tells whether too little is left only until views have faded.
func (m *deskMemory) waits(r device.Reading, now time.Time) bool {
	if want := r.Used + memoryKept(r.Limit); !fades(r) || want <= r.Limit || want-r.Views > r.Limit {
		m.over = time.Time{}
		return false
	}
	if m.over.IsZero() {
		m.over = now
	}
	return now.Sub(m.over) < fadeTime
}

// viewers are the processes that have views in their page tables.
func (m *deskMemory) viewers() map[int]bool {
	pids := map[int]bool{}
	for _, p := range m.gauge.Processes() {
		if p.Views > 0 {
			pids[p.PID] = true
		}
	}
	return pids
}

// fadeViews has them let go of them, and the agent and its maniple-native of what they have of the arenas themselves.
func (d *desk) fadeViews(viewers map[int]bool) {
	for _, c := range d.sorted() {
		if c.kind == fb.AttachKindDriver && viewers[int(c.pid)] {
			d.send(c, &fb.ViewFadeT{Least: fadeLeast}, 0, nil)
		}
	}
	for _, h := range d.sortedHired() {
		if h.conn != nil && viewers[h.pid] {
			d.send(h.conn, &fb.ViewFadeT{Least: fadeLeast}, 0, nil)
		}
	}
	if d.store != nil {
		d.l.goes(d.store.memory.Fade)
		d.fabric.fade()
	}
}

// read looks how much there is.
func (m *deskMemory) read() device.Reading {
	r := m.gauge.Read(uint64(m.arenas.Load()))
	text := r.String()
	m.last.Store(&text)
	return r
}

// watchMemory reads until ctx is over. It is one of the loop's goroutines.
func (d *desk) watchMemory(ctx context.Context) {
	cpus := max(amountOf(d.l.core.cfg.Resources, "CPU")/whole, 1)
	d.memory.kills.Store(d.memory.gauge.Kills())
	timer := time.NewTimer(0)
	defer timer.Stop()
	var faded time.Time
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		r := d.memory.read()
		left := spare(r)
		if all := forViews(r); another(all, d.memory.views.Load()) {
			d.memory.views.Store(all)
			d.post(mail{do: d.recount})
		}
		if fades(r) && began.Sub(faded) >= fadeEvery {
			faded = began
			viewers := d.memory.viewers()
			d.post(mail{do: func() { d.fadeViews(viewers) }})
		}
		if waits := d.memory.waits(r, began); left < 0 && !waits {
			if s := d.countMemory(ctx); s != nil {
				d.post(mail{do: func() { d.memoryShort(ctx, s) }})
			}
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

// shortage is what was read while there was hardly any memory.
type shortage struct {
	reading device.Reading
	list    []device.Process // of this node, each behind its parent
	drivers []device.Process
}

// countMemory looks what processes have, which takes a while, and reads again: who was ended a moment ago may have given back enough
// meanwhile. nil: so it is.
func (d *desk) countMemory(ctx context.Context) *shortage {
	pids := make(chan []int, 1)
	d.post(mail{do: func() { pids <- d.driverPIDs() }})
	s := &shortage{list: d.memory.gauge.Processes()}
	select {
	case list := <-pids:
		for _, pid := range list {
			if p, ok := d.memory.gauge.Process(pid); ok {
				s.drivers = append(s.drivers, p)
			}
		}
	case <-ctx.Done():
		return nil
	}
	if s.reading = d.memory.read(); spare(s.reading) >= 0 {
		return nil
	}
	return s
}

func (d *desk) driverPIDs() (list []int) {
	for _, c := range d.sorted() {
		if c.kind == fb.AttachKindDriver && c.pid != 0 {
			list = append(list, int(c.pid))
		}
	}
	return list
}

// memoryShort has the core end a worker.
func (d *desk) memoryShort(ctx context.Context, s *shortage) {
	if d.core == nil || d.over != "" {
		return
	}
	if d.store != nil {
		if d.shed(s) {
			return
		}
		if d.store.giveUpSpares() {
			d.boundStore(forValues(s.reading)) // or the next one would be begun
			return
		}
	}
	ev := work.Short{Text: s.reading.String()}
	at := map[int]int{} // by a process that is spoken of, its place in ev.Uses
	for _, h := range d.sortedHired() {
		if h.pid > 0 && h.state == nil && h.conn != nil {
			at[h.pid] = len(ev.Uses)
			ev.Uses = append(ev.Uses, work.Used{Process: h.conn.process, PID: h.pid})
		}
	}
	d.memory.below = map[int][]int{}
	for _, p := range s.list {
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
	for _, p := range s.drivers {
		if _, known := at[p.PID]; !known {
			ev.Uses = append(ev.Uses, work.Used{PID: p.PID, Name: "driver " + p.Name, Bytes: int64(p.Anon)})
		}
	}
	if d.store != nil {
		ev.Text += ", values " + objstore.Bytes(d.store.store.Used(objstore.Arenas))
	}
	d.step(ctx, ev)
	d.memory.below = nil
}

// shed gives back of values what can go; true: that may be enough. Slabs that processes give back for it are waited for until the next look.
func (d *desk) shed(s *shortage) bool {
	now, before := d.l.now(), d.store.store.Used(objstore.Arenas)
	effects := d.store.store.Shed(now, nil)
	d.store.do(effects, nil)
	if before-d.store.store.Used(objstore.Arenas) >= -spare(s.reading) {
		return true
	}
	asked := slices.ContainsFunc(effects, func(e objstore.Effect) bool { _, is := e.(objstore.Recall); return is })
	if !asked || now < d.memory.asked+slabsLate {
		return false
	}
	d.memory.asked = now
	return true
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
func (m *deskMemory) kernelEnded() (before string, yes bool) {
	n := m.gauge.Kills()
	yes = n > m.kills.Swap(n)
	if s := m.last.Load(); s != nil {
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

// spareArena is one that is made in time that nobody else wants, until one of these is closed: somebody waits for it, or nobody will.
type spareArena struct{ hurry, stop chan struct{} }

// giveUpSpares has no arena made any more that nobody waits for; false: there was none.
func (s *deskStore) giveUpSpares() bool {
	for _, x := range s.spares {
		close(x.stop)
	}
	any := len(s.spares) > 0
	clear(s.spares)
	return any
}

// growStore makes an arena if the node has the memory.
func (s *deskStore) growStore(e objstore.Grow) {
	m, before := s.d.memory, s.store.Used(objstore.Arenas)-e.Size
	need, x := e.Size, spareArena{make(chan struct{}), make(chan struct{})}
	if e.Spare {
		need = 2 * e.Size
		s.spares[e.Arena] = x
	}
	s.d.l.goes(func() {
		if m != nil {
			m.arenas.Store(before)
			if left := forValues(m.read()); left < need {
				s.d.post(mail{do: func() {
					delete(s.spares, e.Arena)
					if !e.Spare {
						s.d.boundStore(left - e.Size) // which it counts already
					}
					s.do(s.store.GrowFailed(s.d.l.now(), e.Arena, objstore.ErrShort, nil))
				}})
				return
			}
			m.arenas.Store(before + e.Size)
		}
		var err error
		if e.Spare {
			err = s.memory.Spare(e.Arena, e.Size, x.hurry, x.stop)
		} else {
			err = s.memory.Make(e.Arena, e.Size)
		}
		s.d.post(mail{do: func() { s.made(e.Arena, err) }})
	})
}
