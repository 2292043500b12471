package spill

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func object(n uint64) id.Object {
	return id.Object{Task: id.Task{Agent: 3, Process: 4, Counter: n}, Index: uint32(n % 2)}
}

// shares is what one process of several has that share a directory.
func shares(dir, folder string) Directory {
	return Directory{FS: Dir(dir), Path: folder, Full: 0.99}
}

func readAll(f *Files, number uint64, at, n int64) ([]byte, error) { return read(f, number, at, 0, n) }

// SPL-1, SPL-5: what one process has written to an FS another one finds there after its end, with the checksums; what was not written whole it does not.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	a := open(t, shares(dir, "c/1"))
	v, w := value(1, 3<<20+17), value(2, 100)
	if err := a.Write(7, []Part{{object(1), 0, v}, {object(2), 4 << 20, w}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(8, []Part{{object(3), 0, w}}); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(a, 7, 4<<20, 100); err != nil || !bytes.Equal(got, w) {
		t.Fatalf("by itself: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c/1/9"), v, 0o600); err != nil { // its process died
		t.Fatal(err)
	}
	b := open(t, shares(dir, "c/2"))
	l, err := ReadLeft(Dir(dir), "c/1")
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "c/1/9") {
		t.Errorf("of a file without an end: %v", err)
	}
	if at, n, found := l.Find(object(2)); !found || n != 100 || at != 4<<20 {
		t.Fatalf("%d, %d, %v", at, n, found)
	}
	if _, _, found := l.Find(object(9)); found {
		t.Error("what was not written is found")
	}
	for number, want := range map[uint64]struct {
		o id.Object
		v []byte
	}{1: {object(1), v}, 2: {object(2), w}, 3: {object(3), w}} {
		at, _, ok := l.Find(want.o)
		b.Inherit(number, l, want.o)
		if got, err := readAll(b, number, at, int64(len(want.v))); !ok || err != nil || !bytes.Equal(got, want.v) {
			t.Errorf("%v: %v, %v", want.o, ok, err)
		}
	}
	b.Remove(3)
	if _, err := os.Stat(filepath.Join(dir, "c/1/8")); err != nil {
		t.Errorf("another's file is gone: %v", err)
	}
	at, _, _ := l.Find(object(2))
	b.Inherit(4, l, object(2))
	f, err := os.OpenFile(filepath.Join(dir, "c/1/7"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 2<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(b, 1, 0, int64(len(v))); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "c/1/7") {
		t.Errorf("a flipped bit: %v", err)
	}
	if got, err := readAll(b, 4, at, 100); err != nil || !bytes.Equal(got, w) {
		t.Errorf("the object beside it: %v", err)
	}
	b.Close(false)
	a.Close(false)
	if left, _ := filepath.Glob(filepath.Join(dir, "c/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if l, err := ReadLeft(Dir(dir), "c/1"); err != nil || len(l.parts) > 0 {
		t.Errorf("of a folder that is not there: %v", err)
	}
}

// A disk of the node comes first; what it has no room for goes to the FS, whose space goes with each file.
func TestFSIsSecond(t *testing.T) {
	disk, far := t.TempDir(), t.TempDir()
	f := open(t, shares(far, "x"), Directory{Path: disk, Full: 1e-9})
	if err := f.Write(1, []Part{{object(1), 0, value(1, 1000)}}); err != nil {
		t.Fatal(err)
	}
	if uses := f.Uses(); len(uses) != 2 || uses[0] != (Use{disk, 0}) || uses[1] != (Use{far, 1000}) {
		t.Errorf("%+v", uses)
	}
	f.Remove(1)
	if list, _ := Dir(far).List("x", "", 0); len(list) > 0 || f.Uses()[1].Bytes != 0 {
		t.Errorf("%v, %v", list, f.Uses())
	}
	f = open(t, Directory{Path: disk}, shares(far, "x"))
	if err := f.Write(1, []Part{{object(1), 0, value(1, 1000)}}); err != nil || f.Uses()[0].Bytes != 1000 {
		t.Errorf("%v, %+v", err, f.Uses())
	}
	full := open(t, Directory{FS: Dir(far), Path: "y", Full: 1e-9})
	if err := full.Write(1, []Part{{object(1), 0, value(1, 1000)}}); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), far) {
		t.Errorf("%v", err)
	}
	bad := open(t, Directory{FS: Dir(filepath.Join(disk, "\x00")), Path: "z"})
	if err := bad.Probe(); err == nil || f.Probe() != nil {
		t.Errorf("%v", err)
	}
	for _, says := range []error{os.ErrPermission, nil} {
		unread := open(t, Directory{FS: unreadable{Dir(far), says}, Path: "z"})
		if err := unread.Probe(); err == nil || says != nil && !errors.Is(err, says) {
			t.Errorf("it takes files that nobody can read: %v", err)
		}
	}
	if list, _ := Dir(far).List("z", "", 0); len(list) > 0 {
		t.Error(list)
	}
}

