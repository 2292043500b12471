package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/native"
)

// #include <stdlib.h>
// #include "fabric.h"
import "C"

// peerAt finds another endpoint.
func (e *endpoint) peerAt(p native.FabricPlace) (*peer, error) {
	if p.Provider != e.here.Provider {
		return nil, fmt.Errorf("the other node goes by %s, this one by %s", p.Provider, e.here.Provider)
	}
	if len(p.Address) == 0 || len(p.Address) > 512 {
		return nil, fmt.Errorf("native: an address of %d bytes", len(p.Address))
	}
	if x := e.peers[string(p.Address)]; x != nil {
		if x.bad {
			return nil, errors.New("native: another read from there failed")
		}
		return x, nil
	}
	if len(e.peers) >= peersMost {
		for address, x := range e.peers {
			e.leave(address, x)
		}
	}
	address := C.CBytes(append(slices.Clone(p.Address), 0))
	defer C.free(address)
	x := &peer{}
	if C.fabric_peer(e.f, address, &x.address, &e.why[0]) != 0 {
		return nil, errors.New(e.text())
	}
	e.peers[string(p.Address)] = x
	return x, nil
}

// leave forgets a peer that nobody uses.
func (e *endpoint) leave(address string, x *peer) {
	if x.users == 0 {
		C.fabric_leave(e.f, x.address)
		delete(e.peers, address)
	}
}

// prepare makes a reading.
func (e *endpoint) prepare(r native.FabricReading) (*reading, error) {
	into, err := e.memory(r.Into)
	if err != nil {
		return nil, err
	}
	x, err := e.peerAt(r.Place)
	if err != nil {
		return nil, err
	}
	d := &reading{peer: x, from: string(r.Place.Address), into: into, at: r.Place.At, key: r.Place.Key, progress: time.Now()}
	if e.modes&C.LF_MR_LOCAL != 0 {
		if d.local, err = e.register(into, false); err != nil {
			return nil, err
		}
	}
	x.users++
	return d, nil
}

// forget ends a reading.
func (e *endpoint) forget(d *reading) {
	if d.local != nil {
		if err := e.release(d.local); err != nil {
			fatal(err)
		}
	}
	d.peer.users--
	if d.failed == nil {
		delete(e.failed, d.from)
	} else if !d.peer.bad { // the first one since it was found
		d.peer.bad = true
		if len(e.failed) >= peersMost { // of some that are no more, as a rule
			clear(e.failed)
		}
		e.failed[d.from]++
	}
	if d.peer.bad {
		e.leave(d.from, d.peer)
	}
}

// anew ends the process when reads from one peer failed, and failed again after it was forgotten and found: some providers never
// connect to one again with which a connection broke.
func (e *endpoint) anew(d *reading) {
	if e.failed[d.from] > 1 {
		fatal(fmt.Errorf("native: %s: reads from one node failed twice: %w", e.here.Provider, d.failed))
	}
}

// desc is what reads into its memory need.
func (d *reading) desc() unsafe.Pointer {
	if d.local == nil {
		return nil
	}
	return d.local.desc
}

// read begins a read; reply is called when it is over.
func (e *endpoint) read(r native.FabricReading, reply func([]byte, error)) error {
	d, err := e.prepare(r)
	if err != nil {
		return err
	}
	d.reply = reply
	e.reads = append(e.reads, d)
	e.post()
	return nil
}

// post begins as many operations as may be under way, and ends readings that are over.
func (e *endpoint) post() {
	full := false
	for _, d := range e.reads {
		for !full && d.failed == nil && d.next < int64(len(d.into)) && d.flying < window {
			n := min(e.piece, int64(len(d.into))-d.next)
			e.numbers++
			code := C.fabric_read(e.f, unsafe.Pointer(&d.into[d.next]), C.size_t(n), d.desc(), d.peer.address, C.uint64_t(d.at+uint64(d.next)), C.uint64_t(d.key), C.uint64_t(e.numbers), &e.why[0])
			if code == -C.int(unix.EAGAIN) {
				full = true
				break
			}
			if code != 0 {
				d.failed = errors.New(e.text())
				break
			}
			e.posted[e.numbers] = d
			d.next += n
			d.flying++
		}
		if d.flying > 0 && time.Since(d.progress) > readLimit {
			fatal(fmt.Errorf("native: a read by %s did not go on for %s", e.here.Provider, readLimit))
		}
		if d.flying == 0 && d.failed == nil && d.next < int64(len(d.into)) && time.Since(d.progress) > readLimit {
			d.failed = fmt.Errorf("no read could be begun for %s", readLimit)
		}
	}
	e.reads = slices.DeleteFunc(e.reads, func(d *reading) bool {
		if d.flying > 0 || d.failed == nil && d.next < int64(len(d.into)) {
			return false
		}
		e.forget(d)
		if d.failed != nil {
			d.reply(nil, fmt.Errorf("a read by %s failed: %w", e.here.Provider, d.failed))
			e.anew(d)
		} else {
			d.reply([]byte("{}"), nil)
		}
		return true
	})
}

// poll drives the endpoint for so many microseconds at most.
func (e *endpoint) poll(microseconds int) {
	n := C.fabric_poll(e.f, C.long(microseconds), &e.done[0], C.int(len(e.done)), &e.why[0])
	if n < 0 {
		fatal(fmt.Errorf("native: %s: %s", e.here.Provider, e.text()))
	}
	for i := range int(n) {
		x := &e.done[i]
		d := e.posted[uint64(x.number)]
		if d == nil {
			continue
		}
		delete(e.posted, uint64(x.number))
		d.flying--
		d.progress = time.Now()
		if x.failed != 0 && d.failed == nil {
			d.failed = errors.New(C.GoString(&x.why[0]))
		}
	}
	if len(e.reads) > 0 {
		e.post()
	}
}

// latency measures reads of 8 bytes, when nothing else is under way.
func (e *endpoint) latency(r native.FabricReading) (t native.FabricTimes, err error) {
	if len(e.reads) > 0 || r.Into.Size != 8 || r.Count < 1 || r.Count > 1<<20 {
		return t, errors.New("native: a latency is measured by 8 bytes, while nothing else is read")
	}
	d, err := e.prepare(r)
	if err != nil {
		return t, err
	}
	each := make([]uint32, r.Count)
	if C.fabric_latency(e.f, unsafe.Pointer(&d.into[0]), d.desc(), d.peer.address, C.uint64_t(d.at), C.uint64_t(d.key), C.int(r.Count), (*C.uint32_t)(unsafe.Pointer(&each[0])), &e.why[0]) != 0 {
		fatal(fmt.Errorf("native: %s: %s", e.here.Provider, e.text())) // operations may be under way
	}
	e.forget(d)
	slices.Sort(each)
	us := func(share float64) float64 { return float64(each[int(share*float64(len(each)-1))]) / 1000 }
	return native.FabricTimes{Best: us(0), Median: us(0.5), P99: us(0.99)}, nil
}
