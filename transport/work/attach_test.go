package work_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/work"
)

// agent answers at a unix socket as an agent does: the handshake of every purpose, then what the purpose wants.
type agent struct {
	gate transport.Gate
	path string
	errs chan error
}

func serve(t *testing.T, attach func(c *work.Conn, m *fb.AttachT)) *agent {
	t.Helper()
	a := &agent{gate: transport.Gate{Cluster: "c"}, path: filepath.Join(t.TempDir(), "agent.sock"), errs: make(chan error, 10)}
	ln, err := uds.Listen(a.path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			nc, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			a.errs <- a.take(nc, attach)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	return a
}

func (a *agent) take(nc *net.UnixConn, attach func(c *work.Conn, m *fb.AttachT)) error {
	conn, err := uds.Server(nc)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	hello, _, err := transport.Answer(conn, func(h *fb.HelloT, p transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
		if r := a.gate.Check(h, p); r != nil {
			return nil, r
		}
		return &fb.WelcomeT{Agent: 3}, nil
	})
	if err != nil {
		conn.Close()
		return err
	}
	if hello.Purpose != fb.PurposeWork {
		conn.Close()
		return errors.New("another purpose")
	}
	_ = conn.SetDeadline(time.Time{})
	var c *work.Conn
	ready := make(chan struct{})
	c = work.New(conn, work.Config{OnBatch: func(b work.Batch) {
		<-ready
		for f := range work.Frames(b.Bytes) {
			if m, err := f.Message(); err == nil && f.Type() == fb.FrameTypeAttach {
				attach(c, m.(*fb.AttachT))
			} else if err := c.Append(f); err == nil { // all else comes back as it is
				c.Flush()
			}
		}
		b.Release()
	}})
	close(ready)
	<-c.Done()
	return nil
}

func dial(t *testing.T, a *agent) transport.Conn {
	t.Helper()
	conn, err := uds.Dial(context.Background(), a.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	return conn
}

// Hello, Welcome, Attach, Attached; frames that follow at once are not lost to the handshake.
func TestAttach(t *testing.T) {
	a := serve(t, func(c *work.Conn, m *fb.AttachT) {
		_ = c.Send(&fb.AttachedT{Agent: 3, Process: 4, Job: m.Pid, CreditRecords: 100}, 0, nil)
		_ = c.Send(&fb.CreditT{Bytes: 5}, 0, nil)
	})
	conn := dial(t, a)
	attached, err := work.Attach(conn, &fb.HelloT{Cluster: "c", Session: 9}, &fb.AttachT{Kind: fb.AttachKindDriver, Pid: 77})
	if err != nil || attached.Process != 4 || attached.Job != 77 || attached.CreditRecords != 100 {
		t.Fatalf("%+v, %v", attached, err)
	}
	_ = conn.SetDeadline(time.Time{})
	got := make(chan uint64, 2)
	c := work.New(conn, work.Config{OnBatch: func(b work.Batch) {
		for f := range work.Frames(b.Bytes) {
			switch f.Type() {
			case fb.FrameTypeCredit:
				got <- work.Credit(f).Bytes()
			case fb.FrameTypeBlocked:
				got <- work.Blocked(f).Task().Counter
			}
		}
		b.Release()
	}})
	if n := <-got; n != 5 {
		t.Errorf("credit of %d", n)
	}
	if err := c.Send(&fb.BlockedT{Task: &fb.TaskIDT{Counter: 6}}, 0, nil); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 6 {
		t.Errorf("task %d came back", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-a.errs; err != nil {
		t.Error(err)
	}
}

// An agent that does not take the Attach says why.
func TestAttachRefused(t *testing.T) {
	a := serve(t, func(c *work.Conn, m *fb.AttachT) {
		if m.Worker == 1 {
			_ = c.Send(&fb.GoodbyeT{Reason: "no such worker"}, 0, nil)
		} else if m.Worker == 2 {
			_ = c.Send(&fb.NoticeT{}, 0, nil)
		}
		c.Finish()
	})
	for key, want := range map[uint64]error{1: &work.RefusedError{Reason: "no such worker"}, 2: transport.ErrProtocol, 3: io.EOF} {
		_, err := work.Attach(dial(t, a), &fb.HelloT{Cluster: "c"}, &fb.AttachT{Kind: fb.AttachKindWorker, Worker: key})
		var refused *work.RefusedError
		if w, ok := want.(*work.RefusedError); ok {
			if !errors.As(err, &refused) || *refused != *w {
				t.Errorf("worker %d: %v", key, err)
			}
		} else if !errors.Is(err, want) {
			t.Errorf("worker %d: %v, want %v", key, err, want)
		}
		if err := <-a.errs; err != nil {
			t.Error(err)
		}
	}
}

// The gate lets a hello of purpose work pass only from a program of the same node, without a session.
func TestHello(t *testing.T) {
	a := serve(t, func(*work.Conn, *fb.AttachT) {})
	good := func() *fb.HelloT { return &fb.HelloT{Cluster: "c", Role: fb.RoleClient, Purpose: fb.PurposeWork} }
	for name, h := range map[string]*fb.HelloT{
		"an agent":   {Cluster: "c", Role: fb.RoleAgent, Purpose: fb.PurposeWork},
		"a session":  {Cluster: "c", Role: fb.RoleClient, Purpose: fb.PurposeWork, Session: 1},
		"no purpose": {Cluster: "c", Role: fb.RoleClient, Purpose: 5},
		"a probe":    {Cluster: "c", Role: fb.RoleAgent, Purpose: fb.PurposeProbe, Agent: 1, To: 2},
	} {
		_, err := transport.Greet(dial(t, a), h)
		var refused *transport.RefusedError
		if !errors.As(err, &refused) || refused.Code != fb.RefuseCodeMalformed || !refused.Final() {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-a.errs; err == nil {
			t.Errorf("%s was admitted", name)
		}
	}
	h := good()
	h.WireVersion = wire.Version
	if r := a.gate.Check(h, transport.Peer{UID: 1}); r != nil {
		t.Errorf("an honest hello: %+v", r)
	}
	if r := a.gate.Check(h, transport.Peer{UID: -1, Role: fb.RoleClient, Cluster: "c"}); r == nil || r.Code != fb.RefuseCodeMalformed {
		t.Errorf("over TCP: %+v", r)
	}
	if _, err := work.Attach(dial(t, a), &fb.HelloT{Cluster: "another"}, &fb.AttachT{}); !errors.As(err, new(*transport.RefusedError)) {
		t.Errorf("another cluster: %v", err)
	}
	if err := <-a.errs; err == nil {
		t.Error("another cluster was admitted")
	}
}

// An agent that answers with what can't be read costs the process an error.
func TestAttachHostile(t *testing.T) {
	whole, err := work.AppendMessage(nil, &fb.AttachedT{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(at int, v byte) []byte {
		b := append([]byte{}, whole...)
		b[at] = v
		return b
	}
	for name, answer := range map[string][]byte{
		"huge": edit(3, 3), "a fragment": edit(11, wire.FlagMore), "a descriptor": edit(11, wire.FlagDescriptor),
		"a payload": edit(4, 4), "no table": edit(wire.HeaderSize, 255), "cut off": whole[:len(whole)-1],
	} {
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn := pipeConn{a}
			_, _, _ = transport.Answer(conn, func(*fb.HelloT, transport.Peer) (*fb.WelcomeT, *fb.RefuseT) { return &fb.WelcomeT{}, nil })
			_, _ = io.CopyN(io.Discard, a, wire.HeaderSize)
			go func() { _, _ = io.Copy(io.Discard, a) }()
			_, _ = a.Write(answer)
			a.Close()
		}()
		m, err := work.Attach(pipeConn{b}, &fb.HelloT{}, &fb.AttachT{})
		if m != nil || !errors.Is(err, transport.ErrProtocol) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		b.Close()
		<-done
	}
}

type pipeConn struct{ net.Conn }

func (pipeConn) Peer() transport.Peer { return transport.Peer{UID: 0} }
