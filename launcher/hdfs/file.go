package hdfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn/conf"
)

// entryOf is what is said of a file.
func entryOf(info os.FileInfo) entry {
	st := info.Sys().(*hdfs.FileStatus) // as the library says
	return entry{
		Name: info.Name(), ID: st.GetFileId(), Size: info.Size(), Modified: info.ModTime().UnixMilli(), Directory: info.IsDir(), Mode: uint32(st.GetPermission().GetPerm()),
		Owner: st.GetOwner(), Group: st.GetGroup(), Replication: st.GetBlockReplication(), BlockSize: st.GetBlocksize(),
	}
}

func (c *Client) stat(name string) (e entry, err error) {
	err = c.again(patience, refused, func(h *hdfs.Client) error {
		info, err := h.Stat(clean(name))
		if err == nil {
			e = entryOf(info)
		}
		return err
	})
	return e, err
}

func (c *Client) list(name string) (all []entry, err error) {
	err = c.again(patience, refused, func(h *hdfs.Client) error {
		info, err := h.Stat(clean(name))
		if err == nil && !info.IsDir() {
			return unix.ENOTDIR
		}
		if err != nil {
			return err
		}
		infos, err := h.ReadDir(clean(name))
		all = all[:0]
		for _, i := range infos {
			all = append(all, entryOf(i))
		}
		return err
	})
	return all, err
}

func (c *Client) mkdir(name string, parents, exclusive bool) error {
	name = clean(name)
	tried := false
	return c.again(patience, refused, func(h *hdfs.Client) error {
		info, err := h.Stat(name)
		switch {
		case err == nil && exclusive && !tried, err == nil && !info.IsDir():
			return os.ErrExist
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
		tried = true
		if parents {
			return h.MkdirAll(name, c.permission(0o777))
		}
		return h.Mkdir(name, c.permission(0o777))
	})
}

// permission is what something new may have: less what fs.permissions.umask-mode says (022).
func (c *Client) permission(most os.FileMode) os.FileMode {
	mask, err := umask(c.conf)
	if err != nil { // New has seen to it
		mask = 0o077
	}
	return most &^ mask
}

// umask is what the site takes from whatever is new: in octal digits, or as what is left (u=rwx,g=rx,o=).
func umask(c *conf.Conf) (os.FileMode, error) {
	const key = "fs.permissions.umask-mode"
	text := c.Get(key)
	if text == "" {
		return 0o022, nil
	}
	if mask, err := strconv.ParseUint(text, 8, 16); err == nil {
		return os.FileMode(mask) & os.ModePerm, nil
	}
	left := os.FileMode(0)
	for part := range strings.SplitSeq(text, ",") {
		m := umaskPart.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return 0, fmt.Errorf("conf: %s: %s is %q, which is neither octal nor as in u=rwx,g=rx,o=", c.Source(key), key, text)
		}
		bits := os.FileMode(0)
		for i, letter := range "xwr" {
			if m[2] != "-" && strings.ContainsRune(m[3], letter) {
				bits |= 1 << i
			}
		}
		for i, letter := range "ogu" {
			if m[1] == "" || strings.ContainsRune(m[1], letter) || strings.Contains(m[1], "a") {
				left = left&^(0o7<<(3*i)) | bits<<(3*i)
			}
		}
	}
	return os.ModePerm &^ left, nil
}

// umaskPart is whose, how, and what is left to them.
var umaskPart = regexp.MustCompile(`^([ugoa]*)([=+-])([rwx]*)$`)

func (c *Client) remove(name string, recursive bool) error {
	tried := false
	return c.again(patience, refused, func(h *hdfs.Client) error {
		_, err := h.Stat(clean(name))
		if tried && errors.Is(err, os.ErrNotExist) { // by a call whose answer was lost
			return nil
		}
		if err != nil {
			return err
		}
		tried = true
		if recursive {
			return h.RemoveAll(clean(name))
		}
		return h.Remove(clean(name))
	})
}

// rename moves a file, onto another one too, or a directory. id is the file's, for a call whose answer is lost; 0: it is asked for.
func (c *Client) rename(from, to string, id uint64) error {
	from, to = clean(from), clean(to)
	tried := false
	return c.again(patience, refused, func(h *hdfs.Client) error {
		if id == 0 {
			info, err := h.Stat(from)
			if err != nil {
				return err
			}
			id = entryOf(info).ID
		}
		err := h.Rename(from, to)
		if tried && errors.Is(err, os.ErrNotExist) {
			if info, there := h.Stat(to); there == nil && entryOf(info).ID == id {
				return nil
			}
		}
		tried = true
		return err
	})
}

// draft is a file that is being written, beside the place that it will have.
type draft struct {
	c         *Client
	w         *writer
	name, as  string
	exclusive bool // there must be none in its place
	id        uint64
	done      bool  // all of it is where HDFS wants it
	failed    error // why not all of it was written
}

// maxName is how long names on HDFS may be, unless a site says otherwise.
const maxName = 255

// create begins a file, with the directories that it lies in. Until commit whoever reads it has the one before. exclusive: there must be none, now and
// when it takes its place.
func (c *Client) create(name string, exclusive bool) (*draft, error) {
	name = clean(name)
	d := &draft{c: c, name: name, exclusive: exclusive}
	dir, base := path.Split(name)
	if len(base) > maxName {
		return nil, unix.ENAMETOOLONG
	}
	d.as = path.Join(dir, fmt.Sprintf(".%.200s.%s.part", base, rand.Text()))
	var err error
	d.w, err = c.newFile(d.as, func(h *hdfs.Client) (*hdfs.FileWriter, error) {
		info, err := h.Stat(name)
		switch {
		case err == nil && info.IsDir():
			return nil, unix.EISDIR
		case err == nil && exclusive:
			return nil, os.ErrExist
		case errors.Is(err, os.ErrNotExist):
			if err = h.MkdirAll(dir, c.permission(0o777)); errors.Is(err, os.ErrExist) {
				err = unix.ENOTDIR
			}
		}
		if err != nil {
			return nil, err
		}
		o, err := h.ServerDefaults()
		if err != nil {
			return nil, err
		}
		return h.CreateFile(d.as, o.Replication, o.BlockSize, c.permission(0o666))
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (d *draft) write(b []byte) error {
	if d.failed == nil {
		_, d.failed = d.w.Write(b)
	}
	return d.failed
}

// finish waits until all of it is where HDFS wants it.
func (d *draft) finish() error {
	if d.done || d.failed != nil {
		return d.failed // half of it takes no place
	}
	if err := d.w.Close(); err != nil {
		return err
	}
	e, err := d.c.stat(d.as)
	d.id, d.done = e.ID, err == nil
	return err
}

// commit puts it in its place.
func (d *draft) commit() error {
	err := d.finish()
	var mark uint64
	if err == nil && d.exclusive {
		mark, err = d.c.reserve(d.name)
	}
	if err == nil {
		err = d.c.rename(d.as, d.name, d.id)
	}
	if err != nil {
		if mark != 0 {
			d.c.unreserve(d.name, mark)
		}
		d.discard()
	}
	return err
}

// discard removes it. What can't be removed is hidden, and in nobody's way.
func (d *draft) discard() {
	if !d.done {
		d.w.drop()
	}
	_ = d.c.again(0, refused, func(h *hdfs.Client) error { return h.Remove(d.as) })
}
