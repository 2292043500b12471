package shm_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/shm"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const arenaSize = 4 << 20

func memory(t *testing.T) *shm.Memory {
	t.Helper()
	leaks(t)
	m := new(shm.Memory)
	if err := m.Make(1, arenaSize); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func mapped(t *testing.T, f *os.File, prot int) []byte {
	t.Helper()
	b, err := unix.Mmap(int(f.Fd()), 0, arenaSize, prot, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unmap(t *testing.T, b []byte) {
	t.Helper()
	if err := unix.Munmap(b); err != nil {
		t.Error(err)
	}
}

// Verifies SHM-1.
func TestArenaIsWholeAndStaysSo(t *testing.T) {
	m := memory(t)
	f, err := m.Lend(7, 1, 1, 0, arenaSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != arenaSize || st.Blocks*512 < arenaSize {
		t.Fatalf("size %d, %d allocated, %v", st.Size, st.Blocks*512, err)
	}
	for _, size := range []int64{0, 1, arenaSize - 1, arenaSize + 1} {
		if err := f.Truncate(size); !errors.Is(err, os.ErrPermission) {
			t.Errorf("truncate to %d: %v", size, err)
		}
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("a writer could seal the arena against the next one: %v", err)
	}
}

// Verifies SHM-1: no memory is an error, and leaves nothing.
func TestNoMemory(t *testing.T) {
	leaks(t)
	var m shm.Memory
	defer m.Close()
	// The limit on a file's size stops allocation half way, as the lack of memory does.
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 20 << 20, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	err := m.Make(1, 64<<20)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Error("made an arena beyond the limit")
	}
	if err := m.Make(1, -1); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("size -1: %v", err)
	}
	if n, bytes := m.Used(); n != 0 || bytes != 0 {
		t.Errorf("%d arenas of %d bytes are left", n, bytes)
	}
}

// Verifies SHM-2.
func TestReadersCannotWrite(t *testing.T) {
	m := memory(t)
	f, err := m.Reader(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Mmap(int(f.Fd()), 0, arenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("mapped for writing")
	}
	if _, err := unix.Pwrite(int(f.Fd()), []byte("x"), 0); err == nil {
		t.Error("written")
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); err == nil {
		t.Error("punched")
	}
	b := mapped(t, f, unix.PROT_READ)
	defer unmap(t, b)
	if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE); !errors.Is(err, unix.EACCES) {
		t.Errorf("mprotect for writing: %v", err)
	}
}

// Verifies SHM-2: not even by way of /proc.
func TestReaderCannotOpenAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		m := memory(t)
		f, _ := m.Reader(1)
		if _, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0); !errors.Is(err, os.ErrPermission) {
			t.Errorf("opened for writing: %v", err)
		}
		return
	}
	// Root may open everything: another user makes an arena and tries.
	done := make(chan error, 1)
	go func() {
		done <- asUser(65534, func() error {
			var m shm.Memory
			defer m.Close()
			if err := m.Make(1, arenaSize); err != nil {
				return err
			}
			f, err := m.Reader(1)
			if err != nil {
				return err
			}
			self := fmt.Sprintf("/proc/self/task/%d/fd/%d", unix.Gettid(), f.Fd())
			if fd, err := unix.Open(self, unix.O_RDONLY, 0); err != nil {
				return fmt.Errorf("open for reading: %w", err)
			} else {
				unix.Close(fd)
			}
			if _, err := unix.Open(self, unix.O_RDWR, 0); !errors.Is(err, unix.EACCES) {
				return fmt.Errorf("open for writing: %v", err)
			}
			return nil
		})
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// asUser runs f on a thread that is another user's. The thread is not used again.
func asUser(uid int, f func() error) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	return f()
}

