package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// deskFabric is how large values are read by a fabric (docs/adr/0041): who fetches one asks on its bulk connections where the bytes lie, and has
// maniple-native read them there. What it serves it exposes by the object: as long as somebody reads it, and a moment longer, the
// object is held and its key is good. All of it is used in the desk's turns, but for what says otherwise.
type deskFabric struct {
	d       *desk
	fabric  *native.Fabric
	state   atomic.Pointer[fabricState] // safe for concurrent use
	exposed map[exposed]*exposure
	refused *native.FabricLine // which was said to have refused memory
	traffic traffic

	mu    sync.Mutex
	avoid map[uint32]time.Time // agents whose values come by TCP until then; mu's
	left  map[string]bool      // rails that were said to have failed, of the line that stands; mu's
}

// fabricState is what is known of the endpoint: there is one, or why not.
type fabricState struct {
	line *native.FabricLine // nil: none
	why  string
}

// exposed is a part of an object, by its place among them: each is registered by itself, so that no read waits while gigabytes are.
type exposed struct {
	object id.Object
	part   int64
}

// exposure is a part of an object that others read where it lies.
type exposure struct {
	exposed
	at      native.FabricRange // where it lies: what has its name later lies elsewhere, while this is exposed
	version uint32
	line    *native.FabricLine
	number  uint64
	place   native.FabricPlace
	ready   bool
	failed  bool
	waiting []func()
	users   int
	due     int64 // when it goes if nobody uses it
}

const (
	fabricLeast  = 1 << 20            // bytes of a value that goes by it,
	fabricPart   = 64 << 20           // bytes of it that are exposed at once,
	fabricOver   = 4 << 20            // and what they reach into the next part: ranges do not begin where parts do
	fabricLinger = int64(time.Second) // an exposure stays so long for the next range
	fabricAvoid  = 10 * time.Second   // so long a node's values go by TCP after a read failed
	fabricAgain  = 11 * time.Second   // after the endpoint ended it is opened again,
	fabricRarely = 10 * time.Minute   // and when it could not be, less and less often, but at least so
	fabricLost   = "values go by TCP meanwhile"
)

// fabricWish is what endpoint this node is to have; false: none.
func fabricWish(cfg *Config) (native.FabricWish, bool) {
	wish := native.FabricWish{Provider: cmp.Or(cfg.Fabric, "auto"), Interfaces: cfg.Interfaces, Hosts: cfg.Hosts}
	return wish, cfg.Fabric != "off" && (cfg.Fabric != "" || fabricHardware("/sys/class"))
}

// newDeskFabric gives nil if there is to be none.
func newDeskFabric(d *desk) *deskFabric {
	wish, is := fabricWish(&d.l.core.cfg)
	if d.l.native == nil || !is {
		return nil
	}
	x := &deskFabric{d: d, exposed: map[exposed]*exposure{}, avoid: map[uint32]time.Time{}, left: map[string]bool{}}
	x.fabric = &native.Fabric{Client: native.Client{Path: d.l.native.Path, Log: d.l.log, Idle: -1, Lost: fabricLost}, Wish: wish}
	x.state.Store(&fabricState{why: "it is not open yet"})
	return x
}

// fabricHosts gives the addresses of a node by which a fabric goes that is reached by such: the first of each interface that --interface names, and one
// where it names none, since of two networks nobody knows whether all nodes are on both.
func fabricHosts(facts *device.Facts, named []string) (hosts []string) {
	for _, i := range facts.Interfaces {
		if len(i.Addresses) > 0 && (len(hosts) == 0 || len(named) > 0) {
			hosts = append(hosts, i.Addresses[0])
		}
	}
	return hosts
}

// fabricHardware tells whether this node has a card that a provider may know which is chosen by itself.
func fabricHardware(classes string) bool {
	for _, class := range []string{"infiniband", "cxi"} {
		if list, err := os.ReadDir(classes + "/" + class); err == nil && len(list) > 0 {
			return true
		}
	}
	return false
}

