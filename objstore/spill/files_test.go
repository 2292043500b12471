package spill

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

func value(n uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = r.Read(b)
	return b
}

func open(t *testing.T, dirs ...Directory) *Files {
	t.Helper()
	f, err := Open(dirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(false) })
	return f
}

func read(f *Files, number uint64, at, from, n int64) ([]byte, error) {
	out := make([]byte, n)
	err := f.Read(number, at, from, n, func(at int64, b []byte) error { copy(out[at:], b); return nil })
	return out, err
}

// write writes objects of some sizes as one file, and gives their values and where they begin.
func write(t *testing.T, f *Files, number uint64, sizes ...int) (values [][]byte, begin []int64) {
	t.Helper()
	var parts []Part
	at := int64(0)
	for i, size := range sizes {
		values, begin = append(values, value(number*100+uint64(i), size)), append(begin, at)
		parts = append(parts, Part{At: at, Bytes: values[i]})
		at += int64(size+63) / 64 * 64
	}
	if err := f.Write(number, parts); err != nil {
		t.Fatal(err)
	}
	return values, begin
}

// A directory in which a write does not end gets nothing more: what is written meanwhile goes to another, on another disk or shared by nodes.
func TestDirectoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, far := t.TempDir(), t.TempDir(), t.TempDir()
		f := open(t, Directory{Path: one}, Directory{Path: two})
		f.dirs[0].begin(0) // and never ends
		for n := range uint64(4) {
			write(t, f, n, 1<<20)
			if in := f.Where(n); in != two {
				t.Errorf("file %d lies in %s", n, in)
			}
		}
		f = open(t, Directory{Path: one}, Directory{FS: Dir(far), Path: "own"})
		f.dirs[0].begin(0)
		write(t, f, 1, 1<<20)
		if in := f.Where(1); in != far {
			t.Errorf("it lies in %s", in)
		}
	})
}

// SPL-1, SPL-3: what was written is read, whole and in parts, from several directories, and no name is left.
func TestWriteAndRead(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	f := open(t, Directory{Path: a}, Directory{Path: b})
	for number := uint64(1); number <= 6; number++ {
		values, begin := write(t, f, number, 100, 1, 3<<20+17, 1<<20, 64)
		for i, v := range values {
			if got, err := read(f, number, begin[i], 0, int64(len(v))); err != nil || !bytes.Equal(got, v) {
				t.Fatalf("file %d, object %d: %v", number, i, err)
			}
		}
		if got, err := read(f, number, begin[2], 1<<20-5, 1<<20+10); err != nil || !bytes.Equal(got, values[2][1<<20-5:2<<20+5]) {
			t.Fatalf("a part of it: %v", err)
		}
	}
	used := map[string]int{}
	for _, x := range f.files {
		used[x.in.path]++
	}
	if used[a] != 3 || used[b] != 3 {
		t.Errorf("directories did not take turns: %v", used)
	}
	for _, dir := range []string{a, b} {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s has names: %v", dir, left)
		}
	}
	for what, err := range map[string]error{
		"a file that there is not":    second(read(f, 99, 0, 0, 1)),
		"an object that there is not": second(read(f, 1, 5, 0, 1)),
		"more than there is":          second(read(f, 1, 0, 50, 51)),
		"from before it":              second(read(f, 1, 0, -1, 2)),
	} {
		if err == nil {
			t.Errorf("%s was read", what)
		}
	}
}

func second(_ []byte, err error) error { return err }

// SPL-1: a flipped bit is an error that says where, and only of what it is in.
func TestFlippedBit(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Directory{Path: dir})
	values, begin := write(t, f, 1, 5<<20, 1000)
	x := f.files[1]
	at := x.at + 3<<20 + 777
	b := []byte{0}
	if _, err := x.in.f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := x.in.f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	_, err := read(f, 1, begin[0], 0, 5<<20)
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "bytes 3145728 to 4194304") {
		t.Errorf("%v", err)
	}
	if got, err := read(f, 1, begin[0], 0, 3<<20); err != nil || !bytes.Equal(got, values[0][:3<<20]) {
		t.Errorf("what is before it: %v", err)
	}
	if got, err := read(f, 1, begin[1], 0, 1000); err != nil || !bytes.Equal(got, values[1]) {
		t.Errorf("the object beside it: %v", err)
	}
	if err := x.in.f.Truncate(2 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := read(f, 1, begin[1], 0, 1000); err == nil {
		t.Error("what was cut off was read")
	}
}

// SPL-4: a file system that is fuller than its bound is left alone; another directory takes what it would not.
func TestFull(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	f := open(t, Directory{Path: a, Full: 1e-9})
	err := f.Write(1, []Part{{Bytes: value(1, 1000)}})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), a) {
		t.Errorf("%v", err)
	}
	f = open(t, Directory{Path: a, Full: 1e-9}, Directory{Path: b})
	for number := range uint64(4) {
		write(t, f, number, 1000)
	}
}

// SPL-2: of what does not fit on a small disk nothing is left there, and what was there before is read.
func TestSmallDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	f := open(t, Directory{Path: dir})
	values, begin := write(t, f, 1, 5<<20)
	err := f.Write(2, []Part{{Bytes: value(2, 2<<20)}, {At: 2 << 20, Bytes: value(3, 2<<20)}})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%v", err)
	}
	write(t, f, 3, 2<<20)
	if got, err := read(f, 1, begin[0], 0, 5<<20); err != nil || !bytes.Equal(got, values[0]) {
		t.Errorf("%v", err)
	}
	f.Remove(1)
	write(t, f, 4, 5<<20) // its place is free again
}

// A directory that vanishes is an error only once a new segment is to be made there; what was written stays readable.
func TestVanishedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spill")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, Directory{Path: dir})
	values, begin := write(t, f, 1, 1<<20)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	write(t, f, 2, 1<<20)
	f.dirs[0].open = nil // as if it were full
	if err := f.Write(3, []Part{{Bytes: value(3, 1)}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if got, err := read(f, 1, begin[0], 0, 1<<20); err != nil || !bytes.Equal(got, values[0]) {
		t.Errorf("%v", err)
	}
	if f, err := Open([]Directory{{Path: dir}}); f != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if f, err := Open([]Directory{{Path: dir}, {Path: t.TempDir()}}); f == nil || err == nil {
		t.Errorf("one of two: %v", err)
	} else {
		f.Close(false)
	}
}

// SPL-3: space goes with its file, and the descriptor of a segment with its last one.
func TestRemove(t *testing.T) {
	f := open(t, Directory{Path: t.TempDir()})
	write(t, f, 1, 4<<20)
	write(t, f, 2, 4<<20)
	s := f.files[1].in
	var before, after unix.Stat_t
	_ = unix.Fstat(int(s.f.Fd()), &before)
	f.Remove(1)
	f.Remove(1)
	_ = unix.Fstat(int(s.f.Fd()), &after)
	if before.Blocks-after.Blocks < 8000 {
		t.Errorf("%d blocks before, %d after", before.Blocks, after.Blocks)
	}
	f.dirs[0].open, s.open = nil, false // it is full
	f.Remove(2)
	if _, err := s.f.Stat(); err == nil {
		t.Error("a segment of which nothing is left is open")
	}
	write(t, f, 3, 100)
}
