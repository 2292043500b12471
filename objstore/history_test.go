package objstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func (h *history) id() id.Object {
	h.counter++
	return id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: h.counter}}
}

// pick gives any object that has its name.
func (h *history) pick() *object {
	if len(h.objects) == 0 {
		return nil
	}
	if o := h.objects[h.rng.IntN(len(h.objects))]; !o.former {
		return o
	}
	return nil
}

// again gives the name of an object that nobody refers to any more and that is pinned still, if there is one, and else a new one: a
// value that is made again has the name that it had.
func (h *history) again(p id.Process) id.Object {
	for _, o := range h.objects {
		if o.released && o.tasks == 0 && !o.former && h.views(p, o.id) == nil && h.rng.IntN(2) == 0 {
			o.former = true
			h.renamed++
			return o.id
		}
	}
	return h.id()
}

func (h *history) size() int64 {
	return 1 + h.rng.Int64N(int64(1)<<(6+h.rng.IntN(19)))
}

// step does one random thing that may happen.
func (h *history) step() {
	h.now += h.rng.Int64N(int64(50 * time.Millisecond))
	p := h.procs[h.rng.IntN(len(h.procs))]
	var err error
	switch k := h.rng.IntN(100); {
	case k < 4:
		h.lastP++
		h.procs = append(h.procs, h.lastP)
		h.do(fmt.Sprint("attach ", h.lastP), h.s.Attach(h.lastP))
	case k < 6 && p != 0:
		h.die(p)
	case k < 20:
		n := h.size()
		if len(h.asked[p]) == objstore.MaxWaiting {
			break
		}
		h.asked[p] = append(h.asked[p], n)
		h.out, err = h.s.Lend(h.now, p, n, h.out)
		h.do(fmt.Sprint("lend ", p, " ", n), err)
	case k < 21 && len(h.asked[p]) > 0:
		h.out, err = h.s.Withdraw(h.now, p, h.out)
		h.do(fmt.Sprint("withdraw ", p), err)
	case k < 45 && len(h.windows) > 0:
		h.seal(h.rng.IntN(len(h.windows)))
	case k < 50 && len(h.windows) > 0:
		h.forgo(h.rng.IntN(len(h.windows)))
	case k < 55 && len(h.slabs) > 0:
		h.giveBack()
	case k < 60:
		o, n := h.id(), h.rng.Int64N(200<<10)
		var done bool
		h.queued[o] = n
		h.out, done, err = h.s.PutInline(h.now, p, o, make([]byte, n), 0, h.out)
		if done {
			delete(h.queued, o)
			// What was evicted for it went before it came.
			out := h.out
			h.out = nil
			for _, e := range out {
				h.take(e)
			}
			h.keep(&object{id: o, size: n})
		}
		h.do(fmt.Sprint("put ", n), err)
	case k < 68:
		if o := h.pick(); o != nil {
			l, err := h.s.Deliver(p, o.id)
			if errors.Is(err, objstore.ErrExists) && h.views(p, o.id) != o {
				break
			}
			if l.Kind != objstore.InFile {
				o.views[p]++
				h.told[objstore.RecallView{Process: p, Object: o.id}]++
			}
			h.do(fmt.Sprint("deliver ", o.id, " to ", p), err)
		}
	case k < 80:
		h.undeliver(p)
	case k < 83:
		if o := h.pick(); o != nil {
			o.tasks++
			h.do(fmt.Sprint("await ", o.id), h.s.Await(o.id))
		}
	case k < 87:
		if o := h.pick(); o != nil && o.tasks > 0 {
			if o.tasks--; o.tasks == 0 {
				delete(h.loading, o.id)
			}
			h.gone(o)
			h.out, err = h.s.Unawait(h.now, o.id, h.out)
			h.do(fmt.Sprint("unawait ", o.id), err)
		}
	case k < 93:
		if o := h.pick(); o != nil && !o.released {
			o.released = true
			h.gone(o)
			h.out, err = h.s.Release(h.now, o.id, h.out)
			h.do(fmt.Sprint("release ", o.id), err)
		}
	case k < 94:
		if o := h.pick(); o != nil && h.rng.IntN(2) == 0 {
			rests := o.arena != 0 && o.file == 0 && !o.writing && !o.released
			o.secondary = o.secondary || rests
			h.demoted += btoi(rests)
			var done bool
			if h.out, done = h.s.Demote(h.now, o.id, h.rng.IntN(2) == 0, h.out); done != rests {
				h.fatalf("%v was demoted: %v", o, done)
			}
			h.do(fmt.Sprint("demote ", o.id), nil)
		} else if o != nil {
			o.secondary = false
			h.do(fmt.Sprint("promote ", o.id), h.s.Promote(h.now, o.id))
		}
	case k < 96 && len(h.grows) > 0:
		h.grown(h.rng.IntN(5) > 0)
	case k < 98:
		a, n := objstore.Specs+objstore.Account(h.rng.IntN(3)), h.rng.Int64N(2<<20)
		if h.charged[a] > 4<<20 {
			n = -h.rng.Int64N(h.charged[a])
			h.charged[a] += n
			h.out, err = h.s.Refund(h.now, a, -n, h.out)
		} else if h.out, err = h.s.Charge(h.now, a, n, h.out); err == nil {
			h.charged[a] += n
		}
		var full *objstore.FullError
		if errors.As(err, &full) {
			err = nil
		}
		h.do(fmt.Sprint("charge ", a, " ", n), err)
	case k < 99 && h.rng.IntN(4) == 0:
		h.out = h.s.Shed(h.now, h.out)
		h.do("shed", nil)
	case k < 99:
		if n := h.rng.Int64N(8<<20) - 4<<20; n < 2<<20 {
			h.out = h.s.Bound(h.now, n, h.out)
		} else {
			h.out = h.s.Unbound(h.now, h.out)
		}
		h.do("bound", nil)
	default:
		h.out = h.s.Tick(h.now, h.out)
		h.do("tick", nil)
		if d := h.s.NextDeadline(); d != 0 && d <= h.now {
			h.fatalf("a tick at %d is due at %d", h.now, d)
		}
	}
}