// Verifies SHM-3.
func TestLending(t *testing.T) {
	m := memory(t)
	const mib = 1 << 20
	lend := func(p id.Process, slab uint64, start, size int64, want error) {
		t.Helper()
		f, err := m.Lend(p, slab, 1, start, size)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("slab %d at [%d, +%d): %v, want %v", slab, start, size, err, want)
		}
		if (f != nil) != (err == nil) {
			t.Errorf("slab %d: descriptor %v with error %v", slab, f, err)
		}
		f.Close()
	}
	lend(7, 1, mib, mib, nil)
	lend(8, 2, 2*mib, mib, nil)
	lend(8, 1, 0, mib, shm.ErrLent)
	lend(8, 3, 0, mib+1, shm.ErrLent)
	lend(8, 3, 0, 4*mib, shm.ErrLent)
	lend(8, 3, 2*mib-1, 1, shm.ErrLent)
	lend(8, 3, 3*mib-1, mib, shm.ErrLent)
	lend(8, 3, 3*mib, mib+1, os.ErrInvalid)
	lend(8, 3, -1, mib, os.ErrInvalid)
	lend(8, 3, 1<<62, 1<<62, os.ErrInvalid)
	if _, err := m.Lend(7, 3, 2, 0, mib); !errors.Is(err, shm.ErrUnknown) {
		t.Errorf("an arena that is not there: %v", err)
	}
	lend(8, 3, 0, mib, nil)
	lend(8, 4, 3*mib, mib, nil)
	if err := m.Drop(1); !errors.Is(err, shm.ErrLent) {
		t.Errorf("dropped while lent: %v", err)
	}
	if err := m.Return(1); err != nil {
		t.Error(err)
	}
	if err := m.Return(1); !errors.Is(err, shm.ErrUnknown) {
		t.Errorf("returned twice: %v", err)
	}
	lend(9, 5, mib, mib, nil)
	m.Died(8)
	lend(7, 6, 0, mib, nil)
	lend(7, 7, 2*mib, 2*mib, nil)
	m.Died(7)
	lend(8, 8, mib, mib, shm.ErrLent)
	m.Died(9)
	if err := m.Drop(1); err != nil {
		t.Error(err)
	}
	if err := m.Drop(1); !errors.Is(err, shm.ErrUnknown) {
		t.Errorf("dropped twice: %v", err)
	}
}

// What a writer writes is what readers see, at once, and the agent too.
func TestWriterAndReaders(t *testing.T) {
	m := memory(t)
	w, err := m.Lend(7, 1, 1, 1<<20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	to, err := unix.Mmap(int(w.Fd()), 1<<20, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(t, to)
	f, _ := m.Reader(1)
	from := mapped(t, f, unix.PROT_READ)
	defer unmap(t, from)
	copy(to[100:], "seen")
	mine, err := m.Bytes(1, 1<<20+100, 4)
	if err != nil || string(mine) != "seen" || string(from[1<<20+100:][:4]) != "seen" {
		t.Errorf("the agent reads %q (%v), a reader %q", mine, err, from[1<<20+100:][:4])
	}
	if !faults(func() { mine[0] = 'x' }) {
		t.Error("the agent wrote what is not its own")
	}
	if _, err := m.Bytes(1, arenaSize, 1); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("bytes behind the end: %v", err)
	}
	if _, err := m.Bytes(2, 0, 1); !errors.Is(err, shm.ErrUnknown) {
		t.Errorf("bytes of no arena: %v", err)
	}
}

// Verifies SHM-4.
func TestDropGivesMemoryBack(t *testing.T) {
	m := memory(t)
	f, _ := m.Reader(1)
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	from := mapped(t, f, unix.PROT_READ)
	defer unmap(t, from)
	if err := m.Drop(1); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Blocks != 0 {
		t.Errorf("%d bytes are still allocated (%v)", st.Blocks*512, err)
	}
	if from[0] != 0 || from[arenaSize-1] != 0 {
		t.Error("a reader of nothing reads something")
	}
}

// Verifies SHM-5, and that arenas may be made while others are used.
func TestClose(t *testing.T) {
	leaks(t)
	var m shm.Memory
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			if err := m.Make(i, arenaSize); err != nil {
				t.Error(err)
			}
			if err := m.Make(i, arenaSize); !errors.Is(err, os.ErrExist) {
				t.Errorf("made twice: %v", err)
			}
			f, err := m.Lend(id.Process(7*(i%2)), i, i, 0, 1<<20)
			if err != nil {
				t.Error(err)
			}
			f.Close()
		})
	}
	wg.Wait()
	if n, bytes := m.Used(); n != 8 || bytes != 8*arenaSize {
		t.Errorf("%d arenas of %d bytes", n, bytes)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if n, bytes := m.Used(); n != 0 || bytes != 0 {
		t.Errorf("%d arenas of %d bytes after the end", n, bytes)
	}
	if err := m.Make(9, arenaSize); !errors.Is(err, os.ErrExist) {
		t.Errorf("made after the end: %v", err)
	}
}

// faults tells whether f touches memory that it may not.
func faults(f func()) (yes bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// What the agent has looked at and written leaves its page table, and is there at the next look.
func TestFade(t *testing.T) {
	m := memory(t)
	to, err := m.Writable(1, 0, arenaSize)
	if err != nil {
		t.Fatal(err)
	}
	for at := range to {
		to[at] = byte(at >> 12)
	}
	before := shared(t)
	m.Fade()
	if now := shared(t); now > before-arenaSize/2 {
		t.Errorf("%d bytes of shared memory in the page table before, %d after", before, now)
	}
	if b, err := m.Bytes(1, 5<<12, 1); err != nil || b[0] != 5 || to[7<<12] != 7 {
		t.Errorf("%v %v", b, err)
	}
}

// shared is how much shared memory this process has in its page table.
func shared(t *testing.T) (n int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, found := strings.CutPrefix(line, "RssShmem:"); found {
			_, err = fmt.Sscan(kb, &n)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
