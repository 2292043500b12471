package hdfs

import (
	"errors"
	"io"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"
)

// reader reads a file, by a new connection when one broke. Bytes that are asked for in their order come by one connection. It is for one
// goroutine at a time.
type reader struct {
	c    *Client
	name string
	f    *hdfs.FileReader
	id   uint64 // of the file: another one under its name is not read on in; 0: of the first that is opened
	size int64
	at   int64 // where f goes on
}

// open opens the file, and anew the same one.
func (r *reader) open(final func(error) bool) error {
	r.at = 0
	return r.c.again(patience, final, func(h *hdfs.Client) error {
		f, err := h.Open(r.name)
		if err != nil {
			return err
		}
		status, err := plainFile(r.name, f.Stat())
		if err != nil {
			return err
		}
		if r.id != 0 && status.GetFileId() != r.id {
			return errReplaced
		}
		if r.id == 0 { // of one that grows meanwhile the rest is not read
			r.size = int64(status.GetLength())
		}
		r.f, r.id = f, status.GetFileId()
		return nil
	})
}

// plainFile refuses what is no file, or one that the library would read wrong.
func plainFile(name string, info interface{ Sys() any }) (*hdfs.FileStatus, error) {
	status := info.Sys().(*hdfs.FileStatus) // as the library says
	switch {
	case status.GetEcPolicy() != nil:
		return nil, &formError{path: name, form: "erasure-coded (" + status.GetEcPolicy().GetName() + ")"}
	case status.GetFileEncryptionInfo() != nil:
		return nil, &formError{path: name, form: "encrypted"}
	case isFolder(status):
		return nil, unix.EISDIR
	}
	return status, nil
}

// isFolder tells a directory.
func isFolder(status *hdfs.FileStatus) bool { return status.GetFileType() == 1 }

// ReadAt is io.ReaderAt's, for one goroutine at a time.
func (r *reader) ReadAt(b []byte, off int64) (n int, err error) {
	if off >= r.size {
		return 0, io.EOF
	}
	short := off+int64(len(b)) > r.size
	if short {
		b = b[:r.size-off]
	}
	for began := time.Now(); ; {
		var m int
		m, err = r.read(b[n:], off+int64(n))
		if n += m; n == len(b) {
			if short {
				return n, io.EOF
			}
			return n, nil
		}
		if answered(err) || time.Since(began) > patience {
			return n, r.c.told(err)
		}
		_ = r.f.Close()
		time.Sleep(again)
		if err := r.open(answered); err != nil {
			return n, err
		}
	}
}

// read is one try. The library connects anew for each place that it is sent to, so it is sent nowhere where it is.
func (r *reader) read(b []byte, off int64) (n int, err error) {
	if off != r.at {
		if _, err := r.f.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
		r.at = off
	}
	n, err = io.ReadFull(r.f, b)
	r.at += int64(n)
	if err == nil || errors.Is(err, io.EOF) && n == len(b) {
		return n, nil
	}
	return n, err
}

// Size is what the file had when it was opened.
func (r *reader) Size() (int64, error) { return r.size, nil }

// Close ends the reading.
func (r *reader) Close() error { return r.f.Close() }
