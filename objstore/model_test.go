package objstore_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// The model knows nothing of spans and bins: for each range that the store hands out it writes down who has
// it, byte range by byte range, and compares.

type extent struct{ from, to int64 }

func (e extent) meets(o extent) bool { return e.from < o.to && o.from < e.to }

// window is what a process may write.
type window struct {
	extent
	slab  uint64
	start int64 // of the slab, in the arena
	arena uint64
	size  int64 // of the slab
	p     id.Process
}

type mapped struct {
	extent
	p     id.Process
	arena uint64
}

type object struct {
	id        id.Object
	arena     uint64 // 0: inline
	at        extent
	size      int64
	secondary bool
	released  bool
	tasks     int
	views     map[id.Process]uint32
	job       uint32
	file      uint64 // 0: none
	writing   bool   // to one
	reading   bool   // from it
	former    bool   // its name has another value by now
}

type history struct {
	t        *testing.T
	rng      *rand.Rand
	s        *objstore.Store
	now      int64
	out      []objstore.Effect
	log      []string // every effect, for OBJ-8
	budget   int64
	arenas   map[uint64]int64
	grows    []objstore.Grow
	windows  []window
	slabs    map[uint64]mapped
	recalls  []uint64
	procs    []id.Process
	lastP    id.Process
	objects  []*object
	queued   map[id.Object]int64 // inline, waiting
	asked    map[id.Process][]int64
	voids    map[uint64][]extent // of arenas, what was given back
	punches  int
	spares   int
	demoted  int
	hurries  int
	counter  uint64
	charged  [5]int64
	inline   int64
	refused  int
	evicted  int
	renamed  int
	spills   []objstore.Spill
	reads    []objstore.Restore
	recalled []objstore.RecallView
	told     map[objstore.RecallView]int // deliveries since it answered; absent: it has not
	loaded   []id.Object                 // that Load keeps
	files    map[uint64]int              // objects in each, or to be
	loading  map[id.Object]bool
	counts   spillCounts
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 4)), budget: 32 << 20, voids: map[uint64][]extent{}, arenas: map[uint64]int64{},
		slabs: map[uint64]mapped{}, files: map[uint64]int{}, told: map[objstore.RecallView]int{}, loading: map[id.Object]bool{}, queued: map[id.Object]int64{}, asked: map[id.Process][]int64{}, procs: []id.Process{objstore.Agent}}
	spill := []int64{0, 8 << 20, 1 << 40}[seed%3]
	h.s = objstore.New(objstore.Config{Budget: h.budget, FirstArena: 1 << 20, MaxArena: 8 << 20,
		Patience: time.Second, KeepWarm: 3 * time.Second, Ahead: seed%2 == 0, Spill: spill, Batch: 2 << 20, Writers: 2})
	return h
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	if n := len(h.log); n > 40 {
		h.log = h.log[n-40:]
	}
	h.t.Fatalf("%s\nlast:\n%s", fmt.Sprintf(format, args...), strings.Join(h.log, "\n"))
}

func (h *history) do(what string, err error) {
	h.t.Helper()
	h.log = append(h.log, what)
	if err != nil {
		h.fatalf("%s: %v", what, err)
	}
	for len(h.out) > 0 {
		e := h.out[0]
		h.out = h.out[1:]
		h.log = append(h.log, fmt.Sprintf("  %T%+v", e, e))
		h.take(e)
	}
	h.check()
}

