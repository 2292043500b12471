package objstore_test

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
)

var manySeeds = flag.Int("seeds", 0, "histories to be run, if more than usual")

type spillCounts struct{ spilled, failed, restored, lost, full, kept int }

func (c *spillCounts) add(o spillCounts) {
	c.spilled += o.spilled
	c.failed += o.failed
	c.restored += o.restored
	c.lost += o.lost
	c.full += o.full
	c.kept += o.kept
}

// leaves tells whether an object may leave memory without a word, and notes it.
func (h *history) leaves(o *object) bool {
	if o.file == 0 || o.writing || o.reading || len(o.views) > 0 || o.tasks > 0 {
		return false
	}
	o.arena, o.at = 0, extent{}
	return true
}

// takeSpill verifies OBJ-10 and OBJ-12, and that what is spilled fits into the bound.
func (h *history) takeSpill(e objstore.Effect) {
	switch e := e.(type) {
	case objstore.Spill:
		at := int64(0)
		for _, o := range h.objects { // OBJ-9
			if o.secondary && o.arena != 0 && len(o.views)+o.tasks == 0 {
				h.fatalf("%+v is spilled, and %+v is still here", e, o)
			}
		}
		for _, part := range e.Parts {
			o := h.objects[h.index(part.Object)]
			if len(o.views) > 0 || o.tasks > 0 || o.secondary || o.released || o.file != 0 || o.writing {
				h.fatalf("%+v is spilled", o)
			}
			if part.Arena != o.arena || part.Offset != o.at.from || part.Size != o.size || part.At != at {
				h.fatalf("%+v is spilled as %+v", o, part)
			}
			o.writing = true
			at += o.at.to - o.at.from
		}
		if h.files[e.File] = len(e.Parts); len(e.Parts) == 0 {
			h.fatalf("an empty file")
		}
		h.spills = append(h.spills, e)
	case objstore.Unlink:
		if n, ok := h.files[e.File]; !ok || n != 0 {
			h.fatalf("file %d is deleted, with %d objects in it", e.File, n)
		}
		delete(h.files, e.File)
	case objstore.Restore:
		o := h.objects[h.index(e.Object)]
		to := extent{e.Offset, e.Offset + (e.Size+objstore.Align-1)/objstore.Align*objstore.Align}
		if o.file != e.File || o.arena != 0 || o.reading || !h.loading[o.id] || e.Size != o.size || to.to > h.arenas[e.Arena] || h.void(e.Arena, to) {
			h.fatalf("%+v is restored: %+v", o, e)
		}
		for _, x := range h.objects {
			if x.arena == e.Arena && x.at.meets(to) && !h.leaves(x) {
				h.fatalf("%+v is restored over %v", e, x.id)
			}
		}
		for number, sl := range h.slabs {
			if sl.arena == e.Arena && sl.meets(to) {
				h.fatalf("%+v is restored into slab %d", e, number)
			}
		}
		o.reading, o.arena, o.at = true, e.Arena, to
		h.reads = append(h.reads, e)
	case objstore.RecallView:
		o := h.views(e.Process, e.Object)
		if o == nil {
			h.fatalf("recalls %v of %d, which has it not", e.Object, e.Process)
		}
		if n, answered := h.told[e]; o.views[e.Process] == 0 || answered && n == 0 {
			h.fatalf("recalls %v of %d, which looks at it or has it not", e.Object, e.Process)
		}
		delete(h.told, e)
		if !slices.Contains(h.recalled, e) {
			h.recalled = append(h.recalled, e)
		}
	case objstore.Loaded:
		if !h.loading[e.Object] {
			h.fatalf("loaded %v, which nobody wants", e.Object)
		}
		delete(h.loading, e.Object)
		var full *objstore.FullError
		if errors.As(e.Err, &full) {
			h.counts.full++
		}
		h.loaded = append(h.loaded, e.Object)
	}
}

// stepSpill does one of the things that happen to what is spilled.
func (h *history) stepSpill() {
	switch h.rng.IntN(5 + h.rng.IntN(8)/7) {
	case 0:
		h.spilled(h.rng.IntN(4) > 0)
	case 1:
		h.restored(h.rng.IntN(8) > 0)
	case 2:
		h.answered(h.rng.IntN(3) > 0)
	case 3:
		h.unload()
	case 5:
		o := &object{id: h.id(), size: h.size()}
		number, err := h.s.Inherit(o.id, o.size, h.rng.Int64N(1<<20), uint32(h.rng.IntN(3)))
		o.file, h.files[number] = number, 1
		h.keep(o)
		h.do(fmt.Sprint("inherit ", o.id), err)
	case 4:
		o := h.pick()
		for range 20 { // rather one that is not in memory
			if o != nil && (o.file == 0 || o.arena != 0) {
				o = h.pick()
			}
		}
		if o == nil || h.loading[o.id] {
			return
		}
		o.tasks++
		h.loading[o.id] = true
		out, there, err := h.s.Load(h.now, o.id, h.out)
		if h.out = out; there {
			delete(h.loading, o.id)
			h.loaded = append(h.loaded, o.id)
		}
		h.do(fmt.Sprint("load ", o.id), err)
	}
}

