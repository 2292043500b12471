package native

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fabricWait is how long a question about the fabric may take: longer than what the program itself allows a read.
const fabricWait = 30 * time.Second

// Fabric is the agent's side of an endpoint of a fabric (InfiniBand, Slingshot, EFA, Omni-Path), by which memory of other nodes is read
// and they read this one's. It has a process of its own. Safe for concurrent use.
type Fabric struct {
	Client Client
	Wish   FabricWish
	Arena  func(number uint64) (*os.File, int64, error) // gives one that nobody else closes, to map it

	mu    sync.Mutex
	line  *FabricLine
	rests rests
}

// FabricLine is one life of the endpoint: what was exposed by it is so until the process ends.
type FabricLine struct {
	here   atomic.Pointer[FabricHere]
	f      *Fabric
	p      *process
	mu     sync.Mutex
	arenas map[uint64]bool
}

// Open gives the endpoint, and starts the process if none runs.
func (f *Fabric) Open(ctx context.Context) (*FabricLine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.line != nil && !f.line.Over() {
		return f.line, nil
	}
	f.leaveOut()
	f.sweep()
	ctx, stop := context.WithTimeout(ctx, fabricWait)
	defer stop()
	without := f.Wish
	without.Without = slices.Concat(f.Wish.Without, f.rests.devices())
	wish, err := json.Marshal(without)
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	p, corr, answer, err := f.Client.begin(nil)
	if err != nil {
		return nil, err
	}
	text, err := p.ask(ctx, FabricOpen, "", corr, answer, wish)
	l := &FabricLine{f: f, p: p, arenas: map[uint64]bool{}}
	if err == nil {
		err = l.opened(text)
	}
	if err != nil { // it is of no use
		p.endUnused(err)
		return nil, err
	}
	f.line = l
	return l, nil
}

// Close ends the process.
func (f *Fabric) Close() {
	f.Client.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.line != nil {
		<-f.line.p.gone
	}
	f.sweep()
}

// leaveOut has a rail not be opened again, for a while, with which the last process hung.
func (f *Fabric) leaveOut() {
	if f.line == nil {
		return
	}
	rails := f.line.Here().Rails
	if i := f.line.p.status - FabricHung; i >= 0 && i < len(rails) {
		f.rests.hung(time.Now(), rails[i].Device)
	}
}

// sweep removes what a process that was killed has left.
func (f *Fabric) sweep() {
	if f.line == nil {
		return
	}
	for _, path := range f.line.Here().Leaves {
		_ = os.Remove(path)
	}
	f.line = nil
}

// endUnused ends a process that found no fabric; no other is started for restAfter.
func (p *process) endUnused(why error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.quiet = true
	p.endLocked(why)
}

// Here is the endpoint as it is now: rails may have come to it.
func (l *FabricLine) Here() *FabricHere { return l.here.Load() }

// opened takes in what the process says of the endpoint.
func (l *FabricLine) opened(text []byte) error {
	var here FabricHere
	if err := json.Unmarshal(text, &here); err != nil {
		return err
	}
	l.here.Store(&here)
	return nil
}

// Over tells that the process is.
func (l *FabricLine) Over() bool {
	select {
	case <-l.p.gone:
		return true
	default:
		return false
	}
}

// Kill ends the process as a crash would.
func (l *FabricLine) Kill() { _ = l.p.cmd.Process.Kill() }

// Gone is closed when it is, and no memory is read or written by it.
func (l *FabricLine) Gone() <-chan struct{} { return l.p.gone }

// ask asks this process and no other.
func (l *FabricLine) ask(ctx context.Context, what string, about, into any, files ...*os.File) error {
	payload, err := json.Marshal(about)
	if err != nil {
		return fmt.Errorf("native: %w", err)
	}
	p, corr, answer, err := l.f.Client.begin(l.p)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, fabricWait)
	defer stop()
	text, err := p.ask(ctx, what, "", corr, answer, payload, files...)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// knows has the process map an arena.
func (l *FabricLine) knows(ctx context.Context, arena uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.arenas[arena] {
		return nil
	}
	file, size, err := l.f.Arena(arena)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := l.ask(ctx, FabricMap, FabricArena{arena, size}, nil, file); err != nil {
		return err
	}
	l.arenas[arena] = true
	return nil
}

// Unmap has it forget an arena, of which nothing is exposed and nothing read.
func (l *FabricLine) Unmap(ctx context.Context, arena uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.arenas[arena] {
		return nil
	}
	delete(l.arenas, arena)
	return l.ask(ctx, FabricUnmap, FabricArena{Arena: arena}, nil)
}

// Expose lets others read a part of an arena who get the place.
func (l *FabricLine) Expose(ctx context.Context, r FabricRange) (number uint64, place FabricPlace, err error) {
	if err = l.knows(ctx, r.Arena); err != nil {
		return 0, place, err
	}
	var x FabricExposed
	if err = l.ask(ctx, FabricExpose, r, &x); err != nil {
		return 0, place, err
	}
	here := l.Here()
	place.Provider = here.Provider
	for i, key := range x.Keys[:min(len(x.Keys), len(here.Rails))] { // a rail may have come in between
		place.Doors = append(place.Doors, FabricDoor{here.Rails[i], key})
	}
	return x.Number, place, nil
}

// Conceal takes that back: when it returns nobody reads there any more, whether the process said so or ended.
func (l *FabricLine) Conceal(ctx context.Context, number uint64) {
	if err := l.ask(ctx, FabricConceal, FabricExposed{Number: number}, nil); err != nil {
		l.p.end(fmt.Errorf("native: memory stays exposed: %w", err))
		<-l.p.gone
	}
}

// Read reads bytes of another node into a part of an arena, and tells of rails that failed meanwhile. When it returns nothing is written there
// any more.
func (l *FabricLine) Read(ctx context.Context, into FabricRange, place FabricPlace) (left []FabricLeft, err error) {
	if err := l.knows(ctx, into.Arena); err != nil {
		return nil, err
	}
	var came FabricCame
	err = l.ask(ctx, FabricRead, FabricReading{Into: into, Place: place}, &came)
	if err != nil && l.ended() {
		<-l.p.gone
	}
	return came.Left, err
}

// Fade has the process take arenas out of its page table, but for what is read by a fabric: the rest comes back at the next look.
func (l *FabricLine) Fade(ctx context.Context) error { return l.ask(ctx, FabricFade, struct{}{}, nil) }

// Latency measures reads of 8 bytes.
func (l *FabricLine) Latency(ctx context.Context, into FabricRange, place FabricPlace, count int) (t FabricTimes, err error) {
	if err = l.knows(ctx, into.Arena); err != nil {
		return t, err
	}
	err = l.ask(ctx, FabricLatency, FabricReading{Into: into, Place: place, Count: count}, &t)
	return t, err
}

// ended tells that the process was ended or has ended by itself; it may not be reaped yet.
func (l *FabricLine) ended() bool {
	l.f.Client.mu.Lock()
	defer l.f.Client.mu.Unlock()
	return l.f.Client.p != l.p
}