// unreadable takes files, and refuses to read them, or reads something else.
type unreadable struct {
	Dir
	says error
}

func (u unreadable) Open(name string) (Reader, error) {
	if u.says != nil {
		return nil, u.says
	}
	if err := os.WriteFile(u.path(name), []byte("y"), 0o600); err != nil {
		return nil, err
	}
	return u.Dir.Open(name)
}

// FuzzLeft: an index that somebody else wrote is read or refused, and nothing is read past a file's end.
func FuzzLeft(f *testing.F) {
	dir := f.TempDir()
	files, err := Open([]Directory{{FS: Dir(dir), Path: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	if err := files.Write(1, []Part{{object(1), 0, value(1, 1000)}}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "x/1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "1"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, _ := ReadLeft(Dir(dir), "")
		g := &Files{files: map[uint64]*file{}}
		for o := range l.parts {
			at, n, _ := l.Find(o)
			g.Inherit(1, l, o)
			_, _ = readAll(g, 1, at, n)
		}
	})
}

// flipping is a shared directory over a network that flips a bit of what is read, so many times; told counts the bytes that were announced.
type flipping struct {
	Dir
	times *int
	told  *int64
}

type flippingReader struct {
	Reader
	flipping
}

// Open is FS's.
func (f flipping) Open(name string) (Reader, error) {
	r, err := f.Dir.Open(name)
	return flippingReader{r, f}, err
}

// ReadAt is io.ReaderAt's.
func (r flippingReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(b, off)
	if *r.times > 0 {
		*r.times--
		b[0] ^= 1
	}
	return n, err
}

// Ahead is spill.Ahead's.
func (r flippingReader) Ahead(_, n int64) { *r.told += n }

// A bit that was flipped on its way from an FS is not lost; one that is wrong each time is. A reader that wants to know is told what will be read: whole blocks.
func TestFlippedOnItsWay(t *testing.T) {
	times, told := 0, int64(0)
	f := open(t, Directory{FS: flipping{Dir(t.TempDir()), &times, &told}, Path: "c/1"})
	v := value(1, 3<<20)
	if err := f.Write(1, []Part{{Object: object(1), Bytes: v}}); err != nil {
		t.Fatal(err)
	}
	times = 1
	if got, err := readAll(f, 1, 0, 3<<20); err != nil || !bytes.Equal(got, v) || times != 0 || told != 3<<20 {
		t.Errorf("%v; %d bytes were announced", err, told)
	}
	told = 0
	if got, err := read(f, 1, 0, 1<<20+5, 10); err != nil || !bytes.Equal(got, v[1<<20+5:][:10]) || told != 1<<20 {
		t.Errorf("%v; %d bytes were announced", err, told)
	}
	times = 2
	if _, err := readAll(f, 1, 0, 3<<20); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}
