package main

import (
	"cmp"
	"encoding/json"
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

// reading is a read under way: its pieces go over all rails by which both nodes reach each other.
type reading struct {
	where    native.FabricRange
	into     []byte
	lanes    []*lane
	again    [][2]int64 // pieces that a rail failed to bring
	next     int64
	flying   int
	failed   error
	progress time.Time
	reply    func([]byte, error)
}

// lane is a rail of a reading.
type lane struct {
	*rail
	peer   *peer
	from   string // its address
	at     uint64
	key    uint64
	local  *C.struct_fabric_region // nil: not needed
	flying int
	came   bool  // something did by it
	bad    error // it is used no more
}

// flight is a piece under way.
type flight struct {
	d    *reading
	lane *lane
	span [2]int64
}

// prepare makes a reading.
func (e *endpoint) prepare(r native.FabricReading) (*reading, error) {
	into, err := e.memory(r.Into)
	if err != nil {
		return nil, err
	}
	if r.Place.Provider != e.here.Provider {
		return nil, fmt.Errorf("the other node goes by %s, this one by %s", r.Place.Provider, e.here.Provider)
	}
	d := &reading{where: r.Into, into: into, progress: time.Now()}
	var here, there []string
	for _, rail := range e.rails {
		here = append(here, rail.device)
	}
	for _, door := range r.Place.Doors {
		there = append(there, door.Device)
	}
	to := join(here, there)
	last := errors.New("native: a place without an address")
	for _, shunned := range []bool{false, true} { // those that failed if there are no others
		if len(d.lanes) > 0 {
			break
		}
		for i, rail := range e.rails {
			if to[i] < 0 {
				continue
			}
			door := r.Place.Doors[to[i]]
			if rail.shuns(string(door.Address)) != shunned {
				continue
			}
			if err := e.addLane(d, rail, door); err != nil {
				last = err
			}
		}
	}
	if len(d.lanes) == 0 {
		return nil, last
	}
	return d, nil
}

// addLane has a reading go by a rail, too.
func (e *endpoint) addLane(d *reading, r *rail, door native.FabricDoor) error {
	x, err := e.peerAt(r, door.Address)
	if err != nil {
		return err
	}
	l := &lane{rail: r, peer: x, from: string(door.Address), at: door.At, key: door.Key}
	if r.modes&C.LF_MR_LOCAL != 0 {
		if l.local, err = e.register(r, d.into, false); err != nil {
			return err
		}
	}
	x.users++
	d.lanes = append(d.lanes, l)
	return nil
}

// forget ends a reading, and tells of rails that failed.
func (e *endpoint) forget(d *reading) (left []native.FabricLeft) {
	for _, l := range d.lanes {
		if l.local != nil {
			if err := release(l.local); err != nil {
				fatal(err)
			}
		}
		if l.bad != nil {
			left = append(left, native.FabricLeft{Device: l.device, Why: l.bad.Error()})
		}
		l.used(l.from, l.peer, l.came, l.bad)
	}
	return left
}

// anew ends the process when reads from one peer failed, and failed again after it was forgotten and found: some providers never
// connect to one again with which a connection broke.
func (e *endpoint) anew(d *reading) {
	if !slices.ContainsFunc(d.lanes, func(l *lane) bool { return l.rail.failed[l.from] < 2 }) {
		fatal(fmt.Errorf("native: %s: reads from one node failed twice: %w", e.here.Provider, d.failed))
	}
}

// desc is what reads into its memory need.
func (l *lane) desc() unsafe.Pointer {
	if l.local == nil {
		return nil
	}
	return l.local.desc
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

// left tells whether pieces are to be begun.
func (d *reading) left() bool {
	return d.failed == nil && (len(d.again) > 0 || d.next < int64(len(d.into)))
}

// free gives the lane on whose rail the least is under way, the nearest of them, of those that are not full; nil: none.
func (d *reading) free(full map[*rail]bool) *lane {
	var best *lane
	for _, l := range d.lanes {
		if l.bad == nil && l.flying < window && !full[l.rail] && (best == nil || l.rail.flying < best.rail.flying) {
			best = l
		}
	}
	return best
}

// take gives the next piece, of so many bytes at most.
func (d *reading) take(most int64) (p [2]int64) {
	if n := len(d.again); n > 0 {
		p = d.again[n-1]
		d.again = d.again[:n-1]
		if p[1]-p[0] > most {
			d.again = append(d.again, [2]int64{p[0] + most, p[1]})
			p[1] = p[0] + most
		}
		return p
	}
	p = [2]int64{d.next, min(d.next+most, int64(len(d.into)))}
	d.next = p[1]
	return p
}

// breaks has a lane be used no more, and its piece come by another one.
func (d *reading) breaks(l *lane, p [2]int64, why error) {
	d.again = append(d.again, p)
	l.bad = cmp.Or(l.bad, why)
	if !slices.ContainsFunc(d.lanes, func(l *lane) bool { return l.bad == nil }) {
		d.failed = why
	}
}

// post begins as many operations as may be under way, and ends readings that are over.
func (e *endpoint) post() {
	full := map[*rail]bool{}
	for _, d := range e.reads {
		for d.left() {
			l := d.free(full)
			if l == nil {
				break
			}
			p := d.take(l.piece)
			e.numbers++
			code := C.fabric_read(l.f, unsafe.Pointer(&d.into[p[0]]), C.size_t(p[1]-p[0]), l.desc(), l.peer.address, C.uint64_t(l.at+uint64(p[0])), C.uint64_t(l.key), C.uint64_t(e.numbers), &e.why[0])
			switch {
			case code == -C.int(unix.EAGAIN):
				full[l.rail] = true
				d.again = append(d.again, p)
			case code != 0:
				d.breaks(l, p, errors.New(e.text()))
			default:
				e.posted[e.numbers] = &flight{d, l, p}
				d.flying++
				l.flying++
				l.rail.flying++
			}
		}
		if time.Since(d.progress) > readLimit {
			if d.flying > 0 {
				e.hangs(d)
			} else if d.left() {
				d.failed = fmt.Errorf("no read could be begun for %s", readLimit)
			}
		}
	}
	e.reads = slices.DeleteFunc(e.reads, func(d *reading) bool {
		if d.flying > 0 || d.left() {
			return false
		}
		left := e.forget(d)
		if d.failed != nil {
			d.reply(nil, fmt.Errorf("a read by %s failed: %w", e.here.Provider, d.failed))
			e.anew(d)
		} else {
			d.reply(json.Marshal(native.FabricCame{Left: left}))
		}
		return true
	})
}

// hangs ends the process, since nobody knows what becomes of the memory. If other rails brought their part it is the rail's doing: its number is in the
// exit status.
func (e *endpoint) hangs(d *reading) {
	i := slices.IndexFunc(d.lanes, func(l *lane) bool { return l.flying > 0 })
	l := d.lanes[i]
	if slices.ContainsFunc(d.lanes, func(l *lane) bool { return l.flying == 0 && l.came }) {
		fatalWith(native.FabricHung+slices.Index(e.rails, l.rail), fmt.Errorf("native: a read by %s did not go on for %s, others did: it is left out for a while", l.device, readLimit))
	}
	fatal(fmt.Errorf("native: a read by %s did not go on for %s", e.here.Provider, readLimit))
}

// poll drives the endpoint for so many microseconds at most.
func (e *endpoint) poll(microseconds int) {
	for i, r := range e.rails {
		n := C.fabric_poll(r.f, C.long(microseconds/len(e.rails)), &e.done[0], C.int(len(e.done)), &e.why[0])
		if n < 0 {
			err := fmt.Errorf("native: %s: %s: %s", e.here.Provider, r.device, e.text())
			if len(e.rails) == 1 {
				fatal(err)
			}
			fatalWith(native.FabricHung+i, err) // the others go on without it
		}
		for i := range int(n) {
			e.over(&e.done[i])
		}
	}
	if len(e.reads) > 0 {
		e.post()
	}
}

// over: an operation is.
func (e *endpoint) over(x *C.struct_fabric_done) {
	f := e.posted[uint64(x.number)]
	if f == nil {
		return
	}
	delete(e.posted, uint64(x.number))
	f.d.flying--
	f.lane.flying--
	f.lane.rail.flying--
	f.d.progress = time.Now()
	if x.failed != 0 {
		f.d.breaks(f.lane, f.span, errors.New(C.GoString(&x.why[0])))
	} else {
		f.lane.came = true
	}
}

// latency measures reads of 8 bytes by the first rail, when nothing else is under way.
func (e *endpoint) latency(r native.FabricReading) (t native.FabricTimes, err error) {
	if len(e.reads) > 0 || r.Into.Size != 8 || r.Count < 1 || r.Count > 1<<20 {
		return t, errors.New("native: a latency is measured by 8 bytes, while nothing else is read")
	}
	d, err := e.prepare(r)
	if err != nil {
		return t, err
	}
	l := d.lanes[0]
	each := make([]uint32, r.Count)
	if C.fabric_latency(l.f, unsafe.Pointer(&d.into[0]), l.desc(), l.peer.address, C.uint64_t(l.at), C.uint64_t(l.key), C.int(r.Count), (*C.uint32_t)(unsafe.Pointer(&each[0])), &e.why[0]) != 0 {
		fatal(fmt.Errorf("native: %s: %s", e.here.Provider, e.text())) // operations may be under way
	}
	l.came = true
	e.forget(d)
	slices.Sort(each)
	us := func(share float64) float64 { return float64(each[int(share*float64(len(each)-1))]) / 1000 }
	return native.FabricTimes{Best: us(0), Median: us(0.5), P99: us(0.99)}, nil
}
