package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// A file that is being written outlives a DataNode of its last block, as long as another one has that too: the NameNode has the file closed where it is whole, and it goes on
// behind that. So of what was written the end is kept that DataNodes may not have said to have: the library sends 64 KiB at a time, and never eight of these ahead, until
// it hears of a loss; behind that it sends 1 MiB at most (heardConn).
// Of a small file that is all of it, which is written anew, wherever the first one was.
const (
	ahead = 2 << 20   // what may be missing, and is sent at a time
	kept  = 3 * ahead // of it what is kept at most

	closings = 5 // how often the end of a file is brought to DataNodes
)

// writer writes a new file by a connection of its own, and ends once the blocks are where HDFS wants them.
type writer struct {
	*hdfs.FileWriter
	line
	c    *Client
	name string
	make func(*hdfs.Client) (*hdfs.FileWriter, error)
	size int64  // what was written
	tail []byte // the end of it

	failed error // why it can't be written to its end
}

// newFile makes one that does not exist, and is in a form that the library knows. make makes it.
func (c *Client) newFile(name string, make func(*hdfs.Client) (*hdfs.FileWriter, error)) (*writer, error) {
	w := &writer{c: c, name: name, make: make}
	if err := w.begin(); err != nil {
		return nil, c.told(err)
	}
	return w, nil
}

// begin makes the file.
func (w *writer) begin() error {
	l, err := w.c.apart()
	if err != nil {
		return err
	}
	f, err := w.make(l.Client)
	if err == nil {
		err = checkNew(l.Client, w.name)
	}
	if err != nil {
		l.end()
		return err
	}
	w.line, w.FileWriter = l, f
	return nil
}

// Write is io.Writer's.
func (w *writer) Write(b []byte) (n int, err error) {
	for n < len(b) && w.failed == nil {
		some := b[n:min(len(b), n+ahead)]
		if len(w.tail)+len(some) > kept {
			w.tail = w.tail[:copy(w.tail, w.tail[len(w.tail)-ahead:])]
		}
		w.tail, w.size = append(w.tail, some...), w.size+int64(len(some))
		if _, err = w.FileWriter.Write(some); err != nil {
			err = w.goOn(ofBlock(err))
		}
		if err != nil {
			w.failed = w.c.told(err)
			break
		}
		n += len(some)
	}
	return n, w.failed
}

// Close waits a while for the last block's copies.
func (w *writer) Close() error {
	defer func() { w.end() }()
	if w.failed != nil { // nobody waits once more
		w.drop()
		return w.failed
	}
	for try := 1; ; try++ {
		err := ofBlock(Closed(context.Background(), w.FileWriter))
		if err == nil {
			return nil
		}
		if try < closings {
			err = w.goOn(err)
		}
		if err != nil {
			return w.c.told(err)
		}
	}
}

// goOn has the file go on where a DataNode was lost; what else went wrong stays wrong.
func (w *writer) goOn(lost error) error {
	for began := time.Now(); errors.As(lost, new(*blockError)) && time.Since(began) < patience; time.Sleep(again) {
		w.way.Break(context.Background())
		w.drop()
		final, err := w.anew()
		if err == nil {
			return nil
		}
		if lost = ofBlock(err); final {
			break
		}
	}
	return lost
}

// anew opens the file behind what is left of it, and writes the rest. final: of it there is not enough.
func (w *writer) anew() (final bool, err error) {
	if w.size == int64(len(w.tail)) {
		if err := w.c.again(patience, refused, func(h *hdfs.Client) error { return h.Remove(w.name) }); err != nil && !errors.Is(err, os.ErrNotExist) {
			return true, err
		}
		if err := w.begin(); err != nil {
			return false, err
		}
		_, err := w.FileWriter.Write(w.tail)
		return false, err
	}
	l, err := w.c.apart()
	if err != nil {
		return true, err
	}
	w.line = l
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.way.Recover(ctx, w.name); err != nil {
		return true, err
	}
	info, err := l.Stat(w.name)
	if err != nil {
		return true, err
	}
	missing := w.size - info.Size()
	if missing < 0 || missing > int64(len(w.tail)) {
		return true, fmt.Errorf("of %d bytes %d are left", w.size, info.Size())
	}
	f, err := l.Append(w.name)
	if err != nil {
		return false, err
	}
	w.FileWriter = f
	if missing > 0 { // to write nothing behind a block that is full begins one that stays empty
		_, err = f.Write(w.tail[int64(len(w.tail))-missing:])
	}
	return false, err
}

// drop ends the writing of what is nobody's any more. The connection goes first: no NameNode is told any more of a file that is not whole.
func (w *writer) drop() {
	w.end()
	_ = w.FileWriter.Close()
}

// checkNew refuses a file that was just made, and removes it, if HDFS made it in a form that is not written here.
func checkNew(h *hdfs.Client, name string) error {
	info, err := h.Stat(name)
	if err == nil {
		_, err = plainFile(name, info)
	}
	var form *formError
	if errors.As(err, &form) {
		err = &formError{form.path, form.form, true}
	}
	if err != nil {
		_ = h.Remove(name)
	}
	return err
}

// Create makes a file by a client of the library's. It is in a form that is known here, and whole once Close, which waits as long as ctx, has returned.
// An error may be that of a DataNode that was lost (LostDataNode): then it is to be written again, which is for the caller.
func Create(ctx context.Context, h *hdfs.Client, name string) (io.WriteCloser, error) {
	w, err := h.Create(name)
	if err == nil {
		err = checkNew(h, name)
	}
	if err != nil {
		return nil, err
	}
	return &closed{FileWriter: w, ctx: ctx}, nil
}

// closed is such a file.
type closed struct {
	*hdfs.FileWriter
	ctx    context.Context
	failed error // why not all of it was written
}

// Write is io.Writer's.
func (c *closed) Write(b []byte) (n int, err error) {
	if c.failed == nil {
		n, err = c.FileWriter.Write(b)
		c.failed = ofBlock(err)
	}
	return n, c.failed
}

// Close is io.Closer's.
func (c *closed) Close() error {
	if c.failed != nil {
		_ = c.FileWriter.Close() // and waits for no copies
		return c.failed
	}
	return ofBlock(Closed(c.ctx, c.FileWriter))
}

// Closed closes a new file, and waits for a minute until its last block is where HDFS wants it.
func Closed(ctx context.Context, w *hdfs.FileWriter) error {
	for wait, began := again, time.Now(); ; wait = min(2*wait, rarely) {
		err := w.Close()
		if !hdfs.IsErrReplicating(err) {
			return err
		}
		if time.Since(began) > patience {
			return fmt.Errorf("HDFS has had fewer copies of its last block than it wants for %v: are DataNodes up (`hdfs dfsadmin -report`), and have they room? (%w)", patience, hdfs.ErrReplicating)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w: %w", hdfs.ErrReplicating, context.Cause(ctx))
		}
	}
}
