package hdfs

import (
	"errors"
	"math/rand/v2"
	"os"

	"github.com/colinmarc/hdfs/v2"
)

// reserve makes an empty file where there must be none, which is to be replaced at once: the library's rename takes whatever place it is told to. Its
// block size is one that no other file has, and its mark: a create whose answer was lost finds it there, and another program's is none of ours. The mark
// is for unreserve, also if this fails; 0: nothing was tried.
func (c *Client) reserve(name string) (mark uint64, err error) {
	err = c.again(patience, refused, func(h *hdfs.Client) error {
		o, err := h.ServerDefaults()
		if err != nil {
			return err
		}
		if mark == 0 {
			mark = uint64(o.BlockSize) + 512*(1+rand.Uint64N(1<<24))
		}
		f, err := h.CreateFile(name, o.Replication, int64(mark), 0o644)
		if err == nil {
			return f.Close()
		}
		if errors.Is(err, os.ErrExist) {
			if info, there := h.Stat(name); there == nil && reserved(info, mark) {
				return nil
			}
		}
		return err
	})
	return mark, err
}

// reserved tells such a file.
func reserved(info os.FileInfo, mark uint64) bool {
	e := entryOf(info)
	return e.Size == 0 && e.BlockSize == mark
}

// unreserve removes that file, if it is still there. One that another program has put in its place is not touched.
func (c *Client) unreserve(name string, mark uint64) {
	_ = c.again(spillRemove, refused, func(h *hdfs.Client) error {
		info, err := h.Stat(name)
		if err != nil || !reserved(info, mark) {
			return err
		}
		return h.Remove(name)
	})
}
