package main

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// addressMost is how many bytes an address here may have: those of all rails, with their keys, have to go into one frame.
const addressMost = 192

// rail is the endpoint at one device.
type rail struct {
	f       *C.struct_fabric
	device  string
	modes   C.int
	keySize int
	piece   int64
	flying  int // operations under way
	peers   map[string]*peer
	failed  map[string]int       // how often, without success since, reads from an address were given up
	shunned map[string]time.Time // addresses with which it failed while others did not, until then
}

// peer is another endpoint.
type peer struct {
	address C.lf_addr
	users   int
	bad     bool // a read failed: it is forgotten when nobody uses it
}

// found is a device that libfabric has listed.
type found struct {
	info *C.struct_lf_info
	entry
	host string // that it was asked for; "": none
}

// candidates lists a provider's devices that are to be used, and those of the wish that it does not have. forget is called when they are of no more use.
func (e *endpoint) candidates(provider string, w native.FabricWish) (list []found, left []native.FabricLeft, forget func(), err error) {
	hosts := []string{""}
	if provider == "tcp" && len(w.Hosts) > 0 {
		hosts = w.Hosts[:min(len(w.Hosts), railsMost)]
	}
	var forgets []func()
	forget = func() {
		for _, f := range forgets {
			f()
		}
	}
	for _, host := range hosts {
		some, f, err := e.find(provider, host)
		if err != nil && host == "" {
			return nil, nil, forget, err
		}
		if err != nil {
			left = append(left, native.FabricLeft{Device: host, Why: err.Error()})
			continue
		}
		forgets = append(forgets, f)
		if host != "" { // the address decides
			some = some[:1]
		}
		list = append(list, some...)
	}
	if hosts[0] == "" {
		var entries []entry
		for _, x := range list {
			entries = append(entries, x.entry)
		}
		patterns := w.Interfaces
		if provider == "shm" { // there is nothing to choose
			patterns = nil
		}
		var some []found
		for _, i := range choose(entries, patterns, system("/").networks, system("/").near) {
			some = append(some, list[i])
		}
		if list = some; len(list) == 0 {
			return nil, nil, forget, fmt.Errorf("it has no device of --interface %s", strings.Join(w.Interfaces, ","))
		}
	}
	if w.Only != "" {
		if list = slices.DeleteFunc(list, func(x found) bool { return x.device != w.Only }); len(list) == 0 {
			return nil, nil, forget, fmt.Errorf("it has no device %s any more", w.Only)
		}
		list = list[:1]
	}
	if some := slices.DeleteFunc(slices.Clone(list), func(x found) bool { return slices.Contains(w.Without, x.device) }); len(some) > 0 {
		list = some
	}
	return list, left, forget, nil
}

// openProvider opens an endpoint at each of a provider's devices that are to be used.
func (e *endpoint) openProvider(provider string, w native.FabricWish) error {
	list, left, forget, err := e.candidates(provider, w)
	defer forget()
	if err != nil {
		return err
	}
	here := native.FabricHere{Left: left}
	var own *C.char
	if provider == "shm" {
		sweep(shmDir)
		file := shmName + strconv.Itoa(os.Getpid())
		own = C.CString("fi_shm://" + file)
		defer C.free(unsafe.Pointer(own))
		here.Leaves, list = []string{filepath.Join(shmDir, file)}, list[:1]
	}
	e.auto = true
	for _, x := range list {
		if err := e.addRail(&here, x, own); err != nil {
			here.Left = append(here.Left, native.FabricLeft{Device: cmp.Or(x.host, x.device), Why: err.Error()})
		}
	}
	if len(e.rails) == 0 {
		var whys []string
		for _, l := range here.Left {
			whys = append(whys, l.Device+": "+l.Why)
		}
		return errors.New(strings.Join(whys, "; "))
	}
	e.here, e.by = here, provider
	return nil
}

// addRail opens an endpoint at a device, and has it be the last of the rails.
func (e *endpoint) addRail(here *native.FabricHere, x found, own *C.char) error {
	r, address, err := e.openRail(x, own)
	if err != nil {
		return err
	}
	e.auto = e.auto && x.info.domain_attr.data_progress == C.LF_PROGRESS_AUTO
	e.rails = append(e.rails, r)
	here.Provider, here.Rails = x.provider, append(here.Rails, native.FabricRail{Device: x.device, Address: address})
	return nil
}

// add has the endpoint go by another device, too. What is exposed already is read by those that it had.
func (e *endpoint) add(w native.FabricWish) error {
	if slices.ContainsFunc(e.rails, func(r *rail) bool { return r.device == w.Only }) {
		return nil
	}
	list, _, forget, err := e.candidates(e.by, w)
	defer forget()
	if err != nil {
		return err
	}
	here := e.here
	here.Rails = slices.Clone(here.Rails)
	if w.Only == "" || e.by == "shm" || len(e.rails) == railsMost || list[0].provider != here.Provider {
		return fmt.Errorf("native: %q can't be added to %d rails of %s", w.Only, len(e.rails), here.Provider)
	}
	if err := e.addRail(&here, list[0], nil); err != nil {
		return err
	}
	e.here = here
	return nil
}

