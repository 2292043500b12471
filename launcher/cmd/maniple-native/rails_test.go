//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/native"
)

// connected tells how many TCP connections there are between two addresses.
func connected(t *testing.T, from, to string) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	hex := func(host string) string {
		var b [4]byte
		_, _ = fmt.Sscanf(host, "%d.%d.%d.%d", &b[0], &b[1], &b[2], &b[3])
		return fmt.Sprintf("%02X%02X%02X%02X:", b[3], b[2], b[1], b[0])
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); strings.HasPrefix(f[1], hex(from)) && strings.HasPrefix(f[2], hex(to)) && f[3] == "01" {
			n++
		}
	}
	return n
}

// The pieces of a read go by all rails. When one fails the others bring its part, who reads is told, and from then on it goes by them alone.
func TestRails(t *testing.T) {
	here, there := newSide(t, "tcp", "127.0.0.2"), newSide(t, "tcp", "127.0.0.2", "203.0.113.7")
	_, _ = rand.NewChaCha8([32]byte{1}).Read(there.memory)
	a, b := here.open(t), there.open(t)
	if len(a.Here().Rails) != 2 || len(a.Here().Left) > 0 || a.Here().Devices() != "lo, "+a.Here().Rails[1].Device {
		t.Fatalf("%+v", a.Here())
	}
	if len(b.Here().Rails) != 2 || len(b.Here().Left) != 1 || b.Here().Left[0].Device != "203.0.113.7" || b.Here().Left[0].Why == "" {
		t.Fatalf("with an address that is not this node's: %+v", b.Here())
	}
	_, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
	if err != nil {
		t.Fatal(err)
	}
	if len(place.Doors) != 2 || place.Doors[0].Key == place.Doors[1].Key {
		t.Fatalf("%+v", place)
	}
	read := func() []native.FabricLeft {
		t.Helper()
		clear(here.memory)
		left, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Offset: 4096, Size: 20<<20 + 1}, place.From(8192))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(here.memory[4096:4096+20<<20+1], there.memory[8192:8192+20<<20+1]) || here.memory[4095] != 0 || here.memory[4096+20<<20+1] != 0 {
			t.Error("other bytes came")
		}
		return left
	}
	if left := read(); len(left) > 0 {
		t.Errorf("%+v", left)
	}
	if one, two := connected(t, "127.0.0.1", "127.0.0.1"), connected(t, "127.0.0.2", "127.0.0.2"); one == 0 || two == 0 {
		t.Errorf("%d and %d connections", one, two)
	}
	place.Doors[1].Key ^= 1
	if left := read(); len(left) != 1 || left[0].Device != a.Here().Rails[1].Device || left[0].Why == "" {
		t.Errorf("one rail fails: %+v", left)
	}
	if left := read(); len(left) > 0 {
		t.Errorf("the rail that failed is not left out: %+v", left)
	}
	place.Doors[0].Key ^= 1
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: 8}, place); err == nil {
		t.Error("no rail is left, and yet it was read")
	}
}

// A node with one rail reads from one with two, and the other way round.
func TestUnequalRails(t *testing.T) {
	one, two := newSide(t, "tcp"), newSide(t, "tcp", "127.0.0.2")
	a, b := one.open(t), two.open(t)
	copy(one.memory[1<<20:], "of one")
	copy(two.memory[1<<20:], "of two")
	for _, c := range []struct {
		to, from *native.FabricLine
		memory   []byte
		want     string
	}{{a, b, one.memory, "of two"}, {b, a, two.memory, "of one"}} {
		_, place, err := c.from.Expose(t.Context(), native.FabricRange{Arena: 1, Offset: 1 << 20, Size: 6})
		if err != nil {
			t.Fatal(err)
		}
		if left, err := c.to.Read(t.Context(), native.FabricRange{Arena: 1, Size: 6}, place); err != nil || len(left) > 0 || string(c.memory[:6]) != c.want {
			t.Errorf("%q, %+v, %v", c.memory[:6], left, err)
		}
	}
}

// stalls gives an address that leads to another one, until some bytes came from there.
func stalls(t *testing.T, address []byte) []byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	to := fmt.Sprintf("127.0.0.2:%d", int(address[2])<<8|int(address[3]))
	go func() { // until the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			on, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = on.Close(); _ = c.Close() })
			go func() { _, _ = io.Copy(on, c) }()
			go func() { _, _ = io.CopyN(c, on, 1<<19) }()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	address = slices.Clone(address)
	address[2], address[3] = byte(port>>8), byte(port)
	return address
}

