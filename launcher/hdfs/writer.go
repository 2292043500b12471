package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// writer writes a new file by a connection of its own, and ends once the blocks are where HDFS wants them.
type writer struct {
	*hdfs.FileWriter
	c   *Client
	end func() // of the connection; may be called again
}

// newFile makes one that does not exist, and is in a form that the library knows. make makes it.
func (c *Client) newFile(name string, make func(*hdfs.Client) (*hdfs.FileWriter, error)) (*writer, error) {
	h, end, err := c.apart()
	if err != nil {
		return nil, c.told(err)
	}
	w := &writer{c: c, end: end}
	if w.FileWriter, err = make(h); err == nil {
		err = checkNew(h, name)
	}
	if err != nil {
		w.end()
		return nil, c.told(err)
	}
	return w, nil
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
func Create(ctx context.Context, h *hdfs.Client, name string) (io.WriteCloser, error) {
	w, err := h.Create(name)
	if err == nil {
		err = checkNew(h, name)
	}
	if err != nil {
		return nil, err
	}
	return &closed{w, ctx}, nil
}

// closed is such a file.
type closed struct {
	*hdfs.FileWriter
	ctx context.Context
}

// Close is io.Closer's.
func (c *closed) Close() error { return Closed(c.ctx, c.FileWriter) }

// Write is io.Writer's.
func (w *writer) Write(b []byte) (int, error) {
	n, err := w.FileWriter.Write(b)
	return n, w.c.told(ofBlock(err))
}

// Close waits a while for the last block's copies.
func (w *writer) Close() error {
	defer w.end()
	return w.c.told(ofBlock(Closed(context.Background(), w.FileWriter)))
}

// drop ends the writing of what is nobody's any more. The connection goes first: no NameNode is told any more of a file that is not whole.
func (w *writer) drop() {
	w.end()
	_ = w.FileWriter.Close()
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