func (h *history) spilled(ok bool) {
	if len(h.spills) == 0 {
		return
	}
	i := h.rng.IntN(len(h.spills))
	e := h.spills[i]
	h.spills = slices.Delete(h.spills, i, i+1)
	var err error
	if !ok {
		delete(h.files, e.File)
		h.counts.failed++
	} else {
		h.counts.spilled++
	}
	for _, part := range e.Parts {
		o := h.objects[slices.IndexFunc(h.objects, func(o *object) bool {
			return o.id == part.Object && o.writing && o.at.from == part.Offset && o.arena == part.Arena
		})]
		if o.writing = false; ok {
			o.file = e.File
		}
		h.gone(o)
	}
	if ok {
		h.out, err = h.s.Spilled(h.now, e.File, h.out)
	} else {
		h.out, err = h.s.SpillFailed(h.now, e.File, errors.New("no space left on device"), h.out)
	}
	h.do(fmt.Sprint("spilled ", e.File, " ", ok), err)
}

func (h *history) restored(ok bool) {
	if len(h.reads) == 0 {
		return
	}
	e := h.reads[0]
	h.reads = h.reads[1:]
	o := h.objects[slices.IndexFunc(h.objects, func(o *object) bool { return o.id == e.Object && o.reading && o.file == e.File })]
	var cause error
	if o.reading = false; !ok {
		cause, o.arena, o.at = errors.New("input/output error"), 0, extent{}
		h.counts.lost++
	} else {
		h.counts.restored++
	}
	h.gone(o)
	var err error
	h.out, err = h.s.Restored(h.now, e.Object, e.File, cause, h.out)
	h.do(fmt.Sprint("restored ", e.Object, " ", ok), err)
}

// answered has a process say that it looks at an object no more, or that it does.
func (h *history) answered(gone bool) {
	if len(h.recalled) == 0 {
		return
	}
	e := h.recalled[0]
	o := h.views(e.Process, e.Object)
	if o == nil {
		h.recalled = h.recalled[1:]
		return
	}
	var err error
	if !gone {
		h.counts.kept++
		h.told[e] = 0
		h.out, err = h.s.Keeps(h.now, e.Process, e.Object, h.out)
		h.do(fmt.Sprint(e.Process, " keeps ", e.Object), err)
		h.recalled = append(h.recalled[1:], e)
		return
	}
	h.recalled = h.recalled[1:]
	n := o.views[e.Process]
	delete(o.views, e.Process)
	h.gone(o)
	h.out, err = h.s.Undeliver(h.now, e.Process, e.Object, n, h.out)
	h.do(fmt.Sprint(e.Process, " leaves ", e.Object), err)
}

// unload ends what Load began.
func (h *history) unload() {
	if len(h.loaded) == 0 {
		return
	}
	name := h.loaded[0]
	h.loaded = h.loaded[1:]
	i := slices.IndexFunc(h.objects, func(o *object) bool { return o.id == name && !o.former })
	if i < 0 || h.objects[i].tasks == 0 { // another has undone it
		return
	}
	o := h.objects[i]
	if o.tasks--; o.tasks == 0 {
		delete(h.loading, o.id)
	}
	h.gone(o)
	var err error
	h.out, err = h.s.Unawait(h.now, name, h.out)
	h.do(fmt.Sprint("unload ", name), err)
}

// endSpill has all that is under way come to its end.
func (h *history) endSpill() {
	for i := 0; len(h.spills)+len(h.reads)+len(h.loading)+len(h.loaded)+len(h.grows)+len(h.slabs) > 0; i++ {
		if i > 10000 {
			h.fatalf("no end: %v, %v, %v", h.spills, h.reads, h.loading)
		}
		for len(h.slabs) > 0 {
			h.giveBack()
		}
		if len(h.grows) > 0 {
			h.grown(true)
		}
		h.spilled(true)
		h.restored(true)
		h.unload()
		h.now += int64(time.Second)
		h.out = h.s.Tick(h.now, h.out)
		h.do("tick", nil)
	}
}
