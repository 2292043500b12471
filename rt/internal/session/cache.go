package session

import (
	"context"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// cachedAnswer is a reference to what is cached, and whether it is this process's to make.
type cachedAnswer struct {
	h    *Hold
	mine bool
}

// Cached gives a reference to what the node's cache has under a key. mine: it has nothing, and this process is to make it: Keep or Unmade follows.
func (s *Session) Cached(ctx context.Context, key string) (h *Hold, mine bool, err error) {
	corr, came := s.corr.Add(1), make(chan cachedAnswer, 1)
	s.mu.Lock()
	s.cached[corr] = came
	s.mu.Unlock()
	m := &fb.CacheWantedT{Key: []byte(key)}
	if t := s.TaskIn(ctx); t != nil {
		m.Task = TaskT(t.ID)
	}
	if err = s.Say(m, corr, nil); err == nil {
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

// cachedCame takes in the answer.
func (s *Session) cachedCame(corr uint64, m *fb.CachedT) {
	h := s.DeliveredLocked(id.Object{Task: TaskOf(m.Object)})
	if came := s.cached[corr]; came != nil {
		delete(s.cached, corr)
		came <- cachedAnswer{h, m.Make}
		return
	}
	if m.Make { // who asked does not wait any more
		s.sayUnmade(h)
	}
	h.releaseLocked()
}

// Unmade says that this process does not make what it was to.
func (s *Session) Unmade(h *Hold) {
	s.sayUnmade(h)
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
