package main

import (
	"crypto/rand"
	"encoding/binary"
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
	window        = 4                // operations of one read that are under way
	readLimit     = 10 * time.Second // without an operation's end; then nobody knows what becomes of the memory
	peersMost     = 256              // that are remembered
	shmDir        = "/dev/shm"
	shmName       = "maniple-fabric-" // and the process, before what its endpoint leaves there
)

// endpoint is this process's end of a fabric. All of it is one goroutine's (drive), on a thread of its own; the others leave work for it.
type endpoint struct {
	work    chan func()
	f       *C.struct_fabric // nil: it is not open
	here    native.FabricHere
	modes   C.int
	keySize int
	piece   int64
	auto    bool // the provider drives itself while others read
	arenas  map[uint64][]byte
	exposed map[uint64]*C.struct_fabric_region
	numbers uint64
	peers   map[string]*peer
	failed  map[string]int // how often, without success since, reads from an address were given up
	reads   []*reading
	posted  map[uint64]*reading // by the number of an operation
	done    [16]C.struct_fabric_done
	why     [C.fabric_words]C.char
}

// peer is another endpoint.
type peer struct {
	address C.lf_addr
	users   int
	bad     bool // a read failed: it is forgotten when nobody uses it
}

// reading is a read under way.
type reading struct {
	peer     *peer
	from     string // its address
	into     []byte
	at, key  uint64
	local    *C.struct_fabric_region // nil: not needed
	next     int64
	flying   int
	failed   error
	progress time.Time
	reply    func([]byte, error)
}

func newEndpoint() *endpoint {
	e := &endpoint{work: make(chan func(), 64), arenas: map[uint64][]byte{}, exposed: map[uint64]*C.struct_fabric_region{}, peers: map[string]*peer{}, failed: map[string]int{}, posted: map[uint64]*reading{}}
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
	if q.What != native.FabricOpen && e.f == nil {
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
	default:
		reply(nil, fmt.Errorf("native: %q can't be asked for", q.What))
	}
}

// text is what C says went wrong.
func (e *endpoint) text() string { return C.GoString(&e.why[0]) }

// open opens an endpoint, once.
func (e *endpoint) open(w native.FabricWish) error {
	if e.f != nil {
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

// openProvider opens one of a provider's devices.
func (e *endpoint) openProvider(provider string, w native.FabricWish) error {
	modes := C.int(C.LF_MR_LOCAL | C.LF_MR_ALLOCATED | C.LF_MR_PROV_KEY | C.LF_MR_ENDPOINT)
	if provider != "shm" { // which checks neither keys nor bounds with it
		modes |= C.LF_MR_VIRT_ADDR
	}
	name := C.CString(provider)
	defer C.free(unsafe.Pointer(name))
	var host *C.char
	if w.Host != "" && provider == "tcp" {
		host = C.CString(w.Host)
		defer C.free(unsafe.Pointer(host))
	}
	var list *C.struct_lf_info
	if C.fabric_find(name, host, modes, &list, &e.why[0]) != 0 {
		return errors.New(e.text())
	}
	defer C.fabric_forget(list)
	var infos []*C.struct_lf_info
	var entries []entry
	for i := list; i != nil; i = i.next {
		infos = append(infos, i)
		entries = append(entries, entry{C.GoString(i.fabric_attr.prov_name), C.GoString(i.domain_attr.name)})
	}
	patterns := w.Interfaces
	if host != nil || provider == "shm" { // the address decides, or there is nothing to decide
		patterns = nil
	}
	at := choose(entries, patterns, system("/").networks, system("/").near)
	if at < 0 {
		return fmt.Errorf("it has no device of --interface %s", strings.Join(w.Interfaces, ","))
	}
	var own *C.char
	here := native.FabricHere{Provider: entries[at].provider, Device: entries[at].device}
	if provider == "shm" {
		sweep(shmDir)
		file := shmName + strconv.Itoa(os.Getpid())
		own = C.CString("fi_shm://" + file)
		defer C.free(unsafe.Pointer(own))
		here.Leaves = []string{filepath.Join(shmDir, file)}
	}
	info := infos[at]
	f := C.fabric_open(info, own, &e.why[0])
	if f == nil {
		return errors.New(e.text())
	}
	var address [512]byte
	n := C.fabric_address(f, unsafe.Pointer(&address[0]), C.size_t(len(address)))
	if n <= 0 || int(n) > len(address) {
		C.fabric_close(f)
		return errors.New("its endpoint has no address")
	}
	here.Address = slices.Clone(address[:n])
	e.f, e.here, e.modes = f, here, info.domain_attr.mr_mode
	e.keySize, e.auto = int(info.domain_attr.mr_key_size), info.domain_attr.data_progress == C.LF_PROGRESS_AUTO
	e.piece = pieceSize
	if m := int64(info.ep_attr.max_msg_size); m > 0 {
		e.piece = min(e.piece, m)
	}
	return nil
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

// register tells the fabric of memory.
func (e *endpoint) register(b []byte, remote bool) (*C.struct_fabric_region, error) {
	region := (*C.struct_fabric_region)(C.calloc(1, C.size_t(unsafe.Sizeof(C.struct_fabric_region{}))))
	far := C.int(0)
	if remote {
		far = 1
	}
	for tries := 0; ; tries++ {
		key := uint64(0)
		if e.modes&C.LF_MR_PROV_KEY == 0 { // one that nobody guesses
			var random [8]byte
			_, _ = rand.Read(random[:]) // it never fails
			key = binary.LittleEndian.Uint64(random[:])
			if e.keySize > 0 && e.keySize < 8 {
				key &= 1<<(8*e.keySize) - 1
			}
		}
		if C.fabric_register(e.f, unsafe.Pointer(&b[0]), C.size_t(len(b)), far, C.uint64_t(key), region, &e.why[0]) == 0 {
			return region, nil
		}
		if tries == 2 {
			C.free(unsafe.Pointer(region))
			var limit unix.Rlimit
			if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
				return nil, fmt.Errorf("%d bytes can't be registered: %s (a process may lock %d KiB of memory: `ulimit -l`)", len(b), e.text(), limit.Cur>>10)
			}
			return nil, fmt.Errorf("%d bytes can't be registered: %s", len(b), e.text())
		}
	}
}

func (e *endpoint) release(r *C.struct_fabric_region) error {
	code := C.fabric_release(r)
	C.free(unsafe.Pointer(r))
	if code != 0 {
		return fmt.Errorf("native: memory stays registered: code %d", code)
	}
	return nil
}

// expose has others read memory, if they have the key.
func (e *endpoint) expose(r native.FabricRange) (x native.FabricExposed, err error) {
	b, err := e.memory(r)
	if err != nil {
		return x, err
	}
	region, err := e.register(b, true)
	if err != nil {
		return x, err
	}
	e.numbers++
	e.exposed[e.numbers] = region
	return native.FabricExposed{Number: e.numbers, Key: uint64(region.key), At: uint64(region.at)}, nil
}

func (e *endpoint) conceal(number uint64) error {
	r := e.exposed[number]
	if r == nil {
		return fmt.Errorf("native: nothing is exposed as %d", number)
	}
	delete(e.exposed, number)
	if err := e.release(r); err != nil {
		fatal(err) // who has the key could read what comes there next
	}
	return nil
}

// fatal ends the process: the kernel then takes the fabric from it.
func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(70)
}