// begin opens the endpoint, and again when it has ended, until ctx does.
func (x *deskFabric) begin(ctx context.Context) {
	x.fabric.Arena = x.d.store.memory.Writer
	x.d.l.goes(func() {
		defer x.fabric.Close()
		pause := fabricAgain
		for told := ""; ; {
			line, err := x.fabric.Open(ctx)
			if err == nil {
				told, pause = "", fabricAgain
				x.d.l.log.Info("values go by a fabric", "provider", line.Here().Provider, "devices", line.Here().Devices())
				x.leaves(line.Here().Left)
				x.state.Store(&fabricState{line: line})
				x.d.post(mail{do: x.d.cutClear})
				if device, at := x.fabric.Resting(); device != "" {
					x.d.l.log.Warn("a device of the fabric is left out: a read by it hung, which may be the other node's doing", "device", device, "tried again in", time.Until(at).Round(time.Second))
				}
				for over := false; !over; {
					over = x.waits(ctx, line)
				}
				if ctx.Err() != nil {
					return
				}
				x.state.Store(&fabricState{why: native.Name + " ended; it is started again"})
				x.d.post(mail{do: func() { x.forget(line) }})
			} else {
				if errors.Is(err, native.ErrNone) {
					err = errors.New("there is no " + native.Name + " beside its maniple")
				}
				if text := err.Error(); text != told && ctx.Err() == nil {
					told = text
					x.d.l.log.Warn("values go by TCP: no fabric can be used", "wanted", x.fabric.Wish.Provider, "why", text)
				}
				x.state.Store(&fabricState{why: told})
				pause = min(2*pause, fabricRarely)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	})
}

// waits returns true when an endpoint is over or ctx is, and before that each time when a device that was left out was tried again.
func (x *deskFabric) waits(ctx context.Context, line *native.FabricLine) (over bool) {
	var due <-chan time.Time
	device, at := x.fabric.Resting()
	if device != "" {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-line.Gone():
		return true
	case <-ctx.Done():
		return true
	case <-due:
	}
	if err := x.fabric.Revive(ctx, line, device); err == nil {
		x.d.l.log.Info("values go by a device of the fabric again by which a read hung", "device", device)
	} else if !line.Over() && ctx.Err() == nil {
		x.d.l.log.Warn("a device of the fabric is left out on: it does not work in a process of its own", "device", device, "why", err)
	}
	return false
}

// now gives the endpoint that stands; nil: none does.
func (x *deskFabric) now() *native.FabricLine {
	if x == nil {
		return nil
	}
	return x.state.Load().line
}

// far gives what reads a range of a value that is fetched from an agent, if it is worth it and there is a way.
func (d *desk) far(ctx context.Context, agent uint32, f *fetch, offset, size int64) bulk.Far {
	x := d.fabric
	line := x.now()
	if line == nil || f.size < fabricLeast || x.avoids(agent) {
		return nil
	}
	into := native.FabricRange{Arena: f.lent.Arena, Offset: f.lent.Start + f.lent.From + offset, Size: size}
	return func(text []byte) error {
		place, err := native.DecodePlace(text)
		if err == nil {
			var left []native.FabricLeft
			left, err = line.Read(ctx, into, place)
			x.leaves(left)
		}
		if err != nil {
			if !line.Over() && ctx.Err() == nil { // else it is this node's, and was told
				x.shun(agent, err)
			}
			return fmt.Errorf("by the fabric: %w", err)
		}
		x.traffic.received.Add(size)
		return nil
	}
}

// leaves says once of each rail that it was left out, while others are used. Safe for concurrent use.
func (x *deskFabric) leaves(left []native.FabricLeft) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range left {
		if !x.left[l.Device] {
			x.left[l.Device] = true
			x.d.l.log.Warn("the fabric goes by its other devices: one failed", "device", l.Device, "why", l.Why)
		}
	}
}

// avoids tells whether an agent's values come by TCP for now. Safe for concurrent use, as shun is.
func (x *deskFabric) avoids(agent uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	until, is := x.avoid[agent]
	if is && time.Now().After(until) {
		delete(x.avoid, agent)
		return false
	}
	return is
}

// shun has an agent's values come by TCP for a while, and says so once.
func (x *deskFabric) shun(agent uint32, why error) {
	x.mu.Lock()
	_, is := x.avoid[agent]
	x.avoid[agent] = time.Now().Add(fabricAvoid)
	x.mu.Unlock()
	if !is {
		x.d.l.log.Warn("values of a node come by TCP for a while: the fabric failed", "agent", agent, "why", why)
	}
}

// cutClear ends connections that were made unencrypted while there was no fabric: others are made, by which it is used.
func (d *desk) cutClear() {
	for _, s := range d.store.bulk.streams {
		if s.clear {
			s.Cut()
		}
	}
}

// locate answers a range with the place where it lies, if it can be read there, and false if it can't.
func (d *desk) locate(ctx context.Context, r bulk.Range, answer func(bulk.Piece)) bool {
	x := d.fabric
	line := x.now()
	if line == nil || !r.Locate {
		return false
	}
	info, ok := d.store.store.Lookup(r.Object)
	l := info.Location
	if !ok || l.Kind == objstore.InFile || l.Size < fabricLeast || r.Offset > l.Size || r.Size > l.Size-r.Offset {
		return false
	}
	part := r.Offset / fabricPart
	e := x.of(ctx, line, r.Object, info, part)
	from := r.Offset - part*fabricPart
	if e == nil || from+r.Size > e.at.Size {
		return false
	}
	if next := part + 1; next*fabricPart < l.Size { // it is registered while this one is read
		x.of(ctx, line, r.Object, info, next)
	}
	if e.failed || e.ready && e.line != line {
		return false // it goes soon
	}
	e.users++
	tell := func() {
		if e.failed {
			x.leave(e)
			d.bytes(r, answer)
			return
		}
		answer(bulk.Piece{Far: e.place.From(from).Encode(), Version: e.version, Done: func() {
			d.store.bulk.traffic.sent.Add(r.Size)
			x.traffic.sent.Add(r.Size)
			d.post(mail{do: func() { x.leave(e) }})
		}})
	}
	if e.ready {
		tell()
	} else {
		e.waiting = append(e.waiting, tell)
	}
	return true
}

// of gives the exposure of a part of an object, and begins it if there is none; nil: that can't be.
func (x *deskFabric) of(ctx context.Context, line *native.FabricLine, object id.Object, info objstore.Info, part int64) *exposure {
	l, key, from := info.Location, exposed{object, part}, part*fabricPart
	at := native.FabricRange{Arena: l.Arena, Offset: l.Offset + from, Size: min(l.Size-from, fabricPart+fabricOver)}
	if e := x.exposed[key]; e != nil {
		if e.at != at || e.version != info.Version {
			return nil // it is of the value that had this name before
		}
		return e
	}
	if _, err := x.d.store.store.Deliver(objstore.Agent, object); err != nil {
		return nil
	}
	e := &exposure{exposed: key, at: at, version: info.Version, line: line, due: x.d.l.now() + fabricLinger}
	x.exposed[key] = e
	x.expose(ctx, e)
	return e
}

// expose has the memory of a part be read by others.
func (x *deskFabric) expose(ctx context.Context, e *exposure) {
	x.d.l.goes(func() {
		number, place, err := e.line.Expose(ctx, e.at)
		x.d.post(mail{do: func() {
			e.number, e.place, e.ready, e.failed = number, place, true, err != nil
			if err != nil {
				x.undeliver(e)
			}
			if err != nil && x.refused != e.line && !e.line.Over() && ctx.Err() == nil {
				x.refused = e.line
				x.d.l.log.Warn("values go by TCP where the fabric refuses their memory, as it did for the first time", "object", e.object, "why", err)
			}
			waiting := e.waiting
			e.waiting = nil
			for _, tell := range waiting {
				tell()
			}
		}})
	})
}

// leave: a range of it was read, or nobody wants it.
func (x *deskFabric) leave(e *exposure) {
	e.users--
	if e.due = x.d.l.now() + fabricLinger; e.failed { // which is not tried again for each range
		e.due = x.d.l.now() + int64(fabricAvoid)
	}
	x.d.stir()
}

// settle takes back what nobody reads any more, and tells when the next is due.
func (x *deskFabric) settle(ctx context.Context) int64 {
	next := never
	if x == nil {
		return next
	}
	now := x.d.l.now()
	for key, e := range x.exposed {
		switch {
		case !e.ready || e.users > 0:
		case e.due > now:
			next = min(next, e.due)
		default:
			delete(x.exposed, key)
			x.conceal(ctx, e)
		}
	}
	return next
}

// conceal takes the key back, and then lets go of the object: its memory is nobody else's before.
func (x *deskFabric) conceal(ctx context.Context, e *exposure) {
	if e.failed {
		return
	}
	x.d.l.goes(func() {
		e.line.Conceal(ctx, e.number)
		x.d.post(mail{do: func() { x.undeliver(e) }})
	})
}

func (x *deskFabric) undeliver(e *exposure) {
	x.d.store.do(x.d.store.store.Undeliver(x.d.l.now(), objstore.Agent, e.object, 1, nil))
}

// forget: an endpoint is over, and what it exposed with it.
func (x *deskFabric) forget(line *native.FabricLine) {
	x.mu.Lock()
	clear(x.left)
	x.mu.Unlock()
	for _, e := range x.exposed {
		if e.line == line {
			e.due = 0
		}
	}
	x.d.stir()
}

// arenaGone has the endpoint forget an arena, of which it has nothing any more.
func (x *deskFabric) arenaGone(arena uint64) {
	if line := x.now(); line != nil {
		x.d.l.goes(func() { _ = line.Unmap(context.Background(), arena) }) // what fails ends with the process
	}
}

// fade has the endpoint let go of the pages of values, which count for each process that has them.
func (x *deskFabric) fade() {
	if line := x.now(); line != nil {
		x.d.l.goes(func() { _ = line.Fade(context.Background()) }) // what fails ends with the process
	}
}

// show says by what large values go, or why not by a fabric, if there was to be one.
func (x *deskFabric) show(j *jsonStore) {
	if x == nil {
		return
	}
	s := x.state.Load()
	j.NoFabric = s.why
	if s.line != nil {
		j.Fabric = s.line.Here().Provider + " " + s.line.Here().Devices()
	}
	j.FabricSent, j.FabricCame = x.traffic.sent.Load(), x.traffic.received.Load()
}
