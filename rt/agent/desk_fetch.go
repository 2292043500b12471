package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/pull"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// fetch is a value of another node on its way into this one's memory. First it waits for room there; how it comes the core of
// pulls decides. What is under way is bounded.
type fetch struct {
	errand  *errand
	object  id.Object
	size    int64
	part    *work.Part    // which it is,
	from    uint32        // of what this agent has; nil: all of a value
	number  uint64        // in the core of pulls; 0: it has not begun
	wanted  bool          // memory was asked for
	lent    objstore.Lent // Slab 0: not yet
	into    []byte
	why     string // it can't be had,
	here    bool   // for a reason of this node's,
	anew    bool   // but that another value of its name came
	version uint32
	over    bool // its errand is: nobody wants it
	dropped bool // the core of pulls knows that
	got     bool // nothing is written any more
	told    bool // its end
	sealed  bool
	serving int // pieces of it that go to other agents
	urgency work.Urgency
}

const (
	fetchesAtOnce = 4         // values that are under way, whatever their size, of one urgency and those above it,
	fetchesMost   = 64        // and so many if they are small
	fetchBytes    = 64 << 20  // all together
	pullSize      = 4 << 20   // bytes of a package that are asked for at once
	partSize      = 256 << 10 // bytes of it that go in one message
)

// fetch begins to bring a value.
func (d *desk) fetch(e *work.Effect) {
	f := &fetch{errand: d.errandBy(e.Process), object: e.Object, size: int64(e.Key), urgency: e.Urgency}
	switch {
	case f.errand == nil:
		return // it is over, and the core is told so
	case d.store == nil:
		f.why, f.here = "there is no memory here that processes share", true
	case f.size <= 0:
		f.why = fmt.Sprintf("its size is said to be %d", e.Key)
	}
	if d.store != nil { // what stays of that name may be another value
		d.store.letGoOf(func(k kept) bool { return k.object == e.Object })
	}
	if f.why != "" {
		d.fetches = append(d.fetches, f)
	} else {
		d.lineUp(f)
	}
	d.stir() // this turn may have looked at them
}

// lineUp puts a fetch behind those that are as urgent.
func (d *desk) lineUp(f *fetch) { d.lined = slices.Insert(d.lined, d.lineOf(f.urgency+1), f) }

// lineOf is where those begin that are so urgent, or less.
func (d *desk) lineOf(u work.Urgency) int {
	i, _ := slices.BinarySearchFunc(d.lined, u, func(x *fetch, u work.Urgency) int { return cmp.Compare(x.urgency, u) })
	return i
}

// hasten has a value come before those that are less urgent.
func (d *desk) hasten(ctx context.Context, e *work.Effect) {
	is := func(f *fetch) bool {
		return f.object == e.Object && f.errand != nil && f.errand.process == e.Process && !f.over && !f.told
	}
	less := d.lineOf(e.Urgency + 1) // where it is, if it is in line
	if i := slices.IndexFunc(d.lined[less:], is); i >= 0 {
		i += less
		f := d.lined[i]
		d.lined = slices.Delete(d.lined, i, i+1)
		f.urgency = e.Urgency
		d.lineUp(f)
		d.stir()
	} else if i := slices.IndexFunc(d.fetches, is); i >= 0 {
		f := d.fetches[i]
		f.urgency = e.Urgency
		if f.number != 0 && !f.got {
			d.pulls(ctx, pull.Hasten{Fetch: f.number, Urgency: int(e.Urgency)})
		}
	}
}

// underWay is how much is, for each urgency of what is as urgent or more: what is not does not keep it waiting.
type underWay [work.Unasked + 1]struct {
	values int
	bytes  int64
}

func (u *underWay) add(f *fetch, sign int) {
	for i := f.urgency; i <= work.Unasked; i++ {
		u[i].values += sign
		u[i].bytes += int64(sign) * f.size
	}
}

