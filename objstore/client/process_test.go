package client_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// The test binary, started with this variable, is a program of its own: what it says goes to stdout as JSON lines,
// and descriptors 3 and 4 are the arena's, to write and to read.
const childEnv = "MANIPLE_TEST_OBJSTORE_CHILD"

// line is what a child says.
type line struct {
	Say          string
	Object       id.Object
	Slab         uint64
	Offset, Size int64
	Sum          uint32
}

// role is what a child is told in childEnv.
type role struct {
	Lease  client.Lease
	Read   client.Location // set: a reader
	Object id.Object
}

type stdout struct {
	enc    *json.Encoder
	wanted chan struct{} // of one
}

func (s stdout) WantSlab(size int64) error {
	s.wanted <- struct{}{}
	return s.enc.Encode(line{Say: "want", Size: size})
}
func (s stdout) Withdraw() error { return s.enc.Encode(line{Say: "withdraw"}) }
func (s stdout) Seal(object id.Object, slab uint64, offset, size int64, _ client.Meta) error {
	return s.enc.Encode(line{Say: "seal", Object: object, Slab: slab, Offset: offset, Size: size})
}
func (s stdout) Forgo(slab uint64, offset, size int64) error {
	return s.enc.Encode(line{Say: "forgo", Slab: slab, Offset: offset, Size: size})
}
func (s stdout) ReturnSlab(slab uint64) error { return s.enc.Encode(line{Say: "return", Slab: slab}) }
func (s stdout) Release(object id.Object, _ uint32) error {
	return s.enc.Encode(line{Say: "release", Object: object})
}

// child writes an object and half of another, or reads one, then stays until it is killed.
func child(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	out := stdout{json.NewEncoder(os.Stdout), make(chan struct{}, 1)}
	c := client.New(out)
	read := os.NewFile(4, "read")
	if err := c.Arena(max(r.Read.Arena, r.Lease.Arena), read); err != nil {
		return err
	}
	if r.Read.Size > 0 {
		if err := c.Located(r.Object, r.Read); err != nil {
			return err
		}
		v, err := c.View(r.Object)
		if err != nil {
			return err
		}
		out.enc.Encode(line{Say: "read", Sum: crc32.ChecksumIEEE(v.Bytes())})
		select {}
	}
	got := make(chan error, 1)
	go func() { got <- c.Put(context.Background(), r.Object, client.Meta{}, value(1, 3*mib)) }()
	<-out.wanted
	if err := c.Lent(r.Lease, os.NewFile(3, "write")); err != nil {
		return err
	}
	if err := <-got; err != nil {
		return err
	}
	b, err := c.Alloc(context.Background(), 2*mib)
	if err != nil {
		return err
	}
	copy(b.Bytes(), "unfinished")
	out.enc.Encode(line{Say: "writing"})
	select {}
}

// start runs a child that is told r, and gives what it says until it says last.
func start(t *testing.T, r role, last string, write, read *os.File) (*exec.Cmd, []line) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{write, read}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var said []line
	for in := bufio.NewScanner(pipe); in.Scan(); {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if said = append(said, l); l.Say == last {
			return cmd, said
		}
	}
	t.Fatalf("the child ended after %v", said)
	return nil, nil
}

// Processes of their own, killed: verifies OBJ-4 and OBJ-5 where the kernel does the unmapping.
func TestKilledProcesses(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 16 * mib, Reserve: -1, FirstArena: 16 * mib})
	var lent objstore.Lent
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(n.store.Attach(1))
	must(n.store.Attach(2))
	out, err := n.store.Lend(0, 1, 8*mib, nil)
	must(err)
	g := out[0].(objstore.Grow)
	must(n.mem.Make(g.Arena, g.Size))
	out, err = n.store.Grown(0, g.Arena, nil)
	must(err)
	lent = out[0].(objstore.Lent)
	write, err := n.mem.Lend(1, lent.Slab, lent.Arena, lent.Start, lent.Size)
	must(err)
	read, err := n.mem.Reader(lent.Arena)
	must(err)
	writer, said := start(t, role{Object: object(1), Lease: client.Lease{Slab: lent.Slab, Arena: lent.Arena, Start: lent.Start, Size: lent.Size, From: lent.From, To: lent.To}}, "writing", write, read)
	write.Close()
	for _, l := range said {
		if l.Say == "seal" {
			must(n.store.Seal(0, 1, objstore.Sealed{Object: l.Object, Slab: l.Slab, Offset: l.Offset, Size: l.Size}))
		}
	}
	at, err := n.store.Deliver(2, object(1))
	must(err)
	reader, said := start(t, role{Object: object(1), Read: client.Location{Arena: at.Arena, Offset: at.Offset, Size: at.Size}}, "read", read, read)
	if want := crc32.ChecksumIEEE(value(1, 3*mib)); said[len(said)-1].Sum != want {
		t.Error("another process reads other bytes")
	}

	if writer.Process.Kill(); writer.Wait() == nil {
		t.Fatal("the writer ended by itself")
	}
	n.mem.Died(1)
	_, err = n.store.Died(0, 1, nil)
	must(err)
	w := n.attach(3)
	defer w.Close()
	put(t, w, 2, value(2, 13*mib-64)) // all but the sealed object, the unfinished one's place with it
	n.settle()
	mine, err := n.mem.Bytes(at.Arena, at.Offset, at.Size)
	must(err)
	if !bytes.Equal(mine, value(1, 3*mib)) {
		t.Error("a sealed object changed after its writer's death")
	}

	n.do(func() { n.out, err = n.store.Release(0, object(1), n.out); n.must(err) })
	if i, ok := n.store.Lookup(object(1)); !ok || i.Views != 1 {
		t.Errorf("%+v, %v: a reader still looks at it", i, ok)
	}
	if reader.Process.Kill(); reader.Wait() == nil {
		t.Fatal("the reader ended by itself")
	}
	n.do(func() { n.mem.Died(2); n.out, err = n.store.Died(0, 2, n.out); n.must(err) })
	if _, ok := n.store.Lookup(object(1)); ok {
		t.Error("the object outlives its last reader")
	}
}

// A child by fork gets no mapping for writing.
func TestSlabsAreNotForked(t *testing.T) {
	n := newNode(t, objstore.Config{Budget: 64 * mib})
	w := n.attach(1)
	defer w.Close()
	put(t, w, 1, value(1, mib))
	n.settle()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range strings.Split(string(smaps), "VmFlags:")[1:] {
		flags, _, _ := strings.Cut(m, "\n")
		// Flags stand at the end of a mapping: this one's are of a shared one that may be written.
		if f := strings.Fields(flags); slices.Contains(f, "sh") && slices.Contains(f, "wr") {
			found++
			if !slices.Contains(f, "dc") {
				t.Errorf("a child gets a mapping for writing: %v", f)
			}
		}
	}
	if found == 0 {
		t.Error("no mapping for writing found")
	}
}

func runChild() {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
}