// A rail that hangs while the other brings its part ends the process, which says so; it is not opened again before it has shown that it works.
func TestHungRail(t *testing.T) {
	here, there := newSide(t, "tcp", "127.0.0.2"), newSide(t, "tcp", "127.0.0.2")
	a, b := here.open(t), there.open(t)
	_, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
	if err != nil {
		t.Fatal(err)
	}
	place.Doors[1].Address = stalls(t, place.Doors[1].Address)
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: 8 << 20}, place); err == nil || !a.Over() {
		t.Fatalf("%v, and it is over: %v", err, a.Over())
	}
	if n := strings.Count(here.log.String(), "\n"); n != 1 || !strings.Contains(here.log.String(), a.Here().Rails[1].Device+" did not go on for 10s, others did") {
		t.Errorf("%d lines: %s", n, here.log.String())
	}
	hung := a.Here().Rails[1].Device
	if _, err := here.Open(t.Context()); err == nil {
		t.Error("another process was started at once")
	}
	if device, at := here.Resting(); device != hung || time.Until(at) < 4*time.Minute || time.Until(at) > 5*time.Minute {
		t.Errorf("%q is tried again at %v", device, at)
	}
	next := newSide(t, "tcp", "127.0.0.2")
	next.Wish.Without = []string{hung}
	c := next.open(t)
	if len(c.Here().Rails) != 1 || c.Here().Rails[0].Device != a.Here().Rails[0].Device {
		t.Errorf("without %q: %+v", hung, c.Here())
	}
	// It hung since the other side did: here it works, and is used again, for what was exposed before and what is exposed now.
	_, before, err := c.Expose(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Revive(t.Context(), c, "none"); err == nil || len(c.Here().Rails) != 1 {
		t.Errorf("a device that there is not: %v, %+v", err, c.Here())
	}
	if err := next.Revive(t.Context(), c, hung); err != nil || len(c.Here().Rails) != 2 || c.Here().Rails[1].Device != hung {
		t.Fatalf("%v, %+v", err, c.Here())
	}
	_, after, err := c.Expose(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
	if err != nil || len(before.Doors) != 1 || len(after.Doors) != 2 {
		t.Fatalf("%+v, %+v, %v", before, after, err)
	}
	_, _ = rand.NewChaCha8([32]byte{2}).Read(next.memory)
	third := newSide(t, "tcp", "127.0.0.2")
	d := third.open(t)
	for _, place := range []native.FabricPlace{before, after} {
		clear(third.memory)
		if left, err := d.Read(t.Context(), native.FabricRange{Arena: 1, Size: 20 << 20}, place); err != nil || len(left) > 0 || !bytes.Equal(third.memory[:20<<20], next.memory[:20<<20]) {
			t.Errorf("%+v, %v", left, err)
		}
	}
	if _, err := d.Read(t.Context(), native.FabricRange{Arena: 1, Size: 20 << 20}, native.FabricPlace{Provider: after.Provider, Doors: after.Doors[1:]}); err != nil {
		t.Errorf("by the rail alone that came back: %v", err)
	}
	_, theirs, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := c.Read(t.Context(), native.FabricRange{Arena: 1, Size: 20 << 20}, theirs); err != nil || len(left) > 0 {
		t.Errorf("%+v, %v", left, err)
	}
	if one, two := connected(t, "127.0.0.1", "127.0.0.1"), connected(t, "127.0.0.2", "127.0.0.2"); one == 0 || two == 0 {
		t.Errorf("%d and %d connections", one, two)
	}
}

// What is said of bytes goes into one frame of 4 KiB, by however many rails.
func TestPlaceFitsAFrame(t *testing.T) {
	place := native.FabricPlace{Provider: "verbs;ofi_rxm"}
	for range railsMost {
		door := native.FabricDoor{FabricRail: native.FabricRail{Device: strings.Repeat("x", 64), Address: make([]byte, addressMost)}, FabricKey: native.FabricKey{Key: math.MaxUint64, At: math.MaxUint64}}
		place.Doors = append(place.Doors, door)
	}
	if n := len(place.Encode()); n > 4<<10 {
		t.Errorf("it has %d bytes", n)
	}
}
