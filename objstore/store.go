package objstore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Store is the state of one node's objects. See the package's comment.
type Store struct {
	cfg       Config
	budget    budget
	objects   map[id.Object]*object
	former    []*object // whose names have other values by now, and that are pinned still
	processes map[id.Process]*process
	slabs     map[uint64]*slab
	lending   []*slab  // the same, in order of lending
	arenas    []*arena // in order of making
	pool      pool     // what is free in them, outside of slabs
	growing   *arena   // asked for; one at a time
	next      int64    // what a request like the last large one would take; 0: it is known to be there
	queue     []*request

	idle         chain // evictable: copies, and what lies in a file, too
	viewed       chain // copies, and the like, of processes that were not asked whether they look
	jobs         []*job
	files        map[uint64]*file
	lastFile     uint64
	writing      []*file
	writingBytes int64     // of objects that nothing else keeps where they are
	fileBytes    int64     // of all files
	askedBytes   int64     // in views that are being recalled
	asked        []*object // whose they are, by askedAt
	diskErr      error     // why the last file could not be written; nil: it could
	diskAfter    int64     // when to try again
	againAt      int64     // when to look again what may be done for those who wait; 0: nothing
	moved        Traffic
	filed        Tally // objects that lie in files

	swept               int64 // when idle memory was last looked for
	lastArena, lastSlab uint64
	lastVersion         uint32
	spare               *span    // linked by next
	spareObject         *object  // linked by newer
	sealed              [2]Tally // in arenas: primary, secondary
	copies              Tally    // of those, what can be had elsewhere

	bounded bool // arenas may take bound bytes, which may be less than they have
	bound   int64
}

// New makes an empty store.
func New(cfg Config) *Store {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, lastVersion: cfg.Version,
		budget:    budget{limit: cfg.Budget},
		objects:   map[id.Object]*object{},
		processes: map[id.Process]*process{},
		slabs:     map[uint64]*slab{},
		files:     map[uint64]*file{},
	}
	s.Attach(Agent)
	return s
}

// PutInline keeps a value's bytes. It says whether that is done, or has to wait for memory: Stored or
// Refused follow then. The value is charged once it is stored; until then its sender's credit bounds it.
func (s *Store) PutInline(now int64, p id.Process, key id.Object, value []byte, format uint32, out []Effect) ([]Effect, bool, error) {
	proc := s.processes[p]
	if proc == nil {
		return out, false, fmt.Errorf("objstore: %s puts %s: %w", ProcessName(p), name(key), ErrUnknown)
	}
	exists, turn := s.objects[key] != nil, true
	for _, r := range s.queue {
		if r.object != nil {
			exists, turn = exists || r.object.name == key, false
		}
	}
	if exists {
		return out, false, fmt.Errorf("objstore: %s puts %s: %w", ProcessName(p), name(key), ErrExists)
	}
	o := s.newObject(key, int64(len(value)), format)
	o.value = value
	size := o.size + InlineCost
	if turn {
		if out = s.makeRoom(now, size, out); s.store(o) {
			return out, true, nil
		}
	}
	return s.wait(now, &request{process: proc, object: o, size: size}, out), false, nil
}

// store keeps an inline value, if there is room.
func (s *Store) store(o *object) bool {
	if !s.budget.take(Inline, o.size+InlineCost) {
		return false
	}
	s.objects[o.name] = o
	return true
}

// Lend asks for room for size bytes in one piece, for objects of process p. Lent or Refused answers, in
// the order of asking.
func (s *Store) Lend(now int64, p id.Process, size int64, out []Effect) ([]Effect, error) {
	proc := s.processes[p]
	if proc == nil || size <= 0 {
		return out, fmt.Errorf("objstore: %s wants %d bytes: %w", ProcessName(p), size, ErrUnknown)
	}
	waiting := 0
	for _, r := range s.queue {
		if r.process == proc && r.asksSlab() {
			waiting++
		}
	}
	if waiting >= MaxWaiting {
		return out, fmt.Errorf("objstore: %s wants %d bytes, with %d questions that wait: %w", ProcessName(p), size, waiting, ErrForbidden)
	}
	return s.wait(now, &request{process: proc, size: size}, out), nil
}

// Withdraw refuses what p asked for first and waits for: it does not want it any more. If nothing of p waits,
// the answer and this have crossed.
func (s *Store) Withdraw(now int64, p id.Process, out []Effect) ([]Effect, error) {
	if s.processes[p] == nil {
		return out, fmt.Errorf("objstore: %s withdraws: %w", ProcessName(p), ErrUnknown)
	}
	for i, r := range s.queue {
		if r.asksSlab() && r.process.number == p {
			s.queue = slices.Delete(s.queue, i, i+1)
			out = append(out, Refused{Process: p, Err: &FullError{Process: p, Size: r.size, Withdrawn: true, Waited: now - r.since}})
			return s.serve(now, out), nil
		}
	}
	return out, nil
}

// Grown answers Grow.
func (s *Store) Grown(now int64, number uint64, out []Effect) ([]Effect, error) {
	a := s.growing
	if a == nil || a.number != number {
		return out, fmt.Errorf("objstore: arena %d was made: %w", number, ErrUnknown)
	}
	s.growing = nil
	a.spare, a.idle = false, now
	a.held, a.first = a.size, &span{arena: a, size: a.size}
	if len(s.arenas) == 0 {
		s.swept = now
	}
	s.arenas = append(s.arenas, a)
	s.settle(a.first)
	return s.serve(now, out), nil
}

// GrowFailed answers Grow. The request that it was for is refused, unless a smaller arena would do.
func (s *Store) GrowFailed(now int64, number uint64, cause error, out []Effect) ([]Effect, error) {
	a := s.growing
	if a == nil || a.number != number {
		return out, fmt.Errorf("objstore: arena %d was not made: %w", number, ErrUnknown)
	}
	s.growing = nil
	s.budget.give(Arenas, a.size)
	if a.spare {
		return s.serve(now, out), nil
	}
	for i, r := range s.queue {
		if r.object != nil {
			continue
		}
		if errors.Is(cause, ErrShort) {
			break
		}
		if least := roundUp(r.size, Grain); a.size > least {
			return s.grow(least, out), nil
		}
		s.queue = slices.Delete(s.queue, i, i+1)
		out = s.refuse(now, r, cause, out)
		break
	}
	return s.serve(now, out), nil
}

// Tick refuses whoever has waited too long, and gives back what has lain idle too long.
func (s *Store) Tick(now int64, out []Effect) []Effect {
	for i := 0; i < len(s.queue) && s.growing == nil; { // memory that is being made may be for anybody
		if r := s.queue[i]; r.since+int64(s.cfg.Patience) <= now {
			s.queue = slices.Delete(s.queue, i, i+1)
			out = s.refuse(now, r, nil, out)
		} else {
			i++
		}
	}
	out = s.serve(now, out)
	if s.swept+int64(s.cfg.KeepWarm) > now {
		return out
	}
	s.swept = now
	return s.sweep(now, out)
}

// NextDeadline says when Tick is due; zero: not at all.
func (s *Store) NextDeadline() (at int64) {
	if len(s.arenas) > 0 {
		at = s.swept + int64(s.cfg.KeepWarm)
	}
	if len(s.queue) > 0 && s.againAt > 0 && (at == 0 || s.againAt < at) {
		at = s.againAt
	}
	if len(s.queue) > 0 && s.growing == nil { // the first has waited longest
		if t := s.queue[0].since + int64(s.cfg.Patience); at == 0 || t < at {
			at = t
		}
	}
	return at
}
