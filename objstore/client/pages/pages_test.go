package pages_test

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

// A mapping lies to huge pages as its place in the file does, begins where it should, and leaves nothing when it ends.
func TestMap(t *testing.T) {
	const size = 8 << 20
	fd, err := unix.MemfdCreate("maniple-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 4096, 64 << 10, 2 << 20, 3<<20 + 8192} {
		if _, err := unix.Pwrite(fd, []byte{byte(at >> 12), 7}, at); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{4096, 1 << 20, size - at} {
			b, err := pages.Map(fd, at, n, unix.PROT_READ|unix.PROT_WRITE)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(b)) != n || b[0] != byte(at>>12) || b[1] != 7 {
				t.Errorf("%d bytes at %d: %d bytes that begin with %d, %d", n, at, len(b), b[0], b[1])
			}
			p := int64(uintptr(unsafe.Pointer(&b[0])))
			if huge := pages.Huge(); huge > 0 && n >= huge && (p-at)%huge != 0 {
				t.Errorf("%d bytes at %d of the file are mapped at %#x", n, at, p)
			}
			pages.Enter(b)
			b[n-1] = 9
			if err := pages.Unmap(b); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := pages.Map(-1, 0, size, unix.PROT_READ); err == nil {
		t.Error("mapped no file")
	}
	if _, err := pages.Map(fd, 0, 0, unix.PROT_READ); err == nil {
		t.Error("mapped nothing")
	}
}
