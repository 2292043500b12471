package agent

import (
	"errors"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// kept is a copy of another node's value that nobody here needs any more. Others may have been sent here for it, so it stays
// for a moment, unless memory is wanted. The store has it as a copy that goes then, and the core does not know of it any more.
type kept struct {
	object id.Object
	until  int64
}

const (
	keepLarge = 16 << 20               // smaller values are asked of their owners
	keepFor   = int64(3 * time.Second) // from the last use on
)

// keep has a copy stay that is about to be freed, if it is one that others may have been sent here for; false: it is not.
func (s *deskStore) keep(o id.Object) bool {
	if !s.copies[o] {
		return false
	}
	delete(s.copies, o)
	s.kept = append(s.kept, kept{o, s.d.l.now() + keepFor}) // first: it may be gone at once
	if s.demote(o, true) {
		return true
	}
	s.kept = s.kept[:len(s.kept)-1]
	return false
}

// evicted: the store has let go of an object.
func (s *deskStore) evicted(o id.Object) {
	delete(s.copies, o)
	s.kept = slices.DeleteFunc(s.kept, func(k kept) bool { return k.object == o })
	s.bulk.freed = append(s.bulk.freed, o)
	s.gone[o] = true
	s.d.brings(work.Evicted{Object: o})
}

// settled: the core has been told all that there was. What was fetched may go now, or be evicted, as it says; false: there is nothing.
func (s *deskStore) settled() bool {
	clear(s.gone)
	if len(s.landed) == 0 {
		return false
	}
	landed := s.landed
	s.landed = nil
	for _, o := range landed {
		s.do(s.store.Undeliver(s.d.l.now(), objstore.Agent, o, 1, nil))
	}
	return true
}

// letGoOf lets go of copies that stay.
func (s *deskStore) letGoOf(which func(kept) bool) {
	var gone []kept
	s.kept = slices.DeleteFunc(s.kept, func(k kept) bool {
		if which(k) {
			gone = append(gone, k)
			return true
		}
		return false
	})
	for _, k := range gone {
		if out, err := s.store.Release(s.d.l.now(), k.object, nil); !s.gone[k.object] || !errors.Is(err, objstore.ErrUnknown) { // else it was evicted for the one before
			s.do(out, err)
		}
	}
}

// settleKept lets go of those whose time is over, and of all when somebody waits for memory; and tells when it has to look again.
func (s *deskStore) settleKept() int64 {
	if len(s.kept) == 0 {
		return never
	}
	now, wanted := s.d.l.now(), s.store.Explain().Waiting > 0
	s.letGoOf(func(k kept) bool { return wanted || k.until <= now })
	if len(s.kept) == 0 {
		return never
	}
	return s.kept[0].until
}
