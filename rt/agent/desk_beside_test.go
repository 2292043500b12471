package agent

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A value of an agent of this machine is copied from its memory. Who is not reached by its socket, or is not who was meant there, is reached by
// the network, and the socket is not tried again until the session is another one.
func TestValueFromBeside(t *testing.T) {
	value := bytes.Repeat([]byte("beside"), 3<<20)
	file, err := os.CreateTemp(t.TempDir(), "memory")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(value); err != nil {
		t.Fatal(err)
	}
	var denied atomic.Bool
	piece := func(r bulk.Range) bulk.Piece {
		if denied.Load() {
			return bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size], Lies: bulk.Place{File: file, Offset: 1 << 40}}
		}
		return bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size], Lies: bulk.Place{File: file, Offset: r.Offset}}
	}
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var calls, refused atomic.Int32
	go func() { // as another agent's keeper and agent
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				calls.Add(1)
				conn, err := uds.Server(nc.(*net.UnixConn))
				if err != nil {
					t.Error(err)
					return
				}
				_, _, err = transport.Answer(conn, func(h *fb.HelloT, p transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
					if h.To != 2 || h.Purpose != fb.PurposeBulk {
						refused.Add(1)
						return nil, &fb.RefuseT{Code: fb.RefuseCodeIdentity, Text: "another one is meant"}
					}
					return &fb.WelcomeT{}, nil
				})
				if err != nil {
					_ = conn.Close()
					return
				}
				_ = bulk.Serve(conn, func(r bulk.Range, answer func(bulk.Piece)) { answer(piece(r)) }, func() {}, nil)
			}()
		}
	}()
	byNetwork := 0
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { byNetwork++; return piece(r) })
	d.l.core.cfg.Boot, d.l.core.cfg.Socket = "this start", path
	d.l.doc, d.l.config, d.l.head = &bootdoc.Doc{}, &fb.KeeperConfigT{}, &headLink{}
	d.errands = append(d.errands, &errand{number: 4, peer: 5, process: 10})
	n := uint64(0)
	bring := func(process id.Process) {
		t.Helper()
		n++
		o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: n}}
		d.fetch(&work.Effect{Do: work.Fetch, Process: process, Object: o, Key: uint64(len(value))})
		d.until(t, func() bool { return len(d.events) > 0 })
		ev := d.events[0].(work.Fetched)
		d.events = nil
		if ev.Why != "" {
			t.Fatal(ev.Why)
		}
		if b, err := d.store.memory.Bytes(ev.Arena, ev.Offset, int64(len(value))); err != nil || !bytes.Equal(b, value) {
			t.Error("something else came", err)
		}
	}
	traffic := &d.store.bulk.traffic
	bring(9)
	if size := int64(len(value)); traffic.beside.Load() != size || traffic.received.Load() != size || byNetwork > 0 || calls.Load() == 0 {
		t.Errorf("%d of %d bytes were copied, in %d calls, and %d ranges came by the network", traffic.beside.Load(), size, calls.Load(), byNetwork)
	}
	bring(10) // agent 5, which is not behind that socket
	before := calls.Load()
	for _, s := range d.store.bulk.streams {
		s.Cut()
	}
	d.until(t, func() bool { return len(d.store.bulk.streams) == 0 })
	bring(10)
	if byNetwork == 0 || refused.Load() == 0 || calls.Load() != before {
		t.Errorf("%d ranges came by the network; the socket was called %d times, and then %d times more", byNetwork, before, calls.Load()-before)
	}
	denied.Store(true) // as where descriptors may not be passed on
	for _, s := range d.store.bulk.streams {
		s.Cut()
	}
	d.until(t, func() bool { return len(d.store.bulk.streams) == 0 })
	bring(9)
	if !d.store.bulk.apart[2] {
		t.Error("what can't be read is tried for ever")
	}
	d.bulkLost(t.Context(), 5, "a test")
	if d.store.bulk.apart[5] {
		t.Error("what was tried in another session counts")
	}
	for _, m := range []*fb.BulkTicketsT{{Socket: path}, {Boot: "this start"}, {Socket: path, Boot: "another start"}} {
		if d.besideUs(7, m) {
			t.Errorf("%+v is on this machine", m)
		}
	}
	if d.l.core.cfg.Boot = ""; d.besideUs(7, &fb.BulkTicketsT{Socket: path}) {
		t.Error("it is switched off, and goes on")
	}
}
