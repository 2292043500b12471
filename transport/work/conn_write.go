package work

import (
	"fmt"
	"os"

	"github.com/maniple-hpc/maniple/transport/wire"
)

// keepOut is up to how many bytes a buffer of the writer is kept for the next swap.
const keepOut = 256 << 10

// Append puts a frame, or frames, behind those that wait; parts are copied one behind the other. It is sent with
// the next Flush. The error is ErrFull, or why the connection ended.
func (c *Conn) Append(parts ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.roomLocked(); err != nil {
		return err
	}
	for _, p := range parts {
		c.fill = append(c.fill, p...)
	}
	return nil
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
	at := len(c.fill)
	c.files = append(c.files, outFile{at, own})
	c.fill = append(c.fill, frame...)
	c.fill[at+11] |= wire.FlagDescriptor
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
	case len(c.fill)+c.sending >= c.cfg.MaxUnsent:
		c.full = true
		return ErrFull
	}
	return nil
}

// Flush has what was appended sent, as soon as what is being sent is through.
func (c *Conn) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fill) > 0 && !c.flush {
		c.flush = true
		c.cond.Signal()
	}
}

// Unsent is how many bytes have been appended and not written.
func (c *Conn) Unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.fill) + c.sending
}

// write is the writer's goroutine: it swaps its buffer for the filled one and writes that, until the connection
// ends.
func (c *Conn) write() {
	var out []byte
	var files []outFile
	for {
		c.mu.Lock()
		room := c.sentLocked()
		for !room && !c.flush && !c.finishing && c.err == nil {
			c.cond.Wait()
		}
		if c.err != nil {
			c.mu.Unlock()
			return
		}
		if cap(out) > keepOut {
			out = nil
		}
		out, c.fill = c.fill, out[:0]
		files, c.files = c.files, files[:0]
		c.sending, c.flush = len(out), false
		last := c.finishing
		c.mu.Unlock()
		if room {
			c.cfg.OnRoom()
		}
		err := c.writeAll(out, files)
		closeOut(files)
		if err != nil {
			c.fail(wrap("write", err))
			return
		}
		if last { // nothing was appended since
			c.fail(ErrClosed)
			return
		}
	}
}

// sentLocked takes note that the writer has written what it had, and tells whether OnRoom is due.
func (c *Conn) sentLocked() bool {
	c.sending = 0
	if !c.full || len(c.fill) > c.cfg.MaxUnsent/2 {
		return false
	}
	c.full = false
	return true
}

// writeAll writes b, and each descriptor with the byte that it belongs to.
func (c *Conn) writeAll(b []byte, files []outFile) error {
	at := 0
	for i, f := range files {
		if err := c.writeBytes(b[at:f.at]); err != nil {
			return err
		}
		end := len(b)
		if i+1 < len(files) {
			end = files[i+1].at
		}
		n, err := c.unix.write(b[f.at:end], f.file)
		if err != nil {
			return err
		}
		at = f.at + n
	}
	return c.writeBytes(b[at:])
}

func (c *Conn) writeBytes(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.nc.Write(b)
	return err
}
