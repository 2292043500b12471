package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// fetch is a value of another node on its way into this one's memory. It is asked for piece by piece, so that what is under way
// is bounded by those who want it, and goes behind calls and results.
type fetch struct {
	errand *errand
	object id.Object
	size   int64
	wanted bool          // memory was asked for
	lent   objstore.Lent // Slab 0: not yet
	asked  int64         // bytes
	got    int64
	why    string // it can't be had,
	here   bool   // for a reason of this node's
	over   bool   // its errand is: nobody wants it
}

const (
	fetchesAtOnce = 4         // values that are under way
	pullSize      = 4 << 20   // bytes that are asked for at once
	pullAhead     = 2         // such pieces
	partSize      = 256 << 10 // bytes that go in one message
)

// fetch begins to bring a value.
func (d *desk) fetch(e *work.Effect) {
	f := &fetch{errand: d.errandBy(e.Process), object: e.Object, size: int64(e.Key)}
	switch {
	case f.errand == nil:
		return // it is over, and the core is told so
	case d.store == nil:
		f.why, f.here = "there is no memory here that processes share", true
	case f.size <= 0:
		f.why = fmt.Sprintf("its size is said to be %d", e.Key)
	}
	d.fetches = append(d.fetches, f)
	d.stir() // this turn may have looked at them
}

// settleFetches takes each fetch as far as it goes now.
func (d *desk) settleFetches(ctx context.Context) {
	if len(d.fetches) == 0 {
		return
	}
	if f := d.askingFetch(); f != nil && f.over {
		d.store.do(d.store.store.Withdraw(d.l.now(), objstore.Agent, nil))
	}
	running, asking := 0, false
	for _, f := range d.fetches {
		if f.wanted {
			running++
			asking = asking || f.lent.Slab == 0 && f.why == ""
		}
	}
	for _, f := range slices.Clone(d.fetches) {
		if !f.wanted && f.why == "" && !f.over && !asking && running < fetchesAtOnce { // answers to several would not say whose they are
			f.wanted = true
			running++
			out, err := d.store.store.Lend(d.l.now(), objstore.Agent, f.size, nil)
			if err != nil {
				f.why, f.here = err.Error(), true
			}
			d.store.do(out, nil)
			asking = f.lent.Slab == 0 && f.why == ""
		}
		for f.lent.Slab != 0 && f.why == "" && !f.over && f.asked < f.size && f.asked-f.got <= (pullAhead-1)*pullSize {
			n := min(pullSize, f.size-f.asked)
			d.tellPeer(ctx, f.errand.peer, &fb.PullT{Errand: f.errand.number, Back: f.errand.back,
				Task: taskT(f.object.Task), Index: f.object.Index, Offset: uint64(f.asked), Size: uint64(n)}, nil)
			f.asked += n
		}
	}
	before := len(d.fetches)
	d.fetches = slices.DeleteFunc(d.fetches, func(f *fetch) bool {
		waits := f.wanted && f.lent.Slab == 0 && f.why == ""
		done := f.lent.Slab != 0 && f.got == f.size
		if waits || !done && f.why == "" && !f.over {
			return false
		}
		d.fetched(f, done)
		return true
	})
	if n := len(d.fetches); n > 0 && n < before { // there is room for the next one
		d.stir()
	}
}

// fetched ends a fetch, and tells the core.
func (d *desk) fetched(f *fetch, done bool) {
	s, now := d.store, d.l.now()
	ev := work.Fetched{Process: f.errand.process, Object: f.object, Why: f.why, Here: f.here}
	if done && f.why == "" && !f.over {
		err := s.store.Seal(now, objstore.Agent, objstore.Sealed{Object: f.object, Slab: f.lent.Slab, Offset: f.lent.From, Size: f.size, Job: f.errand.jobNumber()})
		if err != nil {
			f.why = err.Error()
			ev.Why, ev.Here = f.why, true
		} else {
			info, _ := s.store.Lookup(f.object)
			ev.Arena, ev.Offset = info.Location.Arena, info.Location.Offset
			s.do(s.store.Undeliver(now, objstore.Agent, f.object, 1, nil))
		}
	}
	if f.lent.Slab != 0 {
		d.leaveSlab(f)
	}
	if !f.over {
		d.brings(ev)
	}
}

