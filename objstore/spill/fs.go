package spill

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is a file system that nodes share, so that what lies there outlives each of them. Names have slashes between them. Its methods may
// be used by several goroutines.
type FS interface {
	// Create makes a new file, and the folders that it lies in. Closed, it is there for all nodes, and survives the end of this one.
	Create(name string) (io.WriteCloser, error)
	Open(name string) (Reader, error)
	// Remove removes a file; what is not there is no error.
	Remove(name string) error
	// RemoveAll removes a folder with all that is in it.
	RemoveAll(folder string) error
	// List gives the names in a folder; of one that is not there, none. Where it costs questions to learn all of them, it may give those alone that begin
	// so, and no more than most of them, 0: all.
	List(folder, begin string, most int) ([]string, error)
	// Space gives the bytes that are free, and all.
	Space() (free, all int64, err error)
	String() string
}

// Reader is an open file, for one goroutine at a time.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// Ahead is a Reader that likes to be told what will be read of it next, from its begin to its end.
type Ahead interface{ Ahead(off, n int64) }

// Dir is a directory that nodes share, as an FS.
type Dir string

type dirFile struct{ *os.File }

// Size is how large the file is.
func (f dirFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// synced is a file whose Close returns once its bytes are where they survive.
type synced struct{ *os.File }

// Close tells whether all of it is there.
func (f synced) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

func (d Dir) path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// Create is FS's.
func (d Dir) Create(name string) (io.WriteCloser, error) {
	path := d.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return synced{f}, nil
}

// Open is FS's.
func (d Dir) Open(name string) (Reader, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return dirFile{f}, nil
}

// Remove is FS's.
func (d Dir) Remove(name string) error {
	if err := os.Remove(d.path(name)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAll is FS's.
func (d Dir) RemoveAll(folder string) error { return os.RemoveAll(d.path(folder)) }

// List is FS's.
func (d Dir) List(folder, _ string, _ int) (names []string, err error) {
	entries, err := os.ReadDir(d.path(folder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Space is FS's.
func (d Dir) Space() (free, all int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", d, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

func (d Dir) String() string { return string(d) }
