package session

import (
	"context"
	"errors"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const (
	maxMaking = 1000             // values that this process makes at a time, with the questions that may become such: the agent ends who is to make 1,024 and asks on
	patience  = 30 * time.Second // that one more waits for one of them to end: they may wait for it
)

// ErrMaking is what Cached gives while this process makes as many values as it may.
var ErrMaking = errors.New("this process has made 1,000 others for 30 s")

// cachedAnswer is a reference to what is cached, and whether it is this process's to make.
type cachedAnswer struct {
	h    *Hold
	mine bool
}

// Cached gives a reference to what the node's cache has under a key. mine: it has nothing, and this process is to make it: Keep or Unmade follows.
// While this process makes 1,000 it waits for one of them to end, and fails with ErrMaking if none does.
func (s *Session) Cached(ctx context.Context, key string) (h *Hold, mine bool, err error) {
	if err := s.takePlace(ctx); err != nil {
		return nil, false, err
	}
	corr, came := s.corr.Add(1), make(chan cachedAnswer, 1)
	s.mu.Lock()
	s.cached[corr] = came
	s.mu.Unlock()
	m := &fb.CacheWantedT{Key: []byte(key)}
	if t := s.TaskIn(ctx); t != nil {
		m.Task = TaskT(t.ID)
	}
	if err = s.Say(m, corr, nil); err != nil {
		s.givePlace()
	} else {
		select {
		case a := <-came:
			return a.h, a.mine, nil
		case <-s.ended:
			err = s.Err()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.mu.Lock()
	_, waits := s.cached[corr]
	delete(s.cached, corr)
	s.mu.Unlock()
	if !waits {
		a := <-came
		if a.mine {
			s.Unmade(a.h)
		}
		a.h.Release()
	}
	return nil, false, err
}

// takePlace waits until this process may make one more value; a task frees its CPU meanwhile.
func (s *Session) takePlace(ctx context.Context) error {
	select {
	case s.places <- struct{}{}:
		return nil
	default:
	}
	defer s.unblock(s.block(ctx, nil, 0))
	s.Flush()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case s.places <- struct{}{}:
		return nil
	case <-late.C:
		return ErrMaking
	case <-s.ended:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// givePlace lets another value be made.
func (s *Session) givePlace() {
	select {
	case <-s.places:
	default: // an answer to nothing
	}
}

// cachedCame takes in the answer.
func (s *Session) cachedCame(corr uint64, m *fb.CachedT) {
	h := s.DeliveredLocked(id.Object{Task: TaskOf(m.Object)})
	if came := s.cached[corr]; came != nil {
		delete(s.cached, corr)
		if !m.Make {
			s.givePlace()
		}
		came <- cachedAnswer{h, m.Make}
		return
	}
	if m.Make { // who asked does not wait any more
		s.sayUnmade(h)
	}
	s.givePlace()
	h.releaseLocked()
}

// Unmade says that this process does not make what it was to.
func (s *Session) Unmade(h *Hold) {
	s.sayUnmade(h)
	s.givePlace()
	s.Flush()
}

func (s *Session) sayUnmade(h *Hold) {
	_ = s.Say(&fb.CacheUnmadeT{Object: TaskT(h.o.id.Task)}, 0, nil) // fails with the connection
}

// HasMemory tells whether there is shared memory, without which nothing is cached.
func (s *Session) HasMemory() bool { return s.memory != nil }

// Keep gives what this process was to make its value, in shared memory whatever its size.
func (s *Session) Keep(ctx context.Context, h *Hold, v Encoded) error {
	if err := s.spend(ctx, 0); err != nil {
		return err
	}
	name := h.o.id
	s.mu.Lock()
	s.memory.seen[name]++ // before the agent may ask for it
	s.mu.Unlock()
	err := s.Seal(ctx, name, v, Around{})
	if err == nil {
		s.givePlace()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.memory.forget(name)
	case h.o.state == remote: // else another goroutine has asked for it
		h.o.state = there
	}
	return err
}
