package slurm

import (
	"context"
	"errors"
	"sync"

	"github.com/maniple-hpc/maniple/launcher/backend"
)

// group is the sessions of a heterogeneous job as one. It owns a goroutine per session that hands events
// on, and one that closes after them.
type group struct {
	parts  []*session
	events chan backend.Event
	done   chan struct{}
}

func newGroup(parts []*session) *group {
	g := &group{parts: parts, events: make(chan backend.Event), done: make(chan struct{})}
	var wg sync.WaitGroup
	for _, s := range parts {
		wg.Go(func() {
			for ev := range s.Events() {
				g.events <- ev
			}
			<-s.done
		})
	}
	go func() {
		wg.Wait()
		close(g.events)
		close(g.done)
	}()
	return g
}

func (g *group) Nodes() []string {
	var all []string
	for _, s := range g.parts {
		all = append(all, s.names...)
	}
	return all
}

func (g *group) Events() <-chan backend.Event { return g.events }

func (g *group) Send(line []byte) error {
	return g.each(func(s *session) error { return s.Send(line) })
}

func (g *group) Release() error {
	go func() { // nobody else may be reading; ends when Events is closed
		for range g.events {
		}
	}()
	err := g.each(func(s *session) error { return s.Release() })
	<-g.done
	return err
}

func (g *group) Wait() error {
	<-g.done
	return g.each(func(s *session) error { return s.Wait() })
}

func (g *group) Stop(ctx context.Context) error {
	go func() {
		for range g.events {
		}
	}()
	err := g.each(func(s *session) error { return s.Stop(ctx) })
	<-g.done
	return err
}

// each does something with every session at the same time.
func (g *group) each(do func(*session) error) error {
	errs := make([]error, len(g.parts))
	var wg sync.WaitGroup
	for i, s := range g.parts {
		wg.Go(func() { errs[i] = do(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
