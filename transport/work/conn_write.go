package work

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/maniple-hpc/maniple/transport/wire"
)

// chunkSize is what goes into one call of the kernel at most.
const chunkSize = 64 << 10

// chunk is a part of what waits to be sent. Chunks are shared by all connections, so one that is idle has none.
type chunk struct {
	b    []byte
	file *os.File // goes along with the first byte
}

var chunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, chunkSize)} }}

func (k *chunk) recycle() {
	if k.file != nil {
		k.file.Close()
	}
	k.b, k.file = k.b[:0], nil
	chunks.Put(k)
}

// Append puts a frame, or frames, behind those that wait; parts are copied one behind the other. It is sent with
// the next Flush. The error is ErrFull, or why the connection ended.
func (c *Conn) Append(parts ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.roomLocked(); err != nil {
		return err
	}
	first := c.filled == 0
	for _, p := range parts {
		c.appendLocked(p)
	}
	if first && c.polled != nil && c.filled >= wire.HeaderSize {
		c.polled.poll.chain.name(c.fill[0].b)
	}
	return nil
}

func (c *Conn) appendLocked(b []byte) {
	c.filled += len(b)
	for len(b) > 0 {
		n := len(c.fill)
		if n == 0 || len(c.fill[n-1].b) == chunkSize {
			c.fill = append(c.fill, chunks.Get().(*chunk))
			n++
		}
		k := c.fill[n-1]
		part := min(len(b), chunkSize-len(k.b))
		k.b = append(k.b, b[:part]...)
		b = b[part:]
	}
}

// AppendFile appends one frame with a descriptor, which stays the caller's and may be closed at once.
func (c *Conn) AppendFile(f *os.File, frame []byte) error {
	if c.unix == nil {
		return fmt.Errorf("work: %T carries no descriptors", c.nc)
	}
	own, err := dup(f)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.roomLocked(); err != nil {
		own.Close()
		return err
	}
	k := chunks.Get().(*chunk)
	k.file = own
	c.fill = append(c.fill, k)
	c.appendLocked(frame)
	k.b[11] |= wire.FlagDescriptor
	return nil
}

// Send appends a message that is not hot, and flushes.
func (c *Conn) Send(m wire.Message, corr uint64, payload []byte) error {
	frame, err := AppendMessage(nil, m, corr, payload)
	if err == nil {
		err = c.Append(frame)
	}
	if err == nil {
		c.Flush()
	}
	return err
}

func (c *Conn) roomLocked() error {
	switch {
	case c.err != nil:
		return c.err
	case c.finishing:
		return ErrClosed
	case c.filled+c.sending >= c.cfg.MaxUnsent:
		c.full = true
		return ErrFull
	}
	return nil
}

// Flush has what was appended sent. What a socket of this machine has room for goes in the caller's call, which saves
// waking the writer; all else the writer sends, as soon as what it has is through.
func (c *Conn) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filled == 0 || c.flush {
		return
	}
	if c.polled != nil {
		c.polled.poll.chain.spoke(c)
	}
	if c.unix != nil && c.sending == 0 && !c.full && !c.finishing {
		c.writeNowLocked()
	}
	if c.filled > 0 {
		c.flush = true
		c.cond.Signal()
	}
}

// writeNowLocked writes what there is room for, up to a chunk that has a file. The writer has nothing.
func (c *Conn) writeNowLocked() {
	through := 0
	for _, k := range c.fill {
		if k.file != nil {
			break
		}
		n := c.unix.writeNow(k.b)
		c.filled -= n
		if n < len(k.b) {
			k.b = append(k.b[:0], k.b[n:]...)
			break
		}
		k.recycle()
		through++
	}
	c.fill = slices.Delete(c.fill, 0, through)
}

// Unsent is how many bytes have been appended and not written.
func (c *Conn) Unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.filled + c.sending
}

// write is the writer's goroutine: it swaps its empty list for the filled one and writes that, until the
// connection ends.
func (c *Conn) write() {
	var out []*chunk
	for {
		c.mu.Lock()
		for !c.flush && !c.finishing && c.err == nil {
			c.cond.Wait()
		}
		if c.err != nil {
			c.mu.Unlock()
			return
		}
		out, c.fill = c.fill, out[:0]
		c.sending, c.filled, c.flush = c.filled, 0, false
		last := c.finishing
		c.mu.Unlock()
		err := c.writeAll(out)
		if err == nil && last { // nothing was appended since
			err = ErrClosed
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// writeAll writes and recycles chunks.
func (c *Conn) writeAll(out []*chunk) error {
	var err error
	for i, k := range out {
		if err == nil {
			err = c.writeChunk(k)
		}
		k.recycle()
		out[i] = nil
	}
	return err
}

func (c *Conn) writeChunk(k *chunk) error {
	b := k.b
	if k.file != nil {
		n, err := c.unix.write(b, k.file)
		if err != nil {
			return wrap("write", err)
		}
		b = b[n:]
	}
	if len(b) > 0 {
		if _, err := c.nc.Write(b); err != nil {
			return wrap("write", err)
		}
	}
	c.mu.Lock()
	c.sending -= len(k.b)
	room := c.full && c.filled+c.sending <= c.cfg.MaxUnsent/2
	c.full = c.full && !room
	c.mu.Unlock()
	if room {
		c.cfg.OnRoom()
	}
	return nil
}
