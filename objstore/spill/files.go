package spill

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const (
	block   = 1 << 20 // bytes that have one checksum
	segment = 1 << 30 // a segment of so many bytes gets no more files
)

// ErrDamaged: what was read is not what was written.
var ErrDamaged = errors.New("its bytes are not those that were written")

// ErrAway: a file system that nodes share does not give what lies there, now. It may another time: what it refuses for some minutes is lost.
var ErrAway = errors.New("it can't be had now")

// ErrUnknown: there is no such file or object.
var ErrUnknown = errors.New("unknown here")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Part is an object in a file.
type Part struct {
	Object id.Object // needed where others are to find it
	At     int64     // where it begins
	Bytes  []byte
}

// Directory is where files may lie. Those of an FS get what those on disks have no room for, in their order.
type Directory struct {
	Path string
	Full float64 // no more is written when so much of its file system is used, of 1
	FS   FS      // Path is a folder there for the files of this process alone; nil: it is on a disk of this node
	Ends string  // what Close removes of the FS; "": Path
}

func (d *Directory) String() string {
	if d.FS != nil {
		return d.FS.String()
	}
	return d.Path
}

// Files is all that is spilled. Make it with Open.
type Files struct {
	mu    sync.Mutex
	dirs  []*dir // on disks, which take turns
	far   []*dir // of an FS
	turn  int
	files map[uint64]*file
	shut  map[string]time.Time // by FS: when an object was lost there for want of rights, the last one; nothing was read since
	down  bool
}

// dir is a directory and the segment that is being filled there, by one at a time.
type dir struct {
	Directory
	writing chan struct{} // has one while somebody writes
	open    *seg
	used    int64 // bytes of files that lie there; the Files' lock guards it
}

// seg is a segment; the Files' lock guards what changes.
type seg struct {
	f    *os.File
	path string
	end  int64
	live int  // files in it
	open bool // to more
}

// file is where the objects of one Write lie.
type file struct {
	in       *seg
	kept     *kept // in place of in
	dir      *dir  // nil: inherited
	at, size int64
	parts    []part

	inherited bool
}

// part is an object in it. At is where the file's begin counts as 0.
type part struct {
	at, size int64
	sums     []uint32
	no       refusals // guarded by Files.mu
}

