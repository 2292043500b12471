package shm_test

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
	"github.com/maniple-hpc/maniple/objstore/shm"
)

// smaps gives a figure in bytes of the mapping that b lies in.
func smaps(t *testing.T, b []byte, figure string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := strconv.FormatUint(uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), 16)
	_, rest, found := strings.Cut("\n"+string(text), "\n"+at+"-")
	m := regexp.MustCompile(`(?m)^` + figure + `: +(\d+) kB`).FindStringSubmatch(rest)
	if !found || m == nil {
		t.Fatalf("no %s of a mapping at %s", figure, at)
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	return n << 10
}

// An arena is of huge pages where the kernel makes them, whatever the machine's settings are, and they are huge to whoever maps
// it by package pages. Of the agent, which maps it, nothing of it is resident: YARN would count it.
func TestHugePages(t *testing.T) {
	leaks(t)
	var m shm.Memory
	defer m.Close()
	const size = 16 << 20
	if err := m.Make(1, size); err != nil {
		t.Fatal(err)
	}
	mine, err := m.Bytes(1, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	if n := smaps(t, mine, "Rss"); n != 0 {
		t.Errorf("%d bytes are resident in who made the arena", n)
	}
	open, err := m.Writable(1, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	if huge := pages.Huge(); huge > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(open)))%uintptr(huge) != 0 {
		t.Error("where the agent writes no page could be huge")
	}
	f, err := m.Reader(1)
	if err != nil {
		t.Fatal(err)
	}
	if !collapses(t) {
		t.Skip("this kernel does not make huge pages of shared memory on request")
	}
	const offset = 1<<20 + 4096 // not at the start of a huge page
	b, err := pages.Map(int(f.Fd()), offset, size-offset, unix.PROT_READ)
	if err != nil {
		t.Fatal(err)
	}
	defer pages.Unmap(b)
	pages.Enter(b)
	if n := smaps(t, b, "ShmemPmdMapped"); n == 0 {
		t.Error("no page of an arena is huge")
	}
	for i := 0; i < len(b); i += 4096 {
		if b[i] != 0 {
			t.Fatalf("byte %d of a new arena is %d", i, b[i])
		}
	}
	w, err := m.Writable(1, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w {
		w[i] = 1
	}
	if n := smaps(t, w, "ShmemPmdMapped"); n == 0 {
		t.Error("no page is huge to the agent, which writes there what comes from other nodes")
	}
}

// A large arena is whole, and of huge pages all over, wherever those who made it together met.
func TestArenaMadeByTwo(t *testing.T) {
	leaks(t)
	var m shm.Memory
	defer m.Close()
	for number, size := range []int64{64 << 20, 80<<20 + 64<<10, 97 << 20, 65 << 20} {
		var err error
		if number < 3 {
			err = m.Make(uint64(number), size)
		} else { // ahead; on a machine that is never idle that would take for ever
			hurry := make(chan struct{})
			defer time.AfterFunc(10*time.Second, func() { close(hurry) }).Stop()
			err = m.Spare(uint64(number), size, hurry, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := m.Reader(uint64(number))
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 != size {
			t.Errorf("of %d bytes %d are allocated, %v", size, st.Blocks*512, err)
		}
		b, err := m.Bytes(uint64(number), 0, size)
		if err != nil {
			t.Fatal(err)
		}
		if n := smaps(t, b, "Rss"); n != 0 {
			t.Errorf("%d bytes are resident in who made it", n)
		}
		pages.Enter(b)
		if n := smaps(t, b, "ShmemPmdMapped"); collapses(t) && n < size/4*3 {
			t.Errorf("of %d bytes %d are in huge pages", size, n)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	settles(t)
}

// settles waits until what was made by those who were overtaken is over, which ends later.
func settles(t *testing.T) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-look.C {
		if d, maps := left(t); d == 0 && maps == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("descriptors or mappings are left")
		}
	}
}

// collapses tells whether the kernel makes a huge page here, asked in the simplest way.
func collapses(t *testing.T) bool {
	t.Helper()
	huge := pages.Huge()
	if huge == 0 || huge > 2<<20 {
		return false
	}
	fd, err := unix.MemfdCreate("maniple-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, huge); err != nil {
		t.Fatal(err)
	}
	b, err := pages.Map(fd, 0, huge, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		t.Fatal(err)
	}
	defer pages.Unmap(b)
	b[0] = 1
	return unix.Madvise(b, unix.MADV_COLLAPSE) == nil
}

// A part that is given back is the system's at once, whether its pages are huge or not, and what lies beside it stays as it was.
func TestPunch(t *testing.T) {
	m := memory(t)
	w, err := m.Lend(7, 1, 1, 0, arenaSize)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	b := mapped(t, w, unix.PROT_READ|unix.PROT_WRITE)
	defer unmap(t, b)
	for i := range b {
		b[i] = byte(i>>12) | 1
	}
	const from, size = 1<<20 + 64<<10, 192 << 10
	if err := m.Punch(1, from, size); !errors.Is(err, shm.ErrLent) {
		t.Errorf("punched what is lent: %v", err)
	}
	if err := m.Return(1); err != nil {
		t.Fatal(err)
	}
	if err := m.Punch(1, from, size); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil || st.Blocks*512 != arenaSize-size {
		t.Errorf("%d bytes are allocated (%v)", st.Blocks*512, err)
	}
	mine, err := m.Bytes(1, 0, arenaSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][2]int{{0, from}, {from + size, arenaSize}} {
		for i := part[0]; i < part[1]; i++ {
			if mine[i] != byte(i>>12)|1 {
				t.Fatalf("byte %d is %d", i, mine[i])
			}
		}
	}
	for _, bad := range [][2]int64{{-1, 1}, {0, 0}, {arenaSize, 1}, {0, arenaSize + 1}, {1 << 62, 1 << 62}} {
		if err := m.Punch(1, bad[0], bad[1]); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := m.Punch(2, 0, 1); !errors.Is(err, shm.ErrUnknown) {
		t.Errorf("an arena that is not there: %v", err)
	}
}

// A spare arena is whole when it is there, whether somebody waits for it from the first moment on, later or not at all.
func TestSpare(t *testing.T) {
	leaks(t)
	var m shm.Memory
	defer m.Close()
	const size = 4 << 20
	now := make(chan struct{})
	close(now)
	for number, hurry := range []chan struct{}{make(chan struct{}), now, make(chan struct{})} {
		switch number {
		case 0: // on a machine that is never idle it would take for ever
			defer time.AfterFunc(5*time.Second, func() { close(hurry) }).Stop()
		case 2:
			go close(hurry)
		}
		if err := m.Spare(uint64(number), size, hurry, nil); err != nil {
			t.Fatal(err)
		}
		f, err := m.Reader(uint64(number))
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != size || st.Blocks*512 != size {
			t.Errorf("arena %d: size %d, %d allocated, %v", number, st.Size, st.Blocks*512, err)
		}
		b, err := m.Bytes(uint64(number), 0, size)
		if err != nil {
			t.Fatal(err)
		}
		if n := smaps(t, b, "Rss"); n != 0 {
			t.Errorf("arena %d: %d bytes are resident in who made it", number, n)
		}
	}
	if err := m.Spare(7, 4<<30, make(chan struct{}), now); !errors.Is(err, shm.ErrGivenUp) {
		t.Errorf("one that is given up: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- m.Spare(8, 4<<30, make(chan struct{}), nil) }()
	if err := m.Spare(9, -1, now, nil); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("size -1: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a spare arena was made after the end")
	}
	settles(t)
}
