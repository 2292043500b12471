package client

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Agent sends to the node's agent. The methods queue and return.
type Agent interface {
	// WantSlab is answered by Lent or Refused, in the order of asking.
	WantSlab(size int64) error
	// Withdraw says that what was asked for is not wanted any more. The answer comes all the same.
	Withdraw() error
	// Seal says that an object lies whole in a slab.
	Seal(object id.Object, slab uint64, offset, size int64, m Meta) error
	// Forgo gives back a part of what is open in a slab, which stays mapped.
	Forgo(slab uint64, offset, size int64) error
	// ReturnSlab says that the slab is unmapped.
	ReturnSlab(slab uint64) error
	// Release says that this process has no use for the object any more, having seen that many deliveries.
	Release(object id.Object, deliveries uint32) error
}

// Lease is what the agent lends: [From, To) of a slab, which is [Start, Start+Size) of an arena.
type Lease struct {
	Slab, Arena uint64
	Start, Size int64
	From, To    int64
}

// Meta is what goes along with a value.
type Meta struct {
	Format uint32
	Refs   []id.Object // references inside of it
}

// Location is where in shared memory a value lies.
type Location struct {
	Arena        uint64
	Offset, Size int64
}

var (
	// ErrClosed: Close was called.
	ErrClosed = errors.New("closed")
	// ErrUnknown: no such object, arena or slab in this process.
	ErrUnknown = errors.New("unknown in this process")
	// ErrProtocol: what came from the agent can't be.
	ErrProtocol = errors.New("against the protocol")
)

// Client is the memory of one program. Make it with New.
type Client struct {
	agent Agent

	mu      sync.Mutex
	closed  bool
	slabs   map[uint64]*slab
	at      window    // where the next object goes
	waiting []*waiter // for memory, in order
	asked   *waiter   // for whom the agent was asked; it may have left since
	arenas  map[uint64]*arena
	held    map[id.Object]*held
}

// New makes a client that has nothing yet.
func New(agent Agent) *Client {
	return &Client{agent: agent, slabs: map[uint64]*slab{}, arenas: map[uint64]*arena{}, held: map[id.Object]*held{}}
}

// Lent takes what the agent opened. The first time that a slab is named its descriptor for writing comes
// along, which is taken over.
func (c *Client) Lent(l Lease, write *os.File) error {
	defer closeFile(write)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		return fmt.Errorf("objstore/client: slab %d, which was not asked for: %w", l.Slab, ErrProtocol)
	}
	s := c.slabs[l.Slab]
	if l.From < 0 || l.From >= l.To || l.To > l.Size || l.From%align != 0 || (s == nil) != (write != nil) {
		return fmt.Errorf("objstore/client: slab %d, [%d, %d) of %d: %w", l.Slab, l.From, l.To, l.Size, ErrProtocol)
	}
	if s == nil {
		bytes, err := mapSlab(write, l.Start, l.Size)
		if err != nil {
			return fmt.Errorf("objstore/client: slab %d: %w", l.Slab, err)
		}
		s = &slab{number: l.Slab, arena: l.Arena, start: l.Start, bytes: bytes}
		c.slabs[l.Slab] = s
	}
	c.asked = nil
	if c.closed {
		return c.leave(s)
	}
	if err := s.unguard(l.From, l.To); err != nil {
		return fmt.Errorf("objstore/client: slab %d: %w", l.Slab, err)
	}
	c.at = window{s, l.From, l.To}
	return c.serve()
}

// Refused takes the agent's answer that there is no memory, and why.
func (c *Client) Refused(why error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.asked
	if w == nil {
		return fmt.Errorf("objstore/client: refused what was not asked for: %w", ErrProtocol)
	}
	c.asked = nil
	if c.leaves(w) {
		w.done <- granted{err: why}
	}
	return c.serve()
}

// Recall hears that the agent wants a slab back. It gets it as soon as no Buffer lies in it.
func (c *Client) Recall(number uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slabs[number]
	if s == nil {
		return nil // returned already; the messages crossed
	}
	s.recalled = true
	return c.leave(s)
}

// leave returns a slab that is to be returned, if nothing is being written in it.
func (c *Client) leave(s *slab) error {
	if c.at.slab == s && (s.recalled || c.closed) {
		c.at = window{}
	}
	if s.buffers > 0 || !s.recalled && !c.closed {
		return nil
	}
	delete(c.slabs, s.number)
	if err := s.unmap(); err != nil { // MAP-4
		return fmt.Errorf("objstore/client: slab %d: %w", s.number, err)
	}
	return c.agent.ReturnSlab(s.number)
}

// Close ends writing: who waits gets ErrClosed, and slabs are returned. What is viewed or being
// written stays mapped until it is released.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for _, w := range c.waiting {
		w.done <- granted{err: fmt.Errorf("objstore/client: %w", ErrClosed)}
	}
	c.waiting = nil
	var errs []error
	for _, s := range c.slabs {
		errs = append(errs, c.leave(s))
	}
	for _, a := range c.arenas {
		a.gone = true
		errs = append(errs, c.unmapArena(a))
	}
	return errors.Join(errs...)
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
