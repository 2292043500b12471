package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/objstore/shm"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// script is an agent that writes down what it is told; the test says what it answers, and when.
type script struct {
	mu    sync.Mutex
	said  []string
	asked chan struct{} // one for each WantSlab
}

func (s *script) say(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf(format, args...))
	return nil
}

// told gives what was said since the last time.
func (s *script) told() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.said, ", ")
	s.said = nil
	return all
}

func (s *script) WantSlab(size int64) error { s.asked <- struct{}{}; return s.say("want %d", size) }
func (s *script) Withdraw() error           { return s.say("withdraw") }
func (s *script) ReturnSlab(n uint64) error { return s.say("return %d", n) }
func (s *script) Seal(o id.Object, slab uint64, offset, size int64, m client.Meta) error {
	return s.say("seal %d at %d of %d, %d bytes, %d references", o.Task.Counter, offset, slab, size, len(m.Refs))
}
func (s *script) Forgo(slab uint64, offset, size int64) error {
	return s.say("forgo %d at %d of %d", size, offset, slab)
}
func (s *script) Release(o id.Object, deliveries uint32) error {
	return s.say("release %d of %d deliveries", o.Task.Counter, deliveries)
}

// scripted gives a client of a script, with an arena of 4 MiB that it has met, and what opens that to it.
func scripted(t *testing.T) (*script, *client.Client, *shm.Memory) {
	t.Helper()
	m := new(shm.Memory)
	if err := m.Make(1, 4*mib); err != nil {
		t.Fatal(err)
	}
	s := &script{asked: make(chan struct{}, 100)}
	c := client.New(s)
	meet(t, c, m)
	t.Cleanup(func() {
		c.Close()
		m.Close()
		if d, n := left(t); d != 0 || n != 0 {
			t.Errorf("%d descriptors and %d mappings are left", d, n)
		}
	})
	return s, c, m
}

func meet(t *testing.T, c *client.Client, m *shm.Memory) {
	t.Helper()
	f, err := m.Reader(1)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Arena(1, os.NewFile(uintptr(fd), "arena")); err != nil {
		t.Fatal(err)
	}
}

// open answers a question with [from, to) of a slab of a mebibyte at start.
func open(t *testing.T, c *client.Client, m *shm.Memory, slab uint64, start, from, to int64) {
	t.Helper()
	write, err := m.Lend(7, slab, 1, start, mib)
	if err != nil && !errors.Is(err, shm.ErrLent) {
		t.Fatal(err)
	}
	if err := c.Lent(client.Lease{Slab: slab, Arena: 1, Start: start, Size: mib, From: from, To: to}, write); err != nil {
		t.Fatal(err)
	}
}

func (s *script) want(t *testing.T, what ...string) {
	t.Helper()
	if got := s.told(); got != strings.Join(what, ", ") {
		t.Fatalf("told  %s\nwant %s", got, strings.Join(what, ", "))
	}
}

// Objects lie one behind another; what does not fit is given back before more is asked for: verifies MAP-1.
func TestWindow(t *testing.T) {
	s, c, m := scripted(t)
	got := make(chan error)
	lay := func(n uint64, size int) {
		go func() {
			got <- c.Put(context.Background(), object(n), client.Meta{Refs: []id.Object{object(1)}}, make([]byte, size))
		}()
	}
	lay(1, 100)
	<-s.asked
	open(t, c, m, 5, mib, 640, mib/2)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	lay(2, 65)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	s.want(t, "want 100", "seal 1 at 640 of 5, 100 bytes, 1 references", "seal 2 at 768 of 5, 65 bytes, 1 references")
	lay(3, mib/2-896+1)
	<-s.asked
	s.want(t, fmt.Sprintf("forgo %d at 896 of 5", mib/2-896), fmt.Sprintf("want %d", mib/2-896+1))
	open(t, c, m, 5, mib, mib/2, mib)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	s.want(t, fmt.Sprintf("seal 3 at %d of 5, %d bytes, 1 references", mib/2, mib/2-895))
	if err := c.Recall(5); err != nil {
		t.Fatal(err)
	}
	s.want(t, "return 5")
	if err := c.Recall(5); err != nil {
		t.Errorf("recalled while it came back: %v", err)
	}
	s.want(t)
}

// Verifies MAP-6: an answer that comes after its asker left is the next one's.
func TestAnswerAfterAskerLeft(t *testing.T) {
	s, c, m := scripted(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- c.Put(ctx, object(1), client.Meta{}, make([]byte, 1000)) }()
	<-s.asked
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.want(t, "want 1000", "withdraw")
	open(t, c, m, 5, 0, 0, mib)
	if err := c.Put(t.Context(), object(2), client.Meta{}, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	s.want(t, "seal 2 at 0 of 5, 1000 bytes, 0 references")
}

// Verifies MAP-2: an arena that is told twice is mapped once.
func TestArenaIsMappedOnce(t *testing.T) {
	_, c, m := scripted(t)
	_, before := left(t)
	meet(t, c, m)
	if _, after := left(t); after != before {
		t.Errorf("%d mappings, before it was told again %d", after, before)
	}
}
