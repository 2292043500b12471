package objstore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Kind is a kind of location. Devices are to come: whoever reads a location must refuse a kind that it does not know.
type Kind uint8

const (
	Nowhere  Kind = iota
	InBytes       // Value
	InMemory      // Size bytes at Offset of Arena
	InFile        // Size bytes at Offset of File
)

// Location is where a value is.
type Location struct {
	Kind         Kind
	Value        []byte
	Arena        uint64
	File         uint64
	Offset, Size int64
}

// Sealed is an object that a process has written whole into a slab.
type Sealed struct {
	Object       id.Object
	Slab         uint64
	Offset, Size int64 // Offset counts from the slab's start and is a multiple of Align
	Format       uint32
	Secondary    bool   // a copy: it goes first when memory is short
	Job          uint32 // whose share of the memory it counts to
	Version      uint32 // of the value that it is a copy of; 0: it is made here, and gets one of its own
}

// Info is what is known of an object.
type Info struct {
	Location  Location
	Format    uint32
	Version   uint32 // tells it from others that had its name before, or have it elsewhere; its copies have the same
	Secondary bool
	Released  bool // only pins keep it
	Views     int  // processes that hold it
	Tasks     int  // tasks that wait with it
}

// object is one value here. It is in value, or at a place of an arena, in a file, or in both of these.
type object struct {
	name      id.Object
	value     []byte
	at        *span
	file      *file
	offset    int64 // in the file
	spilling  bool  // it is being written there
	restoring bool  // it is being read from there
	asked     bool  // its views are being recalled, which counts as memory that comes
	askedAt   int64 // when
	size      int64
	format    uint32
	version   uint32
	job       *job
	secondary bool
	copied    bool // secondary, as it can be had elsewhere
	released  bool
	views     []view // in order of the first delivery
	tasks     int

	in           *chain
	older, newer *object // in that; of those that are spare, newer is the next
}

// view is a process's hold on an object: how many deliveries of it that process has not released.
type view struct {
	process    *process
	deliveries uint32
	recalled   bool
	kept       bool // its process has said that it looks at the object, and will say when it does not
}

func (o *object) pinned() bool { return len(o.views) > 0 || o.tasks > 0 || o.spilling || o.restoring }

func (o *object) location() Location {
	if o.file != nil && (o.at == nil || o.restoring) {
		return Location{Kind: InFile, File: o.file.number, Offset: o.offset, Size: o.size}
	}
	if o.at == nil {
		return Location{Kind: InBytes, Value: o.value, Size: o.size}
	}
	return Location{Kind: InMemory, Arena: o.at.arena.number, Offset: o.at.off, Size: o.size}
}

func compare(a, b id.Object) int {
	if c := a.Task.Compare(b.Task); c != 0 {
		return c
	}
	return cmp.Compare(a.Index, b.Index)
}

func name(o id.Object) string { return fmt.Sprintf("%s/%d", o.Task, o.Index) }

// Lookup tells where an object is. A location stays true while the object is pinned.
func (s *Store) Lookup(name id.Object) (Info, bool) {
	o := s.objects[name]
	if o == nil {
		return Info{}, false
	}
	return Info{Location: o.location(), Format: o.format, Version: o.version, Secondary: o.secondary, Released: o.released, Views: len(o.views), Tasks: o.tasks}, true
}

// Objects gives how many there are.
func (s *Store) Objects() int { return len(s.objects) + len(s.former) }

// vacate has a name be free for another value: one that nobody refers to any more goes on without it while it is written to a file, or
// read from there, or somebody looks at it still. False: it is somebody's.
func (s *Store) vacate(p *process, name id.Object) bool {
	o := s.objects[name]
	if o == nil {
		return true
	}
	if !o.released || o.tasks > 0 || p.viewed[name] != nil {
		return false
	}
	delete(s.objects, name)
	s.former = append(s.former, o)
	return true
}