func (u *underWay) room(f *fetch) bool {
	x := u[f.urgency]
	return x.values < fetchesAtOnce || x.values < fetchesMost && x.bytes+f.size <= fetchBytes
}

// settleFetches takes each fetch as far as it goes now. Of those that wait in line it looks at some of each urgency only, as there may be thousands.
func (d *desk) settleFetches(ctx context.Context) {
	if len(d.fetches)+len(d.lined) == 0 {
		return
	}
	if d.asking != nil && d.asking.over {
		d.withdraw()
	}
	var under underWay
	for _, f := range d.fetches {
		if f.wanted && !f.told {
			under.add(f, 1)
		}
	}
	for u := work.Urgency(0); u <= work.Unasked && (d.asking == nil || d.asking.urgency > u); u++ {
		d.askFor(u, &under)
	}
	for _, f := range d.fetches {
		if f.lent.Slab != 0 && f.number == 0 && f.why == "" && !f.over {
			d.beginFetch(ctx, f)
		}
		if f.over && f.number != 0 && !f.got && !f.dropped {
			f.dropped = true
			d.pulls(ctx, pull.Drop{Fetch: f.number})
		}
	}
	before := len(d.fetches)
	d.fetches = slices.DeleteFunc(d.fetches, func(f *fetch) bool {
		waits := f.wanted && f.lent.Slab == 0 && f.why == ""
		if waits || f.number != 0 && !f.got || f.number == 0 && f.why == "" && !f.over {
			return false
		}
		if !f.told && f.why == "" && !f.over {
			d.store.letGoOf(func(k kept) bool { return k.object == f.object }) // of a fetch before this one, which nobody wanted
		}
		if !f.told && f.why == "" && !f.over && d.store.store.Holds(objstore.Agent, f.object) {
			return false // a copy that was freed is still being given to another agent: the name is free when that is over
		}
		d.fetched(f)
		return f.serving == 0
	})
	if n := len(d.fetches); n < before && n+len(d.lined) > 0 { // there is room for the next one
		d.stir()
	}
}

// askFor asks for memory for those that are so urgent and for which there is room under way. Answers to several would not say whose they are, so
// one that is less urgent and waits for its own steps back.
func (d *desk) askFor(u work.Urgency, under *underWay) {
	i := d.lineOf(u)
	for looked := 0; looked < fetchesMost && i < len(d.lined) && d.lined[i].urgency == u; looked++ {
		f := d.lined[i]
		if !under.room(f) {
			i++
			continue
		}
		d.lined = slices.Delete(d.lined, i, i+1)
		if d.asking != nil {
			under.add(d.asking, -1)
			d.withdraw()
		}
		d.fetches, d.asking, f.wanted = append(d.fetches, f), f, true
		under.add(f, 1)
		out, err := d.store.store.Lend(d.l.now(), objstore.Agent, f.size, nil)
		if err != nil {
			d.asking, f.why, f.here = nil, err.Error(), true
		}
		if d.store.do(out, nil); d.asking != nil {
			return
		}
	}
}

// withdraw has the value that waits for memory not wait for it: it is the next in its line, or nobody wants it any more.
func (d *desk) withdraw() {
	f := d.asking
	d.asking, f.wanted = nil, false // first: the answer is for nobody
	d.store.do(d.store.store.Withdraw(d.l.now(), objstore.Agent, nil))
	if !f.over {
		d.fetches = slices.DeleteFunc(d.fetches, func(x *fetch) bool { return x == f })
		d.lined = slices.Insert(d.lined, d.lineOf(f.urgency), f)
	}
}

// beginFetch has a value come for which there is room.
func (d *desk) beginFetch(ctx context.Context, f *fetch) {
	into, err := d.store.memory.Writable(f.lent.Arena, f.lent.Start+f.lent.From, f.size)
	if err != nil {
		f.why, f.here = err.Error(), true
		return
	}
	f.into, f.number = into, d.store.bulk.number()
	w := pull.Want{Fetch: f.number, Object: f.object, Size: f.size, Owner: f.errand.peer, Urgency: int(f.urgency)}
	if f.part != nil {
		w.Object, w.Offset, w.Version, w.Owner, w.Part = f.part.Of, f.part.Offset, f.part.Version, f.from, true
	}
	d.pulls(ctx, w)
}

