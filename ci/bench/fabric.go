package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/rt/native"
)

// The bars of the fabric: maniple-native between two processes of this machine, by the providers of libfabric that need no card.

const (
	fabricBare  = "fabric with the tcp provider, 1 GiB, beside a bare copy"
	fabricSmall = "8-byte remote read with the shm provider"
	fabricPiece = 4 << 20         // bytes of a read, as of values
	fabricReads = 10_000          // small reads of a run
	fabricTimes = 3               // of which the fastest counts
	fabricLimit = 2 * time.Minute // that a run may take
)

// fabricEnd is an agent as far as the fabric is concerned: an arena, and an endpoint in a process of its own.
type fabricEnd struct {
	native.Fabric
	memory []byte
	line   *native.FabricLine
}

// fabricBars measures reads of an arena of another process.
func fabricBars(l *lab) error {
	program, libraries, why := l.fabric()
	if why != "" {
		for _, name := range []string{fabricBare, fabricSmall} {
			l.add(Result{Schema: schema, Name: name, Skipped: "not run: " + why})
		}
		return nil
	}
	before, had := os.LookupEnv("LD_LIBRARY_PATH")
	if err := os.Setenv("LD_LIBRARY_PATH", strings.TrimSuffix(libraries+":"+before, ":")); err != nil {
		return err
	}
	defer func() {
		if _ = os.Unsetenv("LD_LIBRARY_PATH"); had {
			_ = os.Setenv("LD_LIBRARY_PATH", before)
		}
	}()
	size := int64(1 << 30)
	if quick {
		size = 64 << 20
	}
	var ours, theirs, small []float64
	for range pairs {
		by, err := fabricRun(program, "tcp", size, func(ctx context.Context, here *fabricEnd, place native.FabricPlace) (float64, error) {
			return here.rate(ctx, place, size)
		})
		if err != nil {
			return err
		}
		bare, err := clearCopy(size)
		if err != nil {
			return err
		}
		us, err := fabricRun(program, "shm", fabricPiece, func(ctx context.Context, here *fabricEnd, place native.FabricPlace) (float64, error) {
			t, err := here.line.Latency(ctx, native.FabricRange{Size: 8}, place, fabricReads)
			return t.Median, err
		})
		if err != nil {
			return err
		}
		ours, theirs, small = append(ours, by), append(theirs, bare), append(small, us)
	}
	l.add(paired(fabricBare, "GB/s", "a bare TCP copy in the clear, with as many connections as reads at once", ours, theirs).
		noted("from arena to arena; the fastest of three of each"))
	l.add(single(fabricSmall, "us", small).most(5).noted(fmt.Sprintf("the median of %d reads, one after another", fabricReads)))
	return nil
}

// fabric builds maniple-native and finds libfabric; why: there is one of them not.
func (l *lab) fabric() (program, libraries, why string) {
	var words strings.Builder
	find := exec.Command(filepath.Join(l.top, "ci/native/libfabric.sh"))
	find.Stderr = &words
	out, err := find.Output()
	if err != nil {
		return "", "", "no libfabric: " + lastLines(cmp.Or(words.String(), err.Error()), 1)
	}
	program = filepath.Join(l.dir, native.Name)
	build := exec.Command(filepath.Join(l.top, "ci/native/build.sh"), program)
	words.Reset()
	build.Dir, build.Stderr = l.top, &words
	if err := build.Run(); err != nil {
		return "", "", "no " + native.Name + ": " + err.Error()
	}
	if _, err := os.Stat(program); err != nil {
		return "", "", "no " + native.Name + ": " + lastLines(words.String(), 1)
	}
	return program, strings.TrimSpace(string(out)), ""
}

// fabricRun opens two ends, has one expose its memory, and measures at the other one.
func fabricRun(program, provider string, size int64, measure func(context.Context, *fabricEnd, native.FabricPlace) (float64, error)) (float64, error) {
	ctx, stop := context.WithTimeout(context.Background(), fabricLimit)
	defer stop()
	var ends [2]*fabricEnd
	for i := range ends {
		end, err := newFabricEnd(program, provider, size)
		if err != nil {
			return 0, err
		}
		defer end.close()
		if end.line, err = end.Open(ctx); err != nil {
			return 0, err
		}
		ends[i] = end
	}
	_, place, err := ends[1].line.Expose(ctx, native.FabricRange{Size: size})
	if err != nil {
		return 0, err
	}
	return measure(ctx, ends[0], place)
}

func newFabricEnd(program, provider string, size int64) (*fabricEnd, error) {
	fd, err := unix.MemfdCreate("fabric", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	end := &fabricEnd{}
	if end.memory, err = filled(fd, size); err != nil {
		return nil, err
	}
	file, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	end.Client = native.Client{Path: program, Idle: -1}
	end.Wish = native.FabricWish{Provider: provider, Hosts: []string{"127.0.0.1"}}
	end.Arena = func(uint64) (*os.File, int64, error) { return os.NewFile(uintptr(file), "fabric"), size, nil } // is asked once
	return end, nil
}

func (e *fabricEnd) close() {
	e.Fabric.Close()
	_ = unix.Munmap(e.memory)
}

// filled is shared memory of a descriptor, all of which is there.
func filled(fd int, size int64) ([]byte, error) {
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = byte(i >> 12)
	}
	return memory, err
}

// rate reads all of the other end's memory, as many pieces at once as agents do, and gives GB/s.
func (e *fabricEnd) rate(ctx context.Context, place native.FabricPlace, size int64) (best float64, err error) {
	for range fabricTimes {
		began := time.Now()
		work := make(chan int64)
		done := make(chan error)
		for range agent.Streams() {
			go func() {
				var last error
				for at := range work {
					if _, err := e.line.Read(ctx, native.FabricRange{Offset: at, Size: min(fabricPiece, size-at)}, place.From(at)); err != nil {
						last = err
					}
				}
				done <- last
			}()
		}
		for at := int64(0); at < size; at += fabricPiece {
			work <- at
		}
		close(work)
		for range agent.Streams() {
			err = cmp.Or(<-done, err)
		}
		if err != nil {
			return 0, err
		}
		best = max(best, float64(size)/time.Since(began).Seconds()/1e9)
	}
	return best, nil
}

// clearCopy copies as much from mapped memory to mapped memory over bare TCP connections, and gives GB/s.
func clearCopy(size int64) (best float64, err error) {
	from, err := pages(size)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(from)
	to, err := pages(size)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(to)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	var out, in []net.Conn
	for range agent.Streams() {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		d, err := ln.Accept()
		if err != nil {
			return 0, err
		}
		defer d.Close()
		out, in = append(out, c), append(in, d)
	}
	for range fabricTimes {
		began := time.Now()
		sent := make(chan error, 1)
		go func() {
			sent <- onEach(out, from, func(c net.Conn, part []byte) error {
				for len(part) > 0 {
					n := min(fabricPiece, len(part))
					if _, err := c.Write(part[:n]); err != nil {
						return err
					}
					part = part[n:]
				}
				return nil
			})
		}()
		err := onEach(in, to, func(c net.Conn, part []byte) error {
			_, err := io.ReadFull(c, part)
			return err
		})
		if err = cmp.Or(err, <-sent); err != nil {
			return 0, err
		}
		best = max(best, float64(size)/time.Since(began).Seconds()/1e9)
	}
	return best, nil
}
