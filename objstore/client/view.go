package client

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// arena is shared memory that this process may read.
type arena struct {
	number uint64
	bytes  []byte
	views  int
	gone   bool // to be unmapped with the last view
}

// held is an object in shared memory of which this process knows.
type held struct {
	location   Location
	deliveries uint32
	views      int
	dropped    bool
	left       bool // where it lies is not known any more
}

// View is the bytes of one object. Release it when no slice of them is used any more.
type View struct {
	c        *Client
	object   id.Object
	bytes    []byte
	released bool
}

// Arena maps an arena for reading; the file is taken over. An arena that is mapped stays as it is.
func (c *Client) Arena(number uint64, read *os.File) error {
	defer closeFile(read)
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.arenas[number]; a != nil || c.closed { // MAP-2
		return nil
	}
	bytes, err := mapArena(read)
	if err != nil {
		return fmt.Errorf("objstore/client: arena %d: %w", number, err)
	}
	c.arenas[number] = &arena{number: number, bytes: bytes}
	return nil
}

// mapArena maps a whole arena, if its size can't change: else reading it might end in SIGBUS.
func mapArena(f *os.File) ([]byte, error) {
	const size = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&size != size {
		return nil, fmt.Errorf("its size is not sealed (%v): %w", err, ErrProtocol)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	bytes, err := pages.Map(int(f.Fd()), 0, st.Size(), unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	unix.Madvise(bytes, unix.MADV_DONTDUMP)
	return bytes, nil
}

// Gone hears that the agent gave an arena back.
func (c *Client) Gone(number uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.arenas[number]
	if a == nil {
		return nil
	}
	a.gone = true
	return c.unmapArena(a)
}

func (c *Client) unmapArena(a *arena) error {
	if !a.gone || a.views > 0 {
		return nil
	}
	delete(c.arenas, a.number)
	if err := pages.Unmap(a.bytes); err != nil {
		return fmt.Errorf("objstore/client: arena %d: munmap: %w", a.number, err)
	}
	return nil
}

// Located hears from the agent where an object lies: one delivery.
func (c *Client) Located(object id.Object, l Location) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[object]
	if h == nil {
		h = &held{location: l}
		c.held[object] = h
	} else if h.left {
		h.location, h.left = l, false
	} else if h.location != l {
		return fmt.Errorf("objstore/client: %s/%d moved from %+v to %+v: %w", object.Task, object.Index, h.location, l, ErrProtocol)
	}
	h.deliveries++
	h.dropped = false
	return nil
}

// View gives the bytes of an object that was located, or sealed here. It asks nobody.
func (c *Client) View(object id.Object) (*View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[object]
	if h == nil || h.dropped || h.left {
		return nil, fmt.Errorf("objstore/client: view %s/%d: %w", object.Task, object.Index, ErrUnknown)
	}
	a, l := c.arenas[h.location.Arena], h.location
	if a == nil {
		return nil, fmt.Errorf("objstore/client: view %s/%d: arena %d: %w", object.Task, object.Index, l.Arena, ErrUnknown)
	}
	if n := int64(len(a.bytes)); l.Offset < 0 || l.Size < 0 || l.Offset > n || l.Size > n-l.Offset {
		return nil, fmt.Errorf("objstore/client: view %s/%d: [%d, +%d) of arena %d, which has %d: %w", object.Task, object.Index, l.Offset, l.Size, l.Arena, n, ErrProtocol)
	}
	h.views++
	a.views++
	return &View{c: c, object: object, bytes: a.bytes[l.Offset : l.Offset+l.Size : l.Offset+l.Size]}, nil
}

// Leave forgets where an object lies, which the agent wants to move; Located may tell it anew. false: a View of it is open.
func (c *Client) Leave(object id.Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[object]
	if h != nil && h.views > 0 {
		return false
	}
	if h != nil {
		h.left = true
	}
	return true
}

// Viewed tells whether a View of the object is open.
func (c *Client) Viewed(object id.Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[object]
	return h != nil && h.views > 0
}

// Bytes are valid until Release. Writing to them faults.
func (v *View) Bytes() []byte { return v.bytes }

// Release ends the view. A second one does nothing.
func (v *View) Release() error {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.released {
		return nil
	}
	v.released, v.bytes = true, nil
	h := c.held[v.object]
	h.views--
	a := c.arenas[h.location.Arena]
	a.views--
	if err := c.unmapArena(a); err != nil {
		return err
	}
	return c.letGo(v.object, h)
}

// Drop says that the program has no reference to the object any more. Views of it stay valid.
func (c *Client) Drop(object id.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[object]
	if h == nil || h.dropped {
		return fmt.Errorf("objstore/client: drop %s/%d: %w", object.Task, object.Index, ErrUnknown)
	}
	h.dropped = true
	return c.letGo(object, h)
}

// letGo tells the agent of an object that nobody here uses.
func (c *Client) letGo(object id.Object, h *held) error {
	if !h.dropped || h.views > 0 { // MAP-3
		return nil
	}
	delete(c.held, object)
	return c.agent.Release(object, h.deliveries)
}