// fetchBy gives a fetch by its number in the core of pulls.
func (d *desk) fetchBy(number uint64) *fetch {
	for _, f := range d.fetches {
		if f.number == number {
			return f
		}
	}
	return nil
}

// fetchGot: the core of pulls is done with a fetch.
func (d *desk) fetchGot(e pull.Got) {
	f := d.fetchBy(e.Fetch)
	f.got, f.version = true, e.Version
	if f.why == "" {
		f.why, f.here, f.anew = e.Why, e.Here, e.Anew
	}
	d.stir() // settleFetches may have been before it in this turn
}

// fetched ends a fetch, and tells the core. Its memory is not given back while other agents get pieces from there.
func (d *desk) fetched(f *fetch) {
	s := d.store
	if !f.told {
		f.told = true
		ev := work.Fetched{Process: f.errand.process, Object: f.object, Why: f.why, Here: f.here, Anew: f.anew, Size: uint64(f.size)}
		if f.got && f.why == "" && !f.over {
			err := s.store.Seal(d.l.now(), objstore.Agent, objstore.Sealed{Object: f.object, Slab: f.lent.Slab, Offset: f.lent.From, Size: f.size, Job: f.errand.jobNumber(), Version: f.ofVersion()})
			if err != nil {
				f.why = err.Error()
				ev.Why, ev.Here = f.why, true
			} else {
				f.sealed = true
				if f.size >= keepLarge && f.part == nil {
					s.copies[f.object] = true
				}
				info, _ := s.store.Lookup(f.object)
				ev.Arena, ev.Offset = info.Location.Arena, info.Location.Offset
			}
		}
		if !f.over {
			d.brings(ev)
		}
	}
	if f.serving > 0 {
		return
	}
	if f.sealed {
		s.landed = append(s.landed, f.object) // the core says whether it is a copy
	}
	if f.lent.Slab != 0 {
		d.leaveSlab(f)
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
	if !f.sealed {
		out, _ := s.store.Forgo(now, objstore.Agent, slab, f.lent.From, f.size, nil)
		s.do(out, nil)
	}
}

// fetchLent: there is memory for the value that waits for it.
func (d *desk) fetchLent(e objstore.Lent) {
	f := d.asking
	if f == nil {
		return
	}
	d.asking, f.lent = nil, e
	d.stir() // settleFetches may have been before it in this turn
	d.fetchSlab[e.Slab]++
	if used := e.From + (f.size+objstore.Align-1)/objstore.Align*objstore.Align; used < e.To {
		d.store.do(d.store.store.Forgo(d.l.now(), objstore.Agent, e.Slab, used, e.To-used, nil))
	}
}

func (d *desk) fetchRefused(e objstore.Refused) {
	if f := d.asking; f != nil {
		d.asking, f.why, f.here = nil, d.store.named(e.Err.Error()), true
		d.stir()
	}
}

// endFetchesOf ends those, wherever they are.
func (d *desk) endFetchesOf(those func(*fetch) bool) {
	for _, f := range d.lined {
		if those(f) {
			d.fetches = append(d.fetches, f)
		}
	}
	d.lined = slices.DeleteFunc(d.lined, those)
	for _, f := range d.fetches {
		f.over = f.over || those(f)
	}
}

// endFetches: an errand is over.
func (d *desk) endFetches(e *errand) {
	d.endFetchesOf(func(f *fetch) bool { return f.errand == e })
	if d.store != nil {
		b := d.store.bulk
		b.slices = slices.DeleteFunc(b.slices, func(x sliceAsk) bool { return x.errand == e })
	}
}