// find lists what a provider has, for an address of this node or, with "", for any. forget is called when that is of no more use.
func (e *endpoint) find(provider, host string) (list []found, forget func(), err error) {
	modes := C.int(C.LF_MR_LOCAL | C.LF_MR_ALLOCATED | C.LF_MR_PROV_KEY | C.LF_MR_ENDPOINT)
	if provider != "shm" { // which checks neither keys nor bounds with it
		modes |= C.LF_MR_VIRT_ADDR
	}
	name := C.CString(provider)
	defer C.free(unsafe.Pointer(name))
	var at *C.char
	if host != "" {
		at = C.CString(host)
		defer C.free(unsafe.Pointer(at))
	}
	var first *C.struct_lf_info
	if C.fabric_find(name, at, modes, &first, &e.why[0]) != 0 {
		return nil, nil, errors.New(e.text())
	}
	for i := first; i != nil; i = i.next {
		list = append(list, found{i, entry{C.GoString(i.fabric_attr.prov_name), C.GoString(i.domain_attr.name)}, host})
	}
	return list, func() { C.fabric_forget(first) }, nil
}

// openRail opens an endpoint at one device.
func (e *endpoint) openRail(x found, own *C.char) (*rail, []byte, error) {
	f := C.fabric_open(x.info, own, &e.why[0])
	if f == nil {
		return nil, nil, errors.New(e.text())
	}
	var address [addressMost]byte
	n := C.fabric_address(f, unsafe.Pointer(&address[0]), C.size_t(len(address)))
	if n <= 0 || int(n) > len(address) {
		C.fabric_close(f)
		return nil, nil, fmt.Errorf("its endpoint has no address of %d bytes at most", len(address))
	}
	domain := x.info.domain_attr
	r := &rail{
		f: f, device: x.device, modes: domain.mr_mode, keySize: int(domain.mr_key_size), piece: pieceSize,
		peers: map[string]*peer{}, failed: map[string]int{}, shunned: map[string]time.Time{},
	}
	if m := int64(x.info.ep_attr.max_msg_size); m > 0 {
		r.piece = min(r.piece, m)
	}
	return r, slices.Clone(address[:n]), nil
}

// register tells a rail of memory.
func (e *endpoint) register(r *rail, b []byte, remote bool) (*C.struct_fabric_region, error) {
	region := (*C.struct_fabric_region)(C.calloc(1, C.size_t(unsafe.Sizeof(C.struct_fabric_region{}))))
	far := C.int(0)
	if remote {
		far = 1
	}
	for tries := 0; ; tries++ {
		key := uint64(0)
		if r.modes&C.LF_MR_PROV_KEY == 0 { // one that nobody guesses
			var random [8]byte
			_, _ = rand.Read(random[:]) // it never fails
			key = binary.LittleEndian.Uint64(random[:])
			if r.keySize > 0 && r.keySize < 8 {
				key &= 1<<(8*r.keySize) - 1
			}
		}
		if C.fabric_register(r.f, unsafe.Pointer(&b[0]), C.size_t(len(b)), far, C.uint64_t(key), region, &e.why[0]) == 0 {
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

// release has it forgotten.
func release(r *C.struct_fabric_region) error {
	code := C.fabric_release(r)
	C.free(unsafe.Pointer(r))
	if code != 0 {
		return fmt.Errorf("native: memory stays registered: code %d", code)
	}
	return nil
}

// peerAt finds another endpoint.
func (e *endpoint) peerAt(r *rail, at []byte) (*peer, error) {
	if len(at) == 0 || len(at) > 512 {
		return nil, fmt.Errorf("native: an address of %d bytes", len(at))
	}
	if x := r.peers[string(at)]; x != nil {
		if x.bad {
			return nil, errors.New("native: another read from there failed")
		}
		return x, nil
	}
	if len(r.peers) >= peersMost {
		for address, x := range r.peers {
			r.leave(address, x)
		}
	}
	address := C.CBytes(append(slices.Clone(at), 0))
	defer C.free(address)
	x := &peer{}
	if C.fabric_peer(r.f, address, &x.address, &e.why[0]) != 0 {
		return nil, errors.New(e.text())
	}
	r.peers[string(at)] = x
	return x, nil
}

// leave forgets a peer that nobody uses.
func (r *rail) leave(address string, x *peer) {
	if x.users == 0 {
		C.fabric_leave(r.f, x.address)
		delete(r.peers, address)
	}
}

// used notes how a read from an address went: whether something came, and what failed.
func (r *rail) used(address string, x *peer, came bool, failed error) {
	x.users--
	switch {
	case failed == nil && !came: // others were faster, or it is not connected yet
	case failed == nil:
		delete(r.failed, address)
		delete(r.shunned, address)
	case !x.bad: // the first one since it was found
		x.bad = true
		if len(r.failed) >= peersMost { // of some that are no more, as a rule
			clear(r.failed)
			clear(r.shunned)
		}
		r.failed[address]++
		r.shunned[address] = time.Now().Add(railAgain)
	}
	if x.bad {
		r.leave(address, x)
	}
}

// shuns tells whether an address is read by other rails, if there are any.
func (r *rail) shuns(address string) bool {
	until, is := r.shunned[address]
	return is && time.Now().Before(until)
}