// Deliver pins an object for a process that is being told its location, once more. One that lies in a file has to be
// loaded first.
func (s *Store) Deliver(p id.Process, object id.Object) (Location, error) {
	o, proc := s.objects[object], s.processes[p]
	if o == nil || proc == nil {
		return Location{}, fmt.Errorf("objstore: deliver %s to %s: %w", name(object), ProcessName(p), ErrUnknown)
	}
	if old := proc.viewed[object]; old != nil && old != o { // which it could not tell from this one
		return Location{}, fmt.Errorf("objstore: deliver %s to %s, which looks at a value that it had before: %w", name(object), ProcessName(p), ErrExists)
	}
	if o.file != nil && (o.at == nil || o.restoring) {
		return o.location(), nil
	}
	s.deliver(proc, o)
	return o.location(), nil
}

func (s *Store) deliver(p *process, o *object) {
	defer s.rank(o)
	s.unchain(o)
	for i := range o.views {
		if v := &o.views[i]; v.process == p {
			v.deliveries++
			v.recalled, v.kept = false, false // it may look again
			return
		}
	}
	o.views = append(o.views, view{process: p, deliveries: 1})
	p.viewed[o.name] = o
	p.viewedBytes += o.size
}

// Holds tells whether a process holds an object by a delivery.
func (s *Store) Holds(p id.Process, object id.Object) bool {
	o, proc := s.objects[object], s.processes[p]
	return o != nil && proc != nil && slices.ContainsFunc(o.views, func(v view) bool { return v.process == proc })
}

// Undeliver drops what a process held by that many deliveries.
func (s *Store) Undeliver(now int64, p id.Process, object id.Object, deliveries uint32, out []Effect) ([]Effect, error) {
	proc := s.processes[p]
	o := s.viewedBy(proc, object)
	if o == nil {
		return out, fmt.Errorf("objstore: %s releases %s: %w", ProcessName(p), name(object), ErrUnknown)
	}
	for i := range o.views {
		v := &o.views[i]
		if v.process != proc {
			continue
		}
		if deliveries == 0 || deliveries > v.deliveries { // OBJ-7
			break
		}
		s.answers(proc)
		if v.deliveries -= deliveries; v.deliveries == 0 {
			s.unview(proc, o, i)
			out = s.settled(now, o, out)
		} else { // it was told the place again meanwhile
			v.recalled, v.kept = false, false
			s.noAnswer(o)
			s.rank(o)
		}
		return s.serve(now, out), nil
	}
	return out, fmt.Errorf("objstore: %s releases %d deliveries of %s, which it has not had: %w", ProcessName(p), deliveries, name(object), ErrForbidden)
}

// Leave drops all that a process held of an object by deliveries, if it held anything.
func (s *Store) Leave(now int64, p id.Process, object id.Object, out []Effect) []Effect {
	proc := s.processes[p]
	o := s.viewedBy(proc, object)
	if o == nil {
		return out
	}
	i := slices.IndexFunc(o.views, func(v view) bool { return v.process == proc })
	if i < 0 {
		return out
	}
	s.unview(proc, o, i)
	out = s.settled(now, o, out)
	return s.serve(now, out)
}

// viewedBy gives the object of a name that a process looks at, or else the one that has the name.
func (s *Store) viewedBy(p *process, name id.Object) *object {
	if p == nil {
		return nil
	}
	if o := p.viewed[name]; o != nil {
		return o
	}
	return s.objects[name]
}

func (s *Store) unview(p *process, o *object, i int) {
	o.views = append(o.views[:i], o.views[i+1:]...)
	delete(p.viewed, o.name)
	p.viewedBytes -= o.size
}

// Await pins an object for a task that waits with it.
func (s *Store) Await(object id.Object) error {
	o := s.objects[object]
	if o == nil {
		return fmt.Errorf("objstore: await %s: %w", name(object), ErrUnknown)
	}
	s.unchain(o)
	o.tasks++
	return nil
}

// Unawait undoes one Await.
func (s *Store) Unawait(now int64, object id.Object, out []Effect) ([]Effect, error) {
	o := s.objects[object]
	if o == nil || o.tasks == 0 {
		return out, fmt.Errorf("objstore: unawait %s: %w", name(object), ErrUnknown)
	}
	if o.tasks--; o.tasks == 0 && o.file != nil {
		s.queue = slices.DeleteFunc(s.queue, func(r *request) bool { return r.restore == o })
	}
	out = s.settled(now, o, out)
	return s.serve(now, out), nil
}

