package objstore

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Store is the state of one node's objects. See the package's comment.
type Store struct {
	cfg       Config
	budget    budget
	objects   map[id.Object]*object
	processes map[id.Process]*process
	slabs     map[uint64]*slab
	arenas    []*arena // in order of making
	pools     [2]pool  // free spans of lent arenas, and of the agent's own
	growing   *arena   // asked for; one at a time
	queue     []*request

	oldest, newest *object // evictable, by time since the last pin

	lastArena, lastSlab uint64
	spare               *span    // linked by next
	sealed              [2]Tally // in arenas: primary, secondary
}

// New makes an empty store.
func New(cfg Config) *Store {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg:       cfg,
		budget:    budget{limit: cfg.Budget},
		objects:   map[id.Object]*object{},
		processes: map[id.Process]*process{},
		slabs:     map[uint64]*slab{},
	}
	s.Attach(Agent)
	return s
}

// PutInline keeps a value's bytes. It says whether that is done, or has to wait for memory: Stored or
// Refused follow then. The value is charged once it is stored; until then its sender's credit bounds it.
func (s *Store) PutInline(now int64, p id.Process, object id.Object, value []byte, format uint32, out []Effect) ([]Effect, bool, error) {
	proc := s.processes[p]
	if proc == nil {
		return out, false, fmt.Errorf("objstore: %s puts %s: %w", ProcessName(p), name(object), ErrUnknown)
	}
	if s.objects[object] != nil || slices.ContainsFunc(s.queue, func(r *request) bool { return r.object != nil && r.object.name == object }) {
		return out, false, fmt.Errorf("objstore: %s puts %s: %w", ProcessName(p), name(object), ErrExists)
	}
	o := objectOf(object, value, format)
	if out = s.makeRoom(now, int64(len(value))+InlineCost, out); s.store(o) {
		return out, true, nil
	}
	return s.wait(now, &request{process: proc, object: o, size: int64(len(value)) + InlineCost}, out), false, nil
}

func objectOf(name id.Object, value []byte, format uint32) *object {
	return &object{name: name, value: value, size: int64(len(value)), format: format}
}

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
	return s.wait(now, &request{process: proc, size: size}, out), nil
}

// Grown answers Grow.
func (s *Store) Grown(now int64, number uint64, out []Effect) ([]Effect, error) {
	a := s.growing
	if a == nil || a.number != number {
		return out, fmt.Errorf("objstore: arena %d was made: %w", number, ErrUnknown)
	}
	s.growing = nil
	a.idle = now
	a.first = &span{arena: a, size: a.size}
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
	for i, r := range s.queue {
		if r.object != nil || (r.process.number == Agent) != a.own {
			continue
		}
		if least := roundUp(r.size, Grain); a.size > least {
			return s.grow(least, a.own, out), nil
		}
		s.queue = slices.Delete(s.queue, i, i+1)
		out = s.refuse(now, r, cause, out)
		break
	}
	return s.serve(now, out), nil
}

// Tick refuses whoever has waited too long, and gives back what has lain idle too long.
func (s *Store) Tick(now int64, out []Effect) []Effect {
	for i := 0; i < len(s.queue); {
		if r := s.queue[i]; r.since+int64(s.cfg.Patience) <= now {
			s.queue = slices.Delete(s.queue, i, i+1)
			out = s.refuse(now, r, nil, out)
		} else {
			i++
		}
	}
	out = s.serve(now, out)
	return s.dropIdle(now, out)
}

// NextDeadline says when Tick is due; zero: not at all.
func (s *Store) NextDeadline() (at int64) {
	earlier := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	for _, r := range s.queue {
		earlier(r.since + int64(s.cfg.Patience))
	}
	for _, a := range s.arenas {
		if a.empty() {
			earlier(a.idle + int64(s.cfg.KeepWarm))
		}
	}
	return at
}
