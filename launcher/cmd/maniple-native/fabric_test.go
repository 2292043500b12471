//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/native"
)

// libfabric gives a folder with the library; why: there is none.
var libfabric = sync.OnceValues(func() (dir, why string) {
	var words bytes.Buffer
	c := exec.Command("../../../ci/native/libfabric.sh")
	c.Stderr = &words
	out, err := c.Output()
	if err != nil {
		return "", fmt.Sprintf("no libfabric for tests: %v: %s", err, strings.TrimSpace(words.String()))
	}
	return strings.TrimSpace(string(out)), ""
})

// side is an agent as far as the fabric is concerned: an arena, and an endpoint.
type side struct {
	*native.Fabric
	arena  *os.File
	memory []byte
	log    bytes.Buffer
}

const arenaSize = 64 << 20

func newSide(t testing.TB, provider string, hosts ...string) *side {
	t.Helper()
	dir, why := libfabric()
	if why != "" {
		t.Skip(why)
	}
	program, _ := built()
	t.Setenv("LD_LIBRARY_PATH", dir)
	fd, err := unix.MemfdCreate("arena", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	s := &side{arena: os.NewFile(uintptr(fd), "arena")}
	if err := unix.Ftruncate(fd, arenaSize); err != nil {
		t.Fatal(err)
	}
	if s.memory, err = unix.Mmap(fd, 0, arenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	s.Fabric = &native.Fabric{
		Client: native.Client{Path: program, Idle: -1, Lost: "values go by TCP", Log: slog.New(slog.NewTextHandler(&s.log, nil))},
		Wish:   native.FabricWish{Provider: provider, Hosts: append([]string{"127.0.0.1"}, hosts...)},
		Arena: func(number uint64) (*os.File, int64, error) {
			f, err := unix.FcntlInt(s.arena.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			return os.NewFile(uintptr(f), "arena"), arenaSize, err
		},
	}
	t.Cleanup(func() {
		s.Fabric.Close()
		_ = unix.Munmap(s.memory)
		_ = s.arena.Close()
	})
	return s
}

func (s *side) open(t testing.TB) *native.FabricLine {
	t.Helper()
	l, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// providers are those that need no hardware.
var providers = []string{"tcp", "shm"}

func eachProvider(t *testing.T, f func(t *testing.T, provider string)) {
	for _, p := range providers {
		t.Run(p, func(t *testing.T) { f(t, p) })
	}
}

// Bytes of another process's arena come to where they are to lie and nowhere else, several reads at once (NATIVE-4).
func TestRead(t *testing.T) {
	eachProvider(t, func(t *testing.T, provider string) {
		here, there := newSide(t, provider), newSide(t, provider)
		rng := rand.NewChaCha8([32]byte{1})
		_, _ = rng.Read(there.memory)
		a, b := here.open(t), there.open(t)
		if !strings.HasPrefix(a.Here().Provider, provider) || len(a.Here().Rails) != 1 || len(a.Here().Rails[0].Address) == 0 {
			t.Errorf("it is %+v", a.Here())
		}
		const from, size = 12345, 20<<20 + 7
		number, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 7, Offset: from, Size: size})
		if err != nil {
			t.Fatal(err)
		}
		if place, err = native.DecodePlace(place.Encode()); err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		const parts = 5
		for i := range int64(parts) {
			at, n := i*(size/parts), int64(size/parts)
			wait.Go(func() {
				if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Offset: 100 + at, Size: n}, place.From(at)); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		const came = size / parts * parts
		if !bytes.Equal(here.memory[100:100+came], there.memory[from:from+came]) {
			t.Error("other bytes came")
		}
		for i, c := range here.memory {
			if (i < 100 || i >= 100+came) && c != 0 {
				t.Fatalf("byte %d was written", i)
			}
		}
		b.Conceal(t.Context(), number)
		if here.log.Len()+there.log.Len() > 0 {
			t.Error(here.log.String(), there.log.String())
		}
	})
}

// NATIVE-4: what is let go of can't be read any more, by who still has the key. That costs him his connection; when the next read from there fails,
// too, his process ends, since libfabric has no other way to a new one, and he is told in a line.
func TestConceal(t *testing.T) {
	here, there := newSide(t, "tcp"), newSide(t, "tcp")
	a, b := here.open(t), there.open(t)
	for i := range 8 {
		there.memory[i] = 'x'
	}
	number, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Offset: 0, Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Offset: 4096, Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	b.Conceal(t.Context(), number)
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: 8}, place); err == nil || here.memory[0] != 0 {
		t.Errorf("it was read: %v, %q", err, here.memory[:8])
	}
	if a.Over() {
		t.Error("one read that failed has ended the process")
	}
	if _, err := b.Read(t.Context(), native.FabricRange{Arena: 1, Offset: 1 << 20, Size: 8}, other); err != nil {
		t.Errorf("the other side's own reads fail: %v", err)
	}
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Offset: arenaSize - 4, Size: 8}, other); err == nil || !strings.Contains(err.Error(), "not in arena") {
		t.Errorf("beyond the arena: %v", err)
	}
	other.Provider = "verbs;ofi_rxm"
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: 8}, other); err == nil || !strings.Contains(err.Error(), "goes by verbs;ofi_rxm, this one by tcp") {
		t.Errorf("another provider: %v", err)
	}
	other.Provider = place.Provider
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: 8}, other); err == nil {
		t.Skip("this libfabric connects anew by itself")
	}
	<-a.Gone()
	here.Close()
	if n := strings.Count(here.log.String(), "\n"); n != 1 || !strings.Contains(here.log.String(), "reads from one node failed twice") {
		t.Errorf("%d lines: %s", n, here.log.String())
	}
}