func (h *history) take(e objstore.Effect) {
	switch e := e.(type) {
	case objstore.Grow:
		h.grows = append(h.grows, e)
		h.arenas[e.Arena] = e.Size
		h.spares += btoi(e.Spare)
	case objstore.Hurry:
		i := slices.IndexFunc(h.grows, func(g objstore.Grow) bool { return g.Arena == e.Arena && g.Spare })
		if i < 0 {
			h.fatalf("hurry for arena %d, which is no spare one that is being made", e.Arena)
		}
		h.grows[i].Spare = false
		h.hurries++
	case objstore.Drop:
		for _, sl := range h.slabs {
			if sl.arena == e.Arena {
				h.fatalf("arena %d dropped with a slab in it", e.Arena)
			}
		}
		for _, o := range h.objects {
			if o.arena == e.Arena && !h.leaves(o) {
				h.fatalf("arena %d dropped with %v in it", e.Arena, o.id)
			}
		}
		delete(h.arenas, e.Arena)
		delete(h.voids, e.Arena)
	case objstore.Punch:
		h.punch(e)
	case objstore.Lent:
		h.lent(e)
	case objstore.Refused:
		h.refused++
		if e.Object != (id.Object{}) {
			if _, ok := h.queued[e.Object]; !ok {
				h.fatalf("refused %v, which nobody put", e.Object)
			}
			delete(h.queued, e.Object)
			break
		}
		if q := h.asked[e.Process]; len(q) == 0 || !slices.Contains(q, e.Err.Size) {
			h.fatalf("refused %d bytes to %d, which did not ask", e.Err.Size, e.Process)
		} else {
			h.asked[e.Process] = slices.Delete(q, slices.Index(q, e.Err.Size), slices.Index(q, e.Err.Size)+1)
		}
		if !strings.Contains(e.Err.Error(), "arenas") && !e.Err.Withdrawn {
			h.fatalf("the refusal does not say who holds what: %v", e.Err)
		}
	case objstore.Stored:
		size, ok := h.queued[e.Object]
		if !ok {
			h.fatalf("stored %v, which does not wait", e.Object)
		}
		delete(h.queued, e.Object)
		h.keep(&object{id: e.Object, size: size})
	case objstore.Recall:
		sl, ok := h.slabs[e.Slab]
		if !ok || sl.p != e.Process || slices.Contains(h.recalls, e.Slab) {
			h.fatalf("recall of slab %d, which %d has not", e.Slab, e.Process)
		}
		h.recalls = append(h.recalls, e.Slab)
	case objstore.Spill, objstore.Restore, objstore.RecallView, objstore.Loaded, objstore.Unlink:
		h.takeSpill(e)
	case objstore.Evicted:
		i := h.index(e.Object)
		if o := h.objects[i]; !o.secondary || len(o.views) > 0 || o.tasks > 0 {
			h.fatalf("evicted %v, which is primary or pinned", e.Object)
		}
		h.evicted++
		h.forget(i)
	}
}

// lent: verifies OBJ-3, OBJ-4 and OBJ-6.
func (h *history) lent(e objstore.Lent) {
	q := h.asked[e.Process]
	if len(q) == 0 || e.To-e.From < q[0] {
		h.fatalf("lent [%d, %d) to %d, which asked for %v", e.From, e.To, e.Process, q)
	}
	h.asked[e.Process] = q[1:]
	if h.void(e.Arena, extent{e.Start + e.From, e.Start + e.To}) {
		h.fatalf("lent what has no memory behind it: %+v", e)
	}
	all := mapped{extent{e.Start, e.Start + e.Size}, e.Process, e.Arena}
	if size, ok := h.arenas[e.Arena]; !ok || all.to > size || e.Start%objstore.Grain != 0 || e.Size%objstore.Grain != 0 || e.From < 0 || e.To > e.Size {
		h.fatalf("a slab that is not in its arena: %+v", e)
	}
	if e.New {
		for number, sl := range h.slabs {
			if sl.arena == e.Arena && sl.meets(all.extent) {
				h.fatalf("slab %d lies on slab %d", e.Slab, number)
			}
		}
		h.slabs[e.Slab] = all
	} else if h.slabs[e.Slab] != all || slices.Contains(h.recalls, e.Slab) {
		h.fatalf("slab %d is %+v, not %+v, or was recalled", e.Slab, h.slabs[e.Slab], all)
	}
	w := window{extent{e.Start + e.From, e.Start + e.To}, e.Slab, e.Start, e.Arena, e.Size, e.Process}
	for _, o := range h.windows {
		if o.arena == w.arena && o.meets(w.extent) {
			h.fatalf("%+v is open to %d already", w, o.p)
		}
	}
	for _, o := range h.objects {
		if o.arena == w.arena && o.at.meets(w.extent) && !h.leaves(o) {
			h.fatalf("%+v holds %v", w, o.id)
		}
	}
	h.windows = append(h.windows, w)
}