func (h *history) grown(ok bool) {
	g := h.grows[0]
	h.grows = h.grows[1:]
	var err error
	if ok {
		h.out, err = h.s.Grown(h.now, g.Arena, h.out)
	} else {
		delete(h.arenas, g.Arena)
		cause := errors.New("no memory")
		if h.rng.IntN(2) == 0 {
			cause = objstore.ErrShort
		}
		h.out, err = h.s.GrowFailed(h.now, g.Arena, cause, h.out)
	}
	h.do(fmt.Sprint("grown ", g.Arena, " ", ok), err)
}

func (h *history) seal(i int) {
	w := h.windows[i]
	room := w.to - w.from
	n := min(h.size(), room)
	off := h.rng.Int64N((room-n)/objstore.Align+1) * objstore.Align
	if h.rng.IntN(3) > 0 {
		off = 0
	}
	o := &object{id: h.again(w.p), arena: w.arena, size: n, secondary: h.rng.IntN(3) == 0, job: uint32(h.rng.IntN(3))}
	o.at = extent{w.from + off, w.from + off + (n+objstore.Align-1)/objstore.Align*objstore.Align}
	err := h.s.Seal(h.now, w.p, objstore.Sealed{Object: o.id, Slab: w.slab, Offset: o.at.from - w.start, Size: n, Secondary: o.secondary, Job: o.job})
	h.keep(o)
	o.views[w.p] = 1
	delete(h.told, objstore.RecallView{Process: w.p, Object: o.id}) // what it said was of what had the name before
	h.cut(i, o.at)
	h.do(fmt.Sprintf("seal %v of %d at %d of slab %d", o.id, n, o.at.from-w.start, w.slab), err)
}

// cut takes e from window i.
func (h *history) cut(i int, e extent) {
	w := h.windows[i]
	h.windows = slices.Delete(h.windows, i, i+1)
	for _, rest := range []extent{{w.from, e.from}, {e.to, w.to}} {
		if rest.from < rest.to {
			part := w
			part.extent = rest
			h.windows = append(h.windows, part)
		}
	}
}

func (h *history) forgo(i int) {
	w := h.windows[i]
	e := w.extent
	if h.rng.IntN(2) == 0 {
		e.from += h.rng.Int64N((e.to-e.from)/objstore.Align) * objstore.Align
	}
	h.cut(i, e)
	var err error
	h.out, err = h.s.Forgo(h.now, w.p, w.slab, e.from-w.start, e.to-e.from, h.out)
	h.do(fmt.Sprintf("forgo %+v", e), err)
}

// giveBack returns a slab, one that was recalled if there is any.
func (h *history) giveBack() {
	var number uint64
	if len(h.recalls) > 0 {
		number = h.recalls[0]
	} else {
		for n := range h.slabs {
			if number == 0 || n < number {
				number = n
			}
		}
	}
	sl := h.slabs[number]
	h.unmap(number)
	var err error
	h.out, err = h.s.Return(h.now, sl.p, number, h.out)
	h.do(fmt.Sprint("return slab ", number), err)
}

func (h *history) unmap(number uint64) {
	delete(h.slabs, number)
	h.recalls = slices.DeleteFunc(h.recalls, func(n uint64) bool { return n == number })
	h.windows = slices.DeleteFunc(h.windows, func(w window) bool { return w.slab == number })
}

// views gives the object of a name that a process looks at; nil: none.
func (h *history) views(p id.Process, name id.Object) *object {
	for _, o := range h.objects {
		if o.id == name && o.views[p] > 0 {
			return o
		}
	}
	return nil
}

