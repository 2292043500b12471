package hdfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/yarn"
)

// SpillStore is a folder on HDFS for values that a node's memory has no room for. What is asked of a NameNode is asked again while none
// answers, and what is read goes on behind what came; a write goes on at other DataNodes when one is
// lost (HDFS-6), and where it can't it is an error, and is done anew by whoever has the bytes.
type SpillStore struct {
	uri  string
	base string // path of the folder
	c    *Client
}

// spillRemove is how long is asked again for what need not be.
const spillRemove = 5 * time.Second

// OpenSpill gives the store of a URI: hdfs://namenode:8020/folder, hdfs://nameservice/folder, or hdfs:///folder of the file system that Hadoop's
// configuration names first. It connects with the first call.
func OpenSpill(uri string, getenv func(string) string) (agent.SpillFS, error) {
	rest, found := strings.CutPrefix(uri, scheme)
	host, folder, _ := strings.Cut(rest, "/")
	if !found || folder == "" {
		return nil, fmt.Errorf("hdfs: %q names no folder on HDFS; one looks like hdfs://namenode:8020/user/me/spill", uri)
	}
	c, err := New(scheme+host, getenv)
	if err != nil {
		return nil, err
	}
	return &SpillStore{uri: strings.TrimSuffix(uri, "/"), base: "/" + folder, c: c}, nil
}

func (s *SpillStore) String() string { return s.uri }

func (s *SpillStore) path(name string) string { return path.Join(s.base, name) }

// Create is agent.SpillFS's.
func (s *SpillStore) Create(name string) (io.WriteCloser, error) {
	w, err := s.c.newFile(s.path(name), func(h *hdfs.Client) (*hdfs.FileWriter, error) {
		if err := h.MkdirAll(path.Dir(s.path(name)), 0o700); err != nil {
			return nil, err
		}
		return h.Create(s.path(name))
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Open is agent.SpillFS's.
func (s *SpillStore) Open(name string) (agent.SpillReader, error) {
	r := &reader{c: s.c, name: s.path(name)}
	if err := r.open(answered); err != nil {
		return nil, ofSpill(err)
	}
	return spillReader{r}, nil
}

// spillReader reads a file, and tells HDFS's answers from its silence.
type spillReader struct{ *reader }

// ReadAt is io.ReaderAt's, for one goroutine at a time.
func (r spillReader) ReadAt(b []byte, off int64) (int, error) {
	began := time.Now()
	n, err := r.reader.ReadAt(b, off)
	return n, r.told(err, began)
}

// told is what came of a read since then. That those who could be asked do not give a block is no answer while one was not there to be asked.
func (r spillReader) told(err error, began time.Time) error {
	if blockless(err) && r.c.missed.Load() >= began.UnixNano() {
		return err
	}
	return ofSpill(err)
}

// notGiven is HDFS's word that it does not give a file.
type notGiven struct{ error }

// Unwrap gives what was said.
func (e *notGiven) Unwrap() error { return e.error }

// Is makes it agent.ErrSpillRefused, and os.ErrPermission where it is for want of rights.
func (e *notGiven) Is(target error) bool {
	return target == agent.ErrSpillRefused || target == os.ErrPermission && denied(e.error)
}

// ofSpill marks what was answered: by a NameNode, or by DataNodes that have none of a block.
func ofSpill(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !unasked(err) && (refused(err) || blockless(err)) {
		return &notGiven{err}
	}
	return err
}

// unasked tells whether HDFS did not come to say anything: here something lacks, or no KDC gives a ticket.
func unasked(err error) bool {
	var site *yarn.Error
	return errors.As(err, new(*setupError)) || errors.As(err, &site) && site.Kind == yarn.ErrCredentials && site.Class == ""
}

// blockless tells whether no DataNode is known to have a block, or all that are say that they do not give it. The library has texts for that alone.
func blockless(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return text == "no available datanodes" || strings.HasPrefix(text, "read failed: ")
}

// Remove is agent.SpillFS's.
func (s *SpillStore) Remove(name string) error {
	err := s.c.again(spillRemove, answered, func(h *hdfs.Client) error { return h.Remove(s.path(name)) })
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveAll is agent.SpillFS's.
func (s *SpillStore) RemoveAll(folder string) error {
	err := s.c.again(spillRemove, answered, func(h *hdfs.Client) error { return h.RemoveAll(s.path(folder)) })
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// List is agent.SpillFS's.
func (s *SpillStore) List(folder, _ string, _ int) (names []string, err error) {
	err = s.c.again(patience, answered, func(h *hdfs.Client) error {
		infos, err := h.ReadDir(s.path(folder))
		names = names[:0]
		for _, i := range infos {
			names = append(names, i.Name())
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// Space is agent.SpillFS's.
func (s *SpillStore) Space() (free, all int64, err error) {
	err = s.c.again(patience, answered, func(h *hdfs.Client) error {
		info, err := h.StatFs()
		free, all = int64(info.Remaining), int64(info.Capacity)
		if err == nil && all == 0 { // the NameNode has just started
			err = fmt.Errorf("%s has no DataNode", s.uri)
		}
		return err
	})
	return free, all, err
}