// leaveSlab gives back what of a slab nothing was sealed in, and the slab with its last writer.
func (d *desk) leaveSlab(f *fetch) {
	s, now, slab := d.store, d.l.now(), f.lent.Slab
	if d.fetchSlab[slab]--; d.fetchSlab[slab] == 0 {
		delete(d.fetchSlab, slab)
		s.do(s.store.Return(now, objstore.Agent, slab, nil))
		return
	}
	if f.got < f.size || f.why != "" || f.over {
		out, _ := s.store.Forgo(now, objstore.Agent, slab, f.lent.From, f.size, nil)
		s.do(out, nil)
	}
}

// fetchLent: there is memory for the value that waits for it.
func (d *desk) fetchLent(e objstore.Lent) {
	f := d.askingFetch()
	if f == nil {
		return
	}
	f.lent = e
	d.stir() // settleFetches may have been before it in this turn
	d.fetchSlab[e.Slab]++
	if used := e.From + (f.size+objstore.Align-1)/objstore.Align*objstore.Align; used < e.To {
		d.store.do(d.store.store.Forgo(d.l.now(), objstore.Agent, e.Slab, used, e.To-used, nil))
	}
}

func (d *desk) fetchRefused(e objstore.Refused) {
	if f := d.askingFetch(); f != nil {
		f.why, f.here = d.store.named(e.Err.Error()), true
		d.stir()
	}
}

// askingFetch gives the value that waits for memory; nil: none does.
func (d *desk) askingFetch() *fetch {
	for _, f := range d.fetches {
		if f.wanted && f.lent.Slab == 0 && f.why == "" {
			return f
		}
	}
	return nil
}

// partCame writes what came of a value.
func (d *desk) partCame(e *errand, m *fb.PartT, part []byte) {
	name := id.Object{Task: taskOf(m.Task), Index: m.Index}
	i := slices.IndexFunc(d.fetches, func(f *fetch) bool { return f.errand == e && f.object == name && f.lent.Slab != 0 })
	if i < 0 {
		return
	}
	f := d.fetches[i]
	switch {
	case m.Error != "" && int64(m.Offset) != f.got:
		// of a fetch before this one
	case m.Error != "":
		f.why = m.Error
	case int64(m.Offset) != f.got || int64(len(part)) > f.asked-f.got:
		f.why = fmt.Sprintf("its bytes came as %d at %d, where %d to %d were next", len(part), m.Offset, f.got, f.asked)
	default:
		if err := d.store.memory.Write(f.lent.Arena, f.lent.Start+f.lent.From+f.got, part); err != nil {
			f.why, f.here = err.Error(), true
		}
		f.got += int64(len(part))
	}
}

// pulled sends another agent a piece of a value.
func (d *desk) pulled(ctx context.Context, e *errand, m *fb.PullT) {
	part := fb.PartT{Errand: e.number, Back: e.back, Task: m.Task, Index: m.Index, Offset: m.Offset}
	send := func(piece []byte, err error) {
		if err != nil {
			part.Error = "node " + d.node + ": " + err.Error()
			d.tellPeer(ctx, e.peer, &part, nil)
			return
		}
		for len(piece) > 0 {
			n, next := min(partSize, len(piece)), part
			d.tellPeer(ctx, e.peer, &next, piece[:n:n])
			part.Offset += uint64(n)
			piece = piece[n:]
		}
	}
	if d.store == nil {
		send(nil, errors.New("it has no memory for values"))
		return
	}
	if m.Size > pullSize { // an agent asks for no more
		send(nil, fmt.Errorf("%d bytes were asked for at once", m.Size))
		return
	}
	d.store.part(id.Object{Task: taskOf(m.Task), Index: m.Index}, m.Offset, m.Size, send)
}

// endFetches: an errand is over.
func (d *desk) endFetches(e *errand) {
	for _, f := range d.fetches {
		f.over = f.over || f.errand == e
	}
}
