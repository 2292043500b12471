package hdfs

import (
	"io"
)

// Names gives the names in a directory.
func (c *Client) Names(path string) (names []string, err error) {
	all, err := c.list(path)
	for _, e := range all {
		names = append(names, e.Name)
	}
	return names, err
}

// File is an open file, for one goroutine at a time.
type File interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// Open opens a file for reading.
func (c *Client) Open(path string) (File, error) {
	r := &reader{c: c, name: clean(path)}
	if err := r.open(refused); err != nil {
		return nil, err
	}
	return r, nil
}