func (h *history) keep(o *object) {
	o.views = map[id.Process]uint32{}
	h.objects = append(h.objects, o)
	if o.arena == 0 && o.file == 0 {
		h.inline += o.size + objstore.InlineCost
	}
}

func (h *history) index(x id.Object) int {
	i := slices.IndexFunc(h.objects, func(o *object) bool { return o.id == x && !o.former })
	if i < 0 {
		h.fatalf("no object %v", x)
	}
	return i
}

func (h *history) forget(i int) {
	if o := h.objects[i]; o.arena == 0 && o.file == 0 {
		h.inline -= o.size + objstore.InlineCost
	}
	if f := h.objects[i].file; f != 0 {
		h.files[f]--
	}
	h.objects = slices.Delete(h.objects, i, i+1)
}

// gone forgets an object that nothing keeps.
func (h *history) gone(o *object) {
	if o.released && len(o.views) == 0 && o.tasks == 0 && !o.writing && !o.reading {
		h.forget(slices.Index(h.objects, o))
	}
}

// check: verifies OBJ-1 and OBJ-2.
func (h *history) check() {
	h.t.Helper()
	if err := h.s.Check(); err != nil {
		h.fatalf("%v", err)
	}
	var arenas int64
	for a, n := range h.arenas {
		arenas += n
		for _, v := range h.voids[a] {
			arenas -= v.to - v.from
		}
	}
	want := h.charged
	want[objstore.Arenas], want[objstore.Inline] = arenas, h.inline
	total := int64(0)
	for a, n := range want {
		total += n
		if got := h.s.Used(objstore.Account(a)); got != n {
			h.fatalf("%s has %d, not %d", objstore.Account(a), got, n)
		}
	}
	if h.s.Total() != total || total > h.budget {
		h.fatalf("total %d, not %d of %d", h.s.Total(), total, h.budget)
	}
	for _, g := range h.grows {
		for p, q := range h.asked {
			if g.Spare && len(q) > 0 {
				h.fatalf("%d waits while arena %d is made in no hurry", p, g.Arena)
			}
		}
	}
	if h.s.Objects() != len(h.objects) {
		h.fatalf("%d objects, not %d", h.s.Objects(), len(h.objects))
	}
	for _, o := range h.objects {
		if o.former {
			continue
		}
		got, ok := h.s.Lookup(o.id)
		at := objstore.Location{Kind: objstore.InMemory, Arena: o.arena, Offset: o.at.from, Size: o.size}
		if got.Location.Kind == objstore.InFile && h.leaves(o) {
			o.arena, o.at = 0, extent{} // it left memory, which is said to nobody
		}
		if o.file != 0 && (o.arena == 0 || o.reading) {
			at = objstore.Location{Kind: objstore.InFile, File: o.file, Offset: got.Location.Offset, Size: o.size}
		} else if o.arena == 0 {
			at = objstore.Location{Kind: objstore.InBytes, Value: got.Location.Value, Size: o.size}
		}
		if !ok || !reflect.DeepEqual(got.Location, at) || got.Views != len(o.views) || got.Tasks != o.tasks || got.Released != o.released || got.Secondary != o.secondary {
			h.fatalf("%v is %+v, not %+v", o.id, got, o)
		}
	}
}

// punch: what is given back is nobody's.
func (h *history) punch(e objstore.Punch) {
	x := extent{e.Offset, e.Offset + e.Size}
	if h.arenas[e.Arena] < x.to || e.Offset%objstore.Grain != 0 || e.Size%objstore.Grain != 0 || e.Size <= 0 || h.void(e.Arena, x) {
		h.fatalf("punched %+v", e)
	}
	for number, sl := range h.slabs {
		if sl.arena == e.Arena && sl.meets(x) {
			h.fatalf("punched %+v in slab %d", e, number)
		}
	}
	for _, o := range h.objects {
		if o.arena == e.Arena && o.at.meets(x) && !h.leaves(o) {
			h.fatalf("punched %+v in %v", e, o.id)
		}
	}
	h.voids[e.Arena] = append(h.voids[e.Arena], x)
	h.punches++
}

// void tells whether a part of that has no memory.
func (h *history) void(arena uint64, x extent) bool {
	return slices.ContainsFunc(h.voids[arena], x.meets)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
