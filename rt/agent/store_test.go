package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// memory is a driver that has objstore/client over its work connection.
type memory struct {
	*client.Client
	t    *testing.T
	conn *work.Conn
	at   *fb.AttachedT
	next uint64
	told chan id.Object // objects whose place came

	mu   sync.Mutex
	seen map[id.Object]uint32 // places told, and own Seals
	lost chan string          // errors in place of a value
}

func remembers(t *testing.T, n *node) *memory {
	t.Helper()
	nc, err := uds.Dial(t.Context(), n.socket)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := json.Marshal(map[string]string{"executable": "/proc/self/exe", "cwd": t.TempDir()})
	m := &memory{t: t, told: make(chan id.Object, 100), seen: map[id.Object]uint32{}, lost: make(chan string, 10)}
	m.at, err = work.Attach(nc, &fb.HelloT{}, &fb.AttachT{Kind: fb.AttachKindDriver, Pid: uint32(os.Getpid()), JobConfig: string(config)})
	if err != nil {
		t.Fatal(err)
	}
	if !m.at.Store {
		t.Fatal("the agent has no store")
	}
	m.Client = client.New(m)
	ready := make(chan struct{})
	m.conn = work.New(nc, work.Config{OnBatch: func(b work.Batch) {
		<-ready
		files := b.Files
		for f := range work.Frames(b.Bytes) {
			var file *os.File
			if f.HasDescriptor() {
				file, files = files[0], files[1:]
			}
			if err := m.take(f, file); err != nil {
				t.Error(err)
			}
		}
		b.Release()
	}})
	close(ready)
	t.Cleanup(func() { m.conn.Cut(); <-m.conn.Done(); _ = m.Close() })
	return m
}

func (m *memory) take(f work.Frame, file *os.File) error {
	if f.Type() == fb.FrameTypeResult {
		r := work.Result(f)
		if r.Flags()&uint32(fb.ResultFlagError) != 0 {
			m.lost <- string(f.Payload())
			return nil
		}
		if r.Flags()&uint32(fb.ResultFlagLocated) == 0 {
			return nil
		}
		var l fb.LocationT
		if err := wire.ReadLocation(f.Payload()[r.Refs()*work.ObjectSize:], &l); err != nil {
			return err
		}
		o := id.Object{Task: r.Task(), Index: r.Index()}
		defer func() { m.told <- o }()
		m.mu.Lock()
		m.seen[o]++
		m.mu.Unlock()
		return m.Located(o, client.Location{Arena: l.Arena, Offset: int64(l.Offset), Size: int64(l.Size)})
	}
	msg, err := f.Message()
	if err != nil {
		return err
	}
	switch x := msg.(type) {
	case *fb.ArenaT:
		return m.Arena(x.Arena, file)
	case *fb.ArenaGoneT:
		return m.Gone(x.Arena)
	case *fb.ViewRecallT:
		return m.asked(id.Object{Task: id.Task{Agent: id.Agent(x.Task.Agent), Process: id.Process(x.Task.Process), Counter: x.Task.Counter}, Index: x.Index})
	case *fb.SlabRecallT:
		return m.Recall(x.Slab)
	case *fb.SlabT:
		if x.Error != "" {
			return m.Refused(refusal(x.Error))
		}
		return m.Lent(client.Lease{Slab: x.Slab, Arena: x.Arena, Start: int64(x.Start), Size: int64(x.Size), From: int64(x.From), To: int64(x.To)}, file)
	}
	return nil
}

type refusal string

func (r refusal) Error() string { return string(r) }

func (m *memory) WantSlab(size int64) error {
	return m.conn.Send(&fb.SlabWantedT{Size: uint64(size)}, 0, nil)
}
func (m *memory) Withdraw() error { return m.WantSlab(0) }
func (m *memory) Forgo(slab uint64, offset, size int64) error {
	return m.conn.Send(&fb.SlabForgoT{Slab: slab, Offset: uint64(offset), Size: uint64(size)}, 0, nil)
}
func (m *memory) ReturnSlab(slab uint64) error {
	return m.conn.Send(&fb.SlabReturnT{Slab: slab}, 0, nil)
}

func (m *memory) Seal(o id.Object, slab uint64, offset, size int64, meta client.Meta) error {
	_, f := work.Extend(nil, fb.FrameTypeSeal, 0)
	m.mu.Lock()
	m.seen[o]++
	m.mu.Unlock()
	s := work.Seal(f)
	s.SetObject(o)
	s.SetSlab(slab)
	s.SetOffset(uint64(offset))
	s.SetSize(uint64(size))
	return m.flush(f)
}

// asked answers whether an object is looked at.
func (m *memory) asked(o id.Object) error {
	m.mu.Lock()
	seen := m.seen[o]
	if m.Leave(o) {
		m.seen[o] = 0
	} else {
		seen = 0
	}
	m.mu.Unlock()
	return m.conn.Send(&fb.ViewEndT{Task: &fb.TaskIDT{Agent: uint32(o.Task.Agent), Process: uint32(o.Task.Process), Counter: o.Task.Counter}, Index: o.Index, Seen: seen}, 0, nil)
}

