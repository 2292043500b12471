package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
)

// maxLine bounds a keeper's line.
const maxLine = 1 << 20

type session struct {
	names   []string
	keepers []*keeper
	events  chan backend.Event
	done    chan struct{} // closed when all have ended or were released

	mu       sync.Mutex
	failed   error
	released bool
}

func (s *session) Nodes() []string              { return s.names }
func (s *session) Events() <-chan backend.Event { return s.events }

// run starts a goroutine per keeper and one that closes the session after them.
func (s *session) run() {
	var wg sync.WaitGroup
	for _, k := range s.keepers {
		wg.Go(func() { s.follow(k) })
	}
	go func() {
		wg.Wait()
		close(s.events)
		close(s.done)
	}()
}

// follow reads a keeper's lines until its end, reaps it and tells how it ended.
func (s *session) follow(k *keeper) {
	lines := bufio.NewScanner(k.stdout)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		ev := backend.ParseEvent(k.node, lines.Bytes())
		k.ended = k.ended || ev.Kind == backend.KindEnd || ev.Kind == backend.KindError
		s.tell(ev)
	}
	if s.isReleased() {
		return
	}
	err := k.cmd.Wait()
	defer k.close()
	if err == nil {
		return
	}
	lost := backend.Event{Kind: backend.KindLost, Node: k.node, Reason: describe(err)}
	text := lost.Reason
	if said := k.said(); said != "" {
		text += ": " + said
		lost.Text = text
	}
	if !k.ended {
		s.tell(lost)
	}
	s.mu.Lock()
	if s.failed == nil {
		s.failed = fmt.Errorf("local: keeper of %s: %s", k.node, text)
	}
	s.mu.Unlock()
}

// tell hands an event on. Whoever has the session reads until Events is closed, or releases it.
func (s *session) tell(ev backend.Event) {
	if !s.isReleased() {
		s.events <- ev
	}
}

func describe(err error) string {
	var exit *os.SyscallError
	if errors.As(err, &exit) {
		return exit.Error()
	}
	return err.Error()
}

func (s *session) Send(line []byte) error {
	var errs []error
	for _, k := range s.keepers {
		if err := k.send(line); err != nil {
			errs = append(errs, fmt.Errorf("local: keeper of %s: %w", k.node, err))
		}
	}
	return errors.Join(errs...)
}

func (s *session) isReleased() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.released
}

func (s *session) Release() error {
	s.mu.Lock()
	s.released = true
	s.mu.Unlock()
	for _, k := range s.keepers {
		k.closeInput()
		k.stdout.Close() // ends its reader; a keeper ignores that nobody reads it any more
	}
	for range s.events { // a reader may be handing over a line
	}
	<-s.done
	for _, k := range s.keepers {
		k.stderr.Close()
		k.cmd.Process.Release()
	}
	return nil
}

func (s *session) Wait() error {
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *session) Stop(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	drain := backend.DrainLine("stopped by the command that started it", deadline, true)
	for _, k := range s.keepers {
		k.send(drain) // one that is gone needs none
		k.closeInput()
	}
	go func() { // nobody else may be reading
		for range s.events {
		}
	}()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.kill()
	<-s.done
	return fmt.Errorf("local: keepers did not end in time and were killed")
}

// kill ends the keepers at once; their agents see it and clean up after them.
func (s *session) kill() {
	for _, k := range s.keepers {
		k.cmd.Process.Signal(syscall.SIGKILL)
	}
}