// Open looks whether files can be made in the directories on disks. Those where none can be it leaves out; the error says why, and
// goes along with Files unless all are.
func Open(dirs []Directory) (*Files, error) {
	f := &Files{files: map[uint64]*file{}, shut: map[string]time.Time{}}
	var errs []error
	for _, d := range dirs {
		if d.FS != nil {
			f.far = append(f.far, &dir{Directory: d, writing: make(chan struct{}, 1)})
			continue
		}
		s, err := create(d.Path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.dirs = append(f.dirs, &dir{Directory: d, open: s, writing: make(chan struct{}, 1)})
	}
	if len(f.dirs)+len(f.far) == 0 {
		return nil, errors.Join(append(errs, errors.New("spill: there is no directory to write to"))...)
	}
	return f, errors.Join(errs...)
}

// Probe looks whether files can be made in each FS, and read. It may take as long as a network does.
func (f *Files) Probe() (all error) {
	for _, d := range f.far {
		if err := probe(d.FS, path.Join(d.Path, "probe")); err != nil {
			all = errors.Join(all, fmt.Errorf("spill: %s: %w", d.FS, err))
		}
	}
	return all
}

// probe writes a byte, and reads it.
func probe(fs FS, name string) error {
	w, err := fs.Create(name)
	if err != nil {
		return err
	}
	_, err = w.Write([]byte{'x'})
	if err = errors.Join(err, w.Close()); err == nil {
		err = readProbe(fs, name)
	}
	return errors.Join(err, fs.Remove(name))
}

func readProbe(fs FS, name string) error {
	r, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	b := []byte{0}
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if b[0] != 'x' {
		return ErrDamaged
	}
	return nil
}

// create makes a segment without a name.
func create(in string) (*seg, error) {
	f, err := os.CreateTemp(in, "maniple-spill-")
	if err != nil {
		return nil, fmt.Errorf("spill: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil { // SPL-3
		f.Close()
		return nil, fmt.Errorf("spill: %w", err)
	}
	return &seg{f: f, path: in, open: true}, nil
}

// Directories gives the paths in use.
func (f *Files) Directories() (paths []string) {
	for _, d := range slices.Concat(f.dirs, f.far) {
		paths = append(paths, d.String())
	}
	return paths
}

// Use is what lies in a directory.
type Use struct {
	Path  string
	Bytes int64
}

// Uses says what lies where.
func (f *Files) Uses() (list []Use) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range slices.Concat(f.dirs, f.far) {
		list = append(list, Use{d.String(), d.used})
	}
	return list
}

// Where tells in which directory a file lies.
func (f *Files) Where(number uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x := f.files[number]; {
	case x == nil:
		return ""
	case x.kept != nil:
		return x.kept.fs.String()
	default:
		return x.dir.String()
	}
}

// Read gives [from, from+n) of the object that begins at at in a file, piece by piece; what it gives is good until the next piece.
func (f *Files) Read(number uint64, at, from, n int64, give func(offset int64, b []byte) error) error {
	f.mu.Lock()
	x := f.files[number]
	f.mu.Unlock()
	fail := func(err error) error { return fmt.Errorf("spill: file %d, object at %d: %w", number, at, err) }
	if x == nil {
		return fail(ErrUnknown)
	}
	p := x.part(at)
	if p == nil {
		return fail(ErrUnknown)
	}
	if from < 0 || n < 0 || from > p.size || n > p.size-from {
		return fail(fmt.Errorf("[%d, +%d) of %d bytes: %w", from, n, p.size, os.ErrInvalid))
	}
	in, where, err := x.reader()
	if err != nil {
		return fail(f.away(x, p, err))
	}
	if x.kept != nil {
		defer in.(Reader).Close()
	}
	if a, ok := in.(Ahead); ok && n > 0 {
		first := from / block * block
		a.Ahead(x.at+p.at+first, min((from+n+block-1)/block*block, p.size)-first)
	}
	buf := make([]byte, min(block, p.size))
	for k := from / block; k*block < from+n; k++ {
		begin := k * block
		b := buf[:min(block, p.size-begin)]
		_, err := in.ReadAt(b, x.at+p.at+begin)
		if err == nil && x.kept != nil && crc32.Checksum(b, castagnoli) != p.sums[k] { // a bit that was flipped on its way is right the second time
			_, err = in.ReadAt(b, x.at+p.at+begin)
		}
		if err != nil {
			return fail(f.away(x, p, fmt.Errorf("in %s: %w", where, err)))
		}
		if crc32.Checksum(b, castagnoli) != p.sums[k] { // SPL-1
			return fail(fmt.Errorf("in %s, bytes %d to %d: %w", where, begin, begin+int64(len(b)), ErrDamaged))
		}
		lo, hi := max(from, begin), min(from+n, begin+int64(len(b)))
		if err := give(lo-from, b[lo-begin:hi-begin]); err != nil {
			return err
		}
	}
	f.had(x, p)
	return nil
}

// reader opens what the file's bytes are read of.
func (x *file) reader() (in io.ReaderAt, where string, err error) {
	if x.kept == nil {
		return x.in.f, x.in.path, nil
	}
	where = x.kept.name + " of " + x.kept.fs.String()
	if in, err = x.kept.fs.Open(x.kept.name); err != nil {
		err = fmt.Errorf("in %s: %w", where, err)
	}
	return in, where, err
}

// part gives the object that begins at at; nil: none does.
func (x *file) part(at int64) *part {
	for i := range x.parts {
		if p := &x.parts[i]; p.at == at {
			return p
		}
	}
	return nil
}

// Remove forgets a file. It may take as long as a disk does, or a network.
func (f *Files) Remove(number uint64) {
	f.mu.Lock()
	x := f.files[number]
	delete(f.files, number)
	var s *seg
	last := false
	if x != nil && x.dir != nil {
		x.dir.used -= x.size
	}
	if x != nil && x.in != nil {
		s = x.in
		s.live--
		last = s.live == 0 && !s.open
	}
	f.mu.Unlock()
	switch {
	case x == nil || x.inherited:
	case x.kept != nil: // where that is not possible, it goes at the end
		_ = x.kept.fs.Remove(x.kept.name)
	case last:
		_ = s.f.Close()
	default: // where that is not possible, its space goes with the segment
		_ = unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, x.at, (x.size+4095)/4096*4096)
	}
}

// Close gives all space back; leave: but for what was written with names.
func (f *Files) Close(leave bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return
	}
	f.down = true
	done := map[*seg]bool{}
	for _, d := range f.far {
		if !leave {
			_ = d.FS.RemoveAll(cmp.Or(d.Ends, d.Path))
		}
	}
	for _, x := range f.files {
		if x.in != nil && !done[x.in] {
			done[x.in] = true
			_ = x.in.f.Close()
		}
	}
	for _, d := range f.dirs {
		if d.open != nil && !done[d.open] {
			_ = d.open.f.Close()
		}
	}
	clear(f.files)
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.4g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