// Release leaves out the delivery that the client counts for its own Seal: on the connection that is none.
func (m *memory) Release(o id.Object, deliveries uint32) error {
	_, f := work.Extend(nil, fb.FrameTypeRelease, 0)
	work.Release(f).SetObject(o)
	work.Release(f).SetDeliveries(deliveries - 1)
	return m.flush(f)
}

func (m *memory) flush(f work.Frame) error {
	if err := m.conn.Append(f); err != nil {
		return err
	}
	m.conn.Flush()
	return nil
}

func (m *memory) mint() id.Object {
	m.next++
	return id.Object{Task: id.Task{Agent: id.Agent(m.at.Agent), Process: id.Process(m.at.Process), Counter: m.next}}
}

// puts makes an object of so many bytes b.
func (m *memory) puts(b byte, size int) id.Object {
	m.t.Helper()
	o := m.mint()
	if err := m.tries(o, b); err != nil {
		m.t.Fatal(err)
	}
	return o
}

func (m *memory) tries(o id.Object, b byte) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	return m.Put(ctx, o, client.Meta{}, bytes.Repeat([]byte{b}, size))
}

func (m *memory) asks(o id.Object) error {
	_, f := work.Extend(nil, fb.FrameTypeGet, 0)
	work.Get(f).SetObject(o)
	work.Get(f).SetWant(fb.WantValue)
	return m.flush(f)
}

func (m *memory) get(o id.Object) {
	m.t.Helper()
	if err := m.asks(o); err != nil {
		m.t.Fatal(err)
	}
	select {
	case got := <-m.told:
		if got != o {
			m.t.Fatalf("asked for %v, was told of %v", o, got)
		}
	case <-time.After(20 * time.Second):
		m.t.Fatal("no place came")
	}
}

const size = 8 << 20

// AGENT-12: memory goes around, and never under the eyes of a process that looks at it, also when its
// connection is over.
func TestSharedMemory(t *testing.T) {
	n := cluster(t, "n1")[0]
	m := remembers(t, n)
	kept := m.puts('a', size)
	m.get(kept)
	view, err := m.View(kept)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 { // 480 MiB through 307
		if err := m.Drop(m.puts('b', size)); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(when string) {
		t.Helper()
		if n := bytes.Count(view.Bytes(), []byte{'a'}); n != size {
			t.Errorf("%s only %d bytes of %d are what they were", when, n, size)
		}
	}
	whole("after other puts")
	_ = m.conn.Close() // the process goes on, and looks
	other := remembers(t, n)
	var held []id.Object
	for range 6 {
		held = append(held, other.puts('c', size))
	}
	whole("after the end of the connection")
	for _, o := range held {
		if err := other.Drop(o); err != nil {
			t.Error(err)
		}
	}
	if logs := n.logs(); strings.Contains(logs, "the object store") {
		t.Error(logs)
	}
}

// What a process has no right to say of memory ends its connection.
func TestHostileSlabs(t *testing.T) {
	n := cluster(t, "n1")[0]
	good := remembers(t, n)
	mine := good.puts('a', size)
	for name, bad := range map[string]func(*memory) error{
		"seal what is another's":    func(m *memory) error { return m.Seal(m.mint(), 1, 0, 64, client.Meta{}) },
		"seal what there is not":    func(m *memory) error { return m.Seal(m.mint(), 99, -64, -1, client.Meta{}) },
		"forgo what is another's":   func(m *memory) error { return m.Forgo(1, size, 64) },
		"return what is another's":  func(m *memory) error { return m.ReturnSlab(1) },
		"release what is another's": func(m *memory) error { return m.Release(mine, 1) },
		"want less than nothing":    func(m *memory) error { return m.WantSlab(-1) },
		"want too often": func(m *memory) (err error) {
			for range 40 {
				err = m.WantSlab(200 << 20)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := remembers(t, n)
			if err := bad(m); err != nil {
				t.Log(err)
			}
			select {
			case <-m.conn.Done():
			case <-time.After(20 * time.Second):
				t.Error("its connection goes on")
			}
		})
	}
	good.get(mine)
	if _, err := good.View(mine); err != nil {
		t.Error(err)
	}
}

// SHM-5: with the agent goes the memory, and the next one has its own.
func TestSharedMemoryEndsWithItsAgent(t *testing.T) {
	n := cluster(t, "n1")[0]
	m := remembers(t, n)
	m.puts('a', size)
	old := n.daemon("agent")
	_ = syscall.Kill(old, syscall.SIGKILL)
	<-m.conn.Done()
	until(t, "there is another agent", func() bool { return n.daemon("agent") != old })
	again := remembers(t, n)
	o := again.puts('b', size)
	again.get(o)
}
