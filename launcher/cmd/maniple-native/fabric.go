package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/native"
)

// #include <stdlib.h>
// #include "fabric.h"
import "C"

const (
	fabricLibrary = "libfabric.so.1"
	pieceSize     = 1 << 20          // bytes of one operation
	window        = 4                // operations of one read that are under way by each rail
	readLimit     = 10 * time.Second // without an operation's end; then nobody knows what becomes of the memory
	peersMost     = 256              // of a rail, that are remembered
	railAgain     = time.Minute      // so long a rail that failed is not used for the node with which it did, if others go there
	shmDir        = "/dev/shm"
	shmName       = "maniple-fabric-" // and the process, before what its endpoint leaves there
)

// endpoint is this process's end of a fabric. All of it is one goroutine's (drive), on a thread of its own; the others leave work for it.
type endpoint struct {
	work    chan func()
	rails   []*rail // none: it is not open; those that are near first
	here    native.FabricHere
	by      string // the provider, as libfabric was asked for it
	auto    bool   // the provider drives itself while others read
	arenas  map[uint64][]byte
	exposed map[uint64]*exposure
	numbers uint64
	reads   []*reading
	posted  map[uint64]*flight // by the number of an operation
	done    [16]C.struct_fabric_done
	why     [C.fabric_words]C.char
}

// exposure is memory that others read, as each rail knows it.
type exposure struct {
	native.FabricRange
	regions []*C.struct_fabric_region
}

func newEndpoint() *endpoint {
	e := &endpoint{work: make(chan func(), 64), arenas: map[uint64][]byte{}, exposed: map[uint64]*exposure{}, posted: map[uint64]*flight{}}
	go e.drive() // ends with the process
	return e
}

// drive does what there is to do, and drives the endpoint while something is under way or others may read here.
func (e *endpoint) drive() {
	runtime.LockOSThread()
	for {
		switch {
		case len(e.reads) > 0:
			select {
			case do := <-e.work:
				do()
			default:
			}
			e.poll(20)
		case len(e.exposed) > 0 && e.auto:
			select {
			case do := <-e.work:
				do()
			case <-time.After(time.Millisecond):
				e.poll(0)
			}
		case len(e.exposed) > 0:
			select {
			case do := <-e.work:
				do()
			default:
				e.poll(50)
			}
		default:
			(<-e.work)()
		}
	}
}

// close takes down what would be left.
func (e *endpoint) close() {
	done := make(chan struct{})
	select {
	case e.work <- func() {
		for _, path := range e.here.Leaves {
			_ = os.Remove(path)
		}
		close(done)
	}:
	case <-time.After(time.Second): // it hangs
		return
	}
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// fabric answers questions about the fabric.
func (e *endpoint) fabric(q native.Question, reply func([]byte, error)) {
	file := -1
	if len(q.Files) > 0 {
		file = int(q.Files[0].Fd())
	}
	e.work <- func() {
		e.answer(q, file, reply)
		for _, f := range q.Files {
			_ = f.Close()
		}
	}
}

// said reads what belongs to a question.
func said[T any](q native.Question) (t T, err error) {
	if err = json.Unmarshal(q.Payload, &t); err != nil {
		err = fmt.Errorf("native: %s: %w", q.What, err)
	}
	return t, err
}

func (e *endpoint) answer(q native.Question, file int, reply func([]byte, error)) {
	answers := func(v any, err error) {
		if err != nil {
			reply(nil, err)
			return
		}
		b, err := json.Marshal(v)
		reply(b, err)
	}
	if q.What != native.FabricOpen && len(e.rails) == 0 {
		reply(nil, errors.New("native: no fabric is open"))
		return
	}
	switch q.What {
	case native.FabricOpen:
		wish, err := said[native.FabricWish](q)
		if err == nil {
			err = e.open(wish)
		}
		answers(e.here, err)
	case native.FabricAdd:
		wish, err := said[native.FabricWish](q)
		if err == nil {
			err = e.add(wish)
		}
		answers(e.here, err)
	case native.FabricMap:
		a, err := said[native.FabricArena](q)
		if err == nil {
			err = e.mapArena(a, file)
		}
		answers(struct{}{}, err)
	case native.FabricUnmap:
		a, err := said[native.FabricArena](q)
		if err == nil && e.arenas[a.Arena] != nil {
			err = unix.Munmap(e.arenas[a.Arena])
			delete(e.arenas, a.Arena)
		}
		answers(struct{}{}, err)
	case native.FabricExpose:
		r, err := said[native.FabricRange](q)
		if err != nil {
			answers(nil, err)
			return
		}
		answers(e.expose(r))
	case native.FabricConceal:
		x, err := said[native.FabricExposed](q)
		if err == nil {
			err = e.conceal(x.Number)
		}
		answers(struct{}{}, err)
	case native.FabricRead:
		r, err := said[native.FabricReading](q)
		if err == nil {
			err = e.read(r, reply)
		}
		if err != nil {
			reply(nil, err)
		}
	case native.FabricLatency:
		r, err := said[native.FabricReading](q)
		if err != nil {
			answers(nil, err)
			return
		}
		answers(e.latency(r))
	case native.FabricFade:
		e.fade()
		answers(struct{}{}, nil)
	default:
		reply(nil, fmt.Errorf("native: %q can't be asked for", q.What))
	}
}

// text is what C says went wrong.
func (e *endpoint) text() string { return C.GoString(&e.why[0]) }

// open opens an endpoint, once.
func (e *endpoint) open(w native.FabricWish) error {
	if len(e.rails) > 0 {
		return errors.New("native: the fabric is open")
	}
	// Caches of registrations keep a key good after it was taken back, and know nothing of memory that another process punches (fi_mr(3), fi_cxi(7)).
	for _, v := range [][2]string{{"FI_MR_CACHE_MONITOR", "disabled"}, {"FI_CXI_PROV_KEY_CACHE", "0"}} {
		if err := os.Setenv(v[0], v[1]); err != nil {
			return fmt.Errorf("native: %s: %w", v[0], err)
		}
	}
	library := C.CString(fabricLibrary)
	defer C.free(unsafe.Pointer(library))
	if C.fabric_load(library, &e.why[0]) != 0 {
		return fmt.Errorf("libfabric can't be loaded: %s", e.text())
	}
	providers := []string{w.Provider}
	if w.Provider == "auto" {
		providers = alone
	} else if !slices.Contains(alone, w.Provider) && !slices.Contains(named, w.Provider) {
		return fmt.Errorf("%q is no provider of a fabric; there are %s and %s", w.Provider, strings.Join(alone, ", "), strings.Join(named, ", "))
	}
	var whys []string
	for _, p := range providers {
		err := e.openProvider(p, w)
		if err == nil {
			return nil
		}
		whys = append(whys, p+": "+err.Error())
	}
	return errors.New(strings.Join(whys, "; "))
}

// sweep removes what processes that were killed have left.
func sweep(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, shmName+"*"))
	for _, path := range files {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), shmName))
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil && int(st.Uid) == os.Getuid() && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = os.Remove(path)
		}
	}
}