// Release says that no reference to the object is left anywhere: it goes when its last pin goes.
func (s *Store) Release(now int64, object id.Object, out []Effect) ([]Effect, error) {
	o := s.objects[object]
	if o == nil || o.released {
		return out, fmt.Errorf("objstore: release %s: %w", name(object), ErrUnknown)
	}
	o.released = true
	out = s.settled(now, o, out)
	return s.serve(now, out), nil
}

// Promote makes a copy the primary one, which is never evicted: its owner has lost the others.
func (s *Store) Promote(now int64, object id.Object) error {
	o := s.objects[object]
	if o == nil {
		return fmt.Errorf("objstore: promote %s: %w", name(object), ErrUnknown)
	}
	s.unchain(o)
	s.tally(o, -1)
	o.secondary, o.copied = false, false
	s.tally(o, 1)
	s.rank(o)
	return nil
}

// Demote has an object be evictable: copied, as it can be had elsewhere, or else as it can be made again. false: memory has it not alone, or not at all, and nothing changes.
func (s *Store) Demote(now int64, object id.Object, copied bool, out []Effect) ([]Effect, bool) {
	o := s.objects[object]
	if o == nil || o.at == nil || o.file != nil || o.spilling || o.released {
		return out, false
	}
	s.unchain(o)
	s.tally(o, -1)
	o.secondary, o.copied = true, copied
	s.tally(o, 1)
	s.rank(o)
	return s.serve(now, out), true
}

// settled looks at an object that has lost a pin or its references, and frees it if nothing keeps it.
func (s *Store) settled(now int64, o *object, out []Effect) []Effect {
	switch {
	case o.pinned():
		s.rank(o)
	case o.released:
		return s.discard(now, o, out)
	default:
		s.rank(o)
	}
	return out
}

// discard forgets an object that nothing pins, and frees what it used.
func (s *Store) discard(now int64, o *object, out []Effect) []Effect {
	s.unchain(o)
	s.noAnswer(o)
	if s.objects[o.name] == o {
		delete(s.objects, o.name)
	} else {
		s.former = slices.DeleteFunc(s.former, func(x *object) bool { return x == o })
	}
	defer s.recycle(o)
	if j := o.job; j != nil {
		j.objects--
	}
	if o.at != nil {
		s.leave(now, o)
	} else if o.file == nil {
		s.budget.give(Inline, o.size+InlineCost)
	}
	if o.file != nil {
		s.filed.Objects--
		s.filed.Bytes -= o.size
		out = s.unfile(o.file, out)
	}
	return out
}

// leave takes an object out of its arena.
func (s *Store) leave(now int64, o *object) {
	s.tally(o, -1)
	sl := o.at.slab
	if sl != nil {
		if sl.touched = now; sl.process == nil { // returned
			sl = nil
		}
	}
	s.vacated(now, s.become(o.at, o.at.off, o.at.size, free, sl, nil))
	o.at = nil
}

// newObject gives one that was used before, if there is any, so that a put allocates nothing in the long run.
func (s *Store) newObject(name id.Object, size int64, format uint32) *object {
	o := s.spareObject
	if o != nil {
		s.spareObject = o.newer
	} else {
		o = new(object)
	}
	s.lastVersion++
	*o = object{name: name, size: size, format: format, version: s.lastVersion, views: o.views}
	return o
}

func (s *Store) recycle(o *object) {
	*o = object{newer: s.spareObject, views: o.views[:0]}
	s.spareObject = o
}

// tally adds sign times the object to the sums of what arenas hold.
func (s *Store) tally(o *object, sign int64) {
	if o.at == nil {
		return
	}
	t := &s.sealed[0]
	if o.secondary {
		t = &s.sealed[1]
	} else {
		o.job.bytes += sign * o.at.size
	}
	t.add(sign, o.at.size)
	if o.copied {
		s.copies.add(sign, o.at.size)
	}
}

// vacated notes since when an arena is empty.
func (s *Store) vacated(now int64, sp *span) {
	if a := sp.arena; a.empty() {
		a.idle = now
	}
}