func (h *history) undeliver(p id.Process) {
	o := h.pick()
	if o == nil || o.views[p] == 0 {
		return
	}
	n := 1 + uint32(h.rng.IntN(int(o.views[p])))
	h.told[objstore.RecallView{Process: p, Object: o.id}]++ // an answer to what was asked
	if o.views[p] -= n; o.views[p] == 0 {
		delete(o.views, p)
	}
	h.gone(o)
	var err error
	h.out, err = h.s.Undeliver(h.now, p, o.id, n, h.out)
	h.do(fmt.Sprintf("%d undelivers %v", p, o.id), err)
}

// die: verifies OBJ-5.
func (h *history) die(p id.Process) {
	h.procs = slices.DeleteFunc(h.procs, func(q id.Process) bool { return p == q })
	delete(h.asked, p)
	for number, sl := range h.slabs {
		if sl.p == p {
			h.unmap(number)
		}
	}
	for _, o := range slices.Clone(h.objects) {
		if o.views[p] > 0 {
			delete(o.views, p)
			h.gone(o)
		}
	}
	var err error
	h.out, err = h.s.Died(h.now, p, h.out)
	h.do(fmt.Sprint("died ", p), err)
}

// end lets everything go, and looks at what is left.
func (h *history) end() {
	for len(h.procs) > 1 {
		h.die(h.procs[1])
	}
	h.now += int64(2 * time.Second)
	for i := 0; len(h.grows) > 0; i++ {
		if h.grown(true); i > 1000 {
			h.fatalf("arenas without end")
		}
	}
	h.out = h.s.Tick(h.now, h.out)
	h.do("tick", nil)
	for len(h.slabs) > 0 {
		h.giveBack()
	}
	var err error
	h.endSpill()
	for len(h.objects) > 0 {
		o := h.objects[0]
		for o.tasks > 0 {
			o.tasks--
			h.gone(o)
			h.out, err = h.s.Unawait(h.now, o.id, h.out)
			h.do("unawait", err)
		}
		if n := o.views[0]; n > 0 {
			delete(o.views, 0)
			h.gone(o)
			h.out, err = h.s.Undeliver(h.now, 0, o.id, n, h.out)
			h.do("undeliver", err)
		}
		if !o.released && slices.Contains(h.objects, o) {
			o.released = true
			h.gone(o)
			h.out, err = h.s.Release(h.now, o.id, h.out)
			h.do("release", err)
		}
	}
	for a := range h.charged {
		if n := h.charged[a]; n > 0 {
			h.charged[a] = 0
			h.out, err = h.s.Refund(h.now, objstore.Account(a), n, h.out)
			h.do("refund", err)
		}
	}
	h.now += int64(3 * time.Second)
	h.out = h.s.Tick(h.now, h.out)
	h.do("tick", nil)
	if len(h.queued) > 0 {
		h.fatalf("%d puts were forgotten", len(h.queued))
	}
	for p, q := range h.asked {
		if len(q) > 0 {
			h.fatalf("requests of %d were forgotten: %v", p, q)
		}
	}
	if len(h.files) > 0 {
		h.fatalf("files are left: %v", h.files)
	}
	if h.s.Total() != 0 || len(h.arenas) > 0 || h.s.NextDeadline() != 0 {
		h.fatalf("%d bytes are left in %d arenas: %s", h.s.Total(), len(h.arenas), h.s.Explain().Text())
	}
}

// Verifies OBJ-1, OBJ-2, OBJ-3, OBJ-4, OBJ-5, OBJ-6 and OBJ-8 on random histories.
func TestHistories(t *testing.T) {
	seeds, steps := 150, 400
	if testing.Short() {
		seeds = 15
	}
	var refused, evicted, renamed, spares, hurries, punches, demoted int
	var moved spillCounts
	for seed := range uint64(max(seeds, *manySeeds)) {
		run := func() *history {
			h := newHistory(t, seed)
			for range steps {
				h.step()
				if h.rng.IntN(2) == 0 {
					h.stepSpill()
				}
			}
			h.end()
			return h
		}
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			h := run()
			refused += h.refused
			evicted += h.evicted
			renamed += h.renamed
			spares += h.spares
			punches += h.punches
			demoted += h.demoted
			hurries += h.hurries
			moved.add(h.counts)
			if seed%10 == 0 {
				if again := run(); !slices.Equal(h.log, again.log) {
					t.Error("the same history went another way")
				}
			}
		})
	}
	if spares == 0 || hurries == 0 || hurries == spares {
		t.Errorf("%d spare arenas, %d of them waited for", spares, hurries)
	}
	if demoted == 0 {
		t.Error("nothing was demoted")
	}
	if punches == 0 {
		t.Error("no memory was gathered from pieces")
	}
	if refused == 0 || evicted == 0 || renamed == 0 {
		t.Errorf("%d refusals, %d evictions, %d values made again: the histories don't reach the ends of memory", refused, evicted, renamed)
	}
	if moved.spilled == 0 || moved.failed == 0 || moved.restored == 0 || moved.lost == 0 || moved.full == 0 || moved.kept == 0 {
		t.Errorf("%+v: the histories don't reach all that may become of what is spilled", moved)
	}
}