// When the other side is killed a read fails and others go on; when this one is, it is a line, and nothing of it is left.
func TestKilledEndpoint(t *testing.T) {
	eachProvider(t, func(t *testing.T, provider string) {
		here, there := newSide(t, provider), newSide(t, provider)
		a, b := here.open(t), there.open(t)
		_, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: 1 << 20}, place); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob("/dev/shm/maniple-fabric-*")
		files = slices.DeleteFunc(files, func(file string) bool { // of processes that others have started
			status, _ := os.ReadFile("/proc/" + file[strings.LastIndexByte(file, '-')+1:] + "/status")
			return !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid()))
		})
		if provider == "shm" && len(files) != 2 {
			t.Errorf("in shared memory there are %v", files)
		}
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize}, place); err != nil {
					ended <- err
					return
				}
			}
		}()
		a.Kill()
		if err := <-ended; err == nil || !a.Over() {
			t.Errorf("the read ends with %v", err)
		}
		if n := strings.Count(here.log.String(), "\n"); n != 1 || !strings.Contains(here.log.String(), "values go by TCP") {
			t.Errorf("%d lines: %s", n, here.log.String())
		}
		here.Close()
		there.Close()
		for _, file := range files {
			if _, err := os.Stat(file); err == nil {
				t.Errorf("in shared memory is left %s", file)
			}
		}
	})
}

// What no library and no such provider is, is said.
func TestNoFabric(t *testing.T) {
	s := newSide(t, "verbs")
	if _, err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "verbs: fi_getinfo: No data available") {
		t.Error(err)
	}
	s = newSide(t, "tpc")
	if _, err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), `"tpc" is no provider of a fabric; there are cxi, efa, opx, verbs and tcp, shm`) {
		t.Error(err)
	}
	s = newSide(t, "auto")
	t.Setenv("LD_LIBRARY_PATH", "")
	if _, err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "libfabric can't be loaded: libfabric.so.1") {
		t.Error(err)
	}
	if s.log.Len() > 0 {
		t.Error(s.log.String())
	}
}

// 8 bytes by the shm provider take less than 5 us, at best: the median is of a machine that has nothing else to do.
func TestLatency(t *testing.T) {
	eachProvider(t, func(t *testing.T, provider string) {
		here, there := newSide(t, provider), newSide(t, provider)
		a, b := here.open(t), there.open(t)
		copy(there.memory, "12345678")
		_, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Size: 4096})
		if err != nil {
			t.Fatal(err)
		}
		times, err := a.Latency(t.Context(), native.FabricRange{Arena: 1, Size: 8}, place, 10000)
		if err != nil {
			t.Fatal(err)
		}
		if string(here.memory[:8]) != "12345678" || times.Best <= 0 || times.Best > times.Median || times.Median > times.P99 {
			t.Errorf("%q, %+v", here.memory[:8], times)
		}
		if provider == "shm" && times.Best > 5 {
			t.Errorf("8 bytes take %.2f us at best", times.Best)
		}
		t.Logf("8 bytes: %.2f us at best, %.2f median, %.2f p99", times.Best, times.Median, times.P99)
	})
}
