package agent

import (
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// kept is a copy of another node's value that nobody here needs any more. Others may have been sent here for it, so it stays
// for a moment, unless somebody waits for memory.
type kept struct {
	object id.Object
	until  int64
}

const (
	keepLarge = 16 << 20               // smaller values are asked of their owners
	keepFor   = int64(3 * time.Second) // from the last use on
)

// keep has a copy stay that is about to be freed, if it is one that others may have been sent here for.
func (s *deskStore) keep(o id.Object) {
	if !s.copies[o] {
		return
	}
	delete(s.copies, o)
	if l, err := s.store.Deliver(objstore.Agent, o); err == nil && l.Kind != objstore.InFile {
		s.kept = append(s.kept, kept{o, s.d.l.now() + keepFor})
	}
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
		s.do(s.store.Undeliver(s.d.l.now(), objstore.Agent, k.object, 1, nil))
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