func (e *endpoint) mapArena(a native.FabricArena, file int) error {
	switch {
	case e.arenas[a.Arena] != nil:
		return nil
	case file < 0 || a.Size <= 0:
		return fmt.Errorf("native: arena %d came without a descriptor", a.Arena)
	}
	b, err := unix.Mmap(file, 0, int(a.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("native: arena %d: mmap: %w", a.Arena, err)
	}
	_ = unix.Madvise(b, unix.MADV_DONTFORK)
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	e.arenas[a.Arena] = b
	return nil
}

// memory gives a part of an arena.
func (e *endpoint) memory(r native.FabricRange) ([]byte, error) {
	b := e.arenas[r.Arena]
	if r.Offset < 0 || r.Size <= 0 || r.Offset > int64(len(b)) || r.Size > int64(len(b))-r.Offset {
		return nil, fmt.Errorf("native: [%d, +%d) is not in arena %d, of which %d bytes are mapped", r.Offset, r.Size, r.Arena, len(b))
	}
	return b[r.Offset : r.Offset+r.Size : r.Offset+r.Size], nil
}

// expose has others read memory, if they have the keys.
func (e *endpoint) expose(r native.FabricRange) (x native.FabricExposed, err error) {
	b, err := e.memory(r)
	if err != nil {
		return x, err
	}
	m := &exposure{FabricRange: r}
	for _, rail := range e.rails {
		region, err := e.register(rail, b, true)
		if err != nil {
			m.release()
			return native.FabricExposed{}, err
		}
		m.regions = append(m.regions, region)
		x.Keys = append(x.Keys, native.FabricKey{Key: uint64(region.key), At: uint64(region.at)})
	}
	e.numbers++
	x.Number = e.numbers
	e.exposed[x.Number] = m
	return x, nil
}

// release takes the keys back.
func (m *exposure) release() {
	for _, region := range m.regions {
		if err := release(region); err != nil {
			fatal(err) // who has the key could read what comes there next
		}
	}
}

func (e *endpoint) conceal(number uint64) error {
	m := e.exposed[number]
	if m == nil {
		return fmt.Errorf("native: nothing is exposed as %d", number)
	}
	delete(e.exposed, number)
	m.release()
	return nil
}

// fade takes what is mapped out of the page table, where pages count for each process that has them there. What a rail knows of stays, since a card
// may have it under addresses of its own.
func (e *endpoint) fade() {
	for arena, b := range e.arenas {
		var held [][2]int64
		for _, m := range e.exposed {
			if m.Arena == arena {
				held = append(held, [2]int64{m.Offset, m.Offset + m.Size})
			}
		}
		for _, d := range e.reads {
			if d.where.Arena == arena {
				held = append(held, [2]int64{d.where.Offset, d.where.Offset + d.where.Size})
			}
		}
		for _, g := range gaps(int64(len(b)), held) {
			from, to := (g[0]+pageSize-1)&^(pageSize-1), g[1]&^(pageSize-1)
			if from < to {
				_ = unix.Madvise(b[from:to], unix.MADV_DONTNEED)
			}
		}
	}
}

var pageSize = int64(os.Getpagesize())

// fatal ends the process: the kernel then takes the fabric from it.
func fatal(err error) { fatalWith(70, err) }

func fatalWith(status int, err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(status)
}
