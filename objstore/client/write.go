package client

import (
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const (
	align = 64
	// guardFrom is the size from which sealed buffers are made read-only: each may cost two mappings, of
	// which a process has 65,530.
	guardFrom = 1 << 20
)

// slab is a range that this process may write. Its fields belong to the Client's lock, but for the bytes of Buffers.
type slab struct {
	number, arena uint64
	start         int64
	bytes         []byte
	buffers       int // neither sealed nor discarded
	recalled      bool
	guarded       bool  // some pages are read-only
	warm          int64 // up to where pages have been written by this process
}

// window is what is open of a slab and not used yet. Without a slab it is empty.
type window struct {
	slab     *slab
	from, to int64
}

type waiter struct {
	size int64
	done chan granted // of one
}

type granted struct {
	buffer *Buffer
	err    error
}

// Buffer is room for one object. It belongs to one goroutine, and is of no use after Seal or Discard.
type Buffer struct {
	c      *Client
	slab   *slab
	offset int64 // in the slab
	bytes  []byte
	cold   bool // some of its pages are not in this process's page table
	shown  bool
	done   bool
}

// Put copies the parts, one behind another, and seals them as one object.
func (c *Client) Put(ctx context.Context, object id.Object, m Meta, parts ...[]byte) error {
	var size int64
	for _, p := range parts {
		size += int64(len(p))
	}
	b, err := c.alloc(ctx, size)
	if err != nil {
		return err
	}
	copyParts(b.bytes, parts, b.cold)
	return b.Seal(object, m)
}

// Alloc gives room for an object of size bytes, which hold anything. It waits, if it must, until the agent has room,
// refuses or ctx ends.
func (c *Client) Alloc(ctx context.Context, size int64) (*Buffer, error) {
	b, err := c.alloc(ctx, size)
	if b != nil {
		b.shown = true
		if b.cold {
			pages.Enter(b.bytes)
		}
	}
	return b, err
}

func (c *Client) alloc(ctx context.Context, size int64) (*Buffer, error) {
	if size <= 0 {
		return nil, fmt.Errorf("objstore/client: an object of %d bytes: %w", size, os.ErrInvalid)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("objstore/client: %w", ErrClosed)
	}
	if len(c.waiting) == 0 {
		if b := c.take(size); b != nil {
			c.mu.Unlock()
			return b, nil
		}
	}
	w := &waiter{size, make(chan granted, 1)}
	c.waiting = append(c.waiting, w)
	if err := c.serve(); err != nil && c.leaves(w) {
		c.mu.Unlock()
		return nil, err
	}
	c.mu.Unlock()
	select {
	case g := <-w.done:
		return g.buffer, g.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaves(w) { // MAP-6
		if c.asked == w {
			if err := c.agent.Withdraw(); err != nil {
				return nil, err
			}
		}
		return nil, fmt.Errorf("objstore/client: waited for %d bytes of shared memory: %w", size, context.Cause(ctx))
	}
	g := <-w.done // it came meanwhile
	return g.buffer, g.err
}

// leaves takes w from those who wait, and tells whether it was still there.
func (c *Client) leaves(w *waiter) bool {
	i := slices.Index(c.waiting, w)
	if i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
	return i >= 0
}

// take lays an object into the window.
func (c *Client) take(size int64) *Buffer {
	room := (size + align - 1) / align * align
	if c.at.slab == nil || size > c.at.to-c.at.from || room > c.at.to-c.at.from {
		return nil
	}
	s, from := c.at.slab, c.at.from
	c.at.from += room
	s.buffers++
	cold := c.at.from > s.warm
	s.warm = max(s.warm, c.at.from)
	return &Buffer{c: c, slab: s, offset: from, bytes: s.bytes[from : from+size : from+size], cold: cold}
}

// serve gives to those who wait what fits, and asks the agent for the first that does not.
func (c *Client) serve() error {
	for len(c.waiting) > 0 && c.asked == nil {
		w := c.waiting[0]
		if b := c.take(w.size); b != nil {
			c.waiting = c.waiting[1:]
			w.done <- granted{buffer: b}
			continue
		}
		if at := c.at; at.slab != nil {
			c.at = window{}
			if at.from < at.to {
				if err := c.agent.Forgo(at.slab.number, at.from, at.to-at.from); err != nil {
					return err
				}
			}
		}
		if err := c.agent.WantSlab(w.size); err != nil {
			return err
		}
		c.asked = w
	}
	return nil
}

// Bytes are to be written, until Seal or Discard.
func (b *Buffer) Bytes() []byte { return b.bytes }

// Seal makes the object. This process holds it from then on, until Drop.
func (b *Buffer) Seal(object id.Object, m Meta) error {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.done {
		return fmt.Errorf("objstore/client: seal a buffer twice: %w", os.ErrInvalid)
	}
	if c.closed {
		return fmt.Errorf("objstore/client: seal: %w", c.discard(b, ErrClosed))
	}
	if c.held[object] != nil {
		return fmt.Errorf("objstore/client: seal %s/%d: %w", object.Task, object.Index, c.discard(b, os.ErrExist))
	}
	b.done = true
	b.slab.buffers--
	if b.shown {
		b.slab.guard(b.offset, b.offset+int64(len(b.bytes))) // MAP-5
	}
	loc := Location{b.slab.arena, b.slab.start + b.offset, int64(len(b.bytes))}
	if err := c.agent.Seal(object, b.slab.number, b.offset, loc.Size, m); err != nil {
		return err
	}
	c.held[object] = &held{location: loc, deliveries: 1}
	return c.leave(b.slab)
}

// Discard gives the room back.
func (b *Buffer) Discard() error {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	if b.done {
		return nil
	}
	return b.c.discard(b, nil)
}

// discard gives the room of b back, and why or what went wrong with that.
func (c *Client) discard(b *Buffer, why error) error {
	b.done = true
	b.slab.buffers--
	if !c.closed && !b.slab.recalled {
		if err := c.agent.Forgo(b.slab.number, b.offset, int64(len(b.bytes))); err != nil && why == nil {
			why = err
		}
	}
	if err := c.leave(b.slab); err != nil && why == nil {
		why = err
	}
	return why
}

// mapSlab maps a slab for writing. A child made by fork does not get it: what it wrote by mistake would be read by others.
func mapSlab(f *os.File, start, size int64) ([]byte, error) {
	bytes, err := pages.Map(int(f.Fd()), start, size, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	if err := unix.Madvise(bytes, unix.MADV_DONTFORK); err != nil {
		_ = pages.Unmap(bytes)
		return nil, fmt.Errorf("madvise: %w", err)
	}
	unix.Madvise(bytes, unix.MADV_DONTDUMP)
	return bytes, nil
}

func (s *slab) unmap() error {
	bytes := s.bytes
	s.bytes = nil
	return pages.Unmap(bytes)
}

// guard makes the whole pages of [from, to) read-only. If the kernel won't, there is one guard less.
func (s *slab) guard(from, to int64) {
	if to-from < guardFrom {
		return
	}
	if pages := s.pages(from, to); unix.Mprotect(pages, unix.PROT_READ) == nil {
		s.guarded = true
	}
}

// unguard makes [from, to) writable: no page of it belongs to an object any more.
func (s *slab) unguard(from, to int64) error {
	if !s.guarded {
		return nil
	}
	pages := s.pages(from, to)
	if len(pages) == 0 {
		return nil
	}
	return unix.Mprotect(pages, unix.PROT_READ|unix.PROT_WRITE)
}

func (s *slab) pages(from, to int64) []byte {
	page := int64(os.Getpagesize())
	from, to = (from+page-1)/page*page, to/page*page
	if from >= to {
		return nil
	}
	return s.bytes[from:to]
}
