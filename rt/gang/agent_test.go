package gang

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// fakeAgent is an agent that does what the test says: it listens on a unix socket, attaches whoever
// comes, and gives the test what they say. Its goroutines end with stop.
type fakeAgent struct {
	t      *testing.T
	path   string
	number uint32
	got    chan wire.Message
	pay    sync.Map // *fb.RankInputT to its bytes
	mu     sync.Mutex
	ln     *net.UnixListener
	link   *transport.Link
	links  []*transport.Link
	wait   sync.WaitGroup
}

func newAgent(t *testing.T) *fakeAgent {
	a := &fakeAgent{t: t, path: filepath.Join(t.TempDir(), "agent.sock"), number: 7, got: make(chan wire.Message, 10000)}
	a.serve()
	t.Cleanup(a.stop)
	return a
}

func (a *fakeAgent) serve() {
	a.t.Helper()
	ln, err := uds.Listen(a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	a.ln = ln
	a.wait.Add(1)
	go func() {
		defer a.wait.Done()
		for {
			nc, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			a.accept(nc)
		}
	}()
}

func (a *fakeAgent) accept(nc *net.UnixConn) {
	conn, err := uds.Server(nc)
	if err != nil {
		a.t.Error(err)
		return
	}
	var link *transport.Link
	link = transport.NewLink(transport.LinkConfig{Name: "client", LostAfter: time.Millisecond, OnMessage: func(m transport.Msg) {
		switch t := m.M.(type) {
		case *fb.AttachT:
			_ = link.Send(&fb.AttachedT{Agent: a.number, Process: 1, Node: "n1", Cluster: "c"}, 0, nil)
		case *fb.StateQueryT:
			if t.What == "hang" {
				break
			}
			r := &fb.StateReplyT{}
			if t.What == "bad" {
				r.Error = "no such thing"
			}
			_ = link.Send(r, m.Corr, fmt.Appendf(nil, `{"from":%d}`, a.number))
		case *fb.RankInputT:
			a.pay.Store(t, m.Payload)
		}
		a.got <- m.M
	}})
	hello, welcome, err := transport.Answer(conn, func(h *fb.HelloT, _ transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
		if h.Role != fb.RoleClient {
			return nil, &fb.RefuseT{Code: fb.RefuseCodeIdentity, Text: "clients only"}
		}
		if h.Build == "old" {
			return nil, &fb.RefuseT{Code: fb.RefuseCodeWireVersion, Text: "too old"}
		}
		w := &fb.WelcomeT{}
		link.Offer(h, w)
		return w, nil
	})
	if err != nil {
		_ = conn.Close()
		return
	}
	a.mu.Lock()
	a.link = link
	a.links = append(a.links, link)
	a.mu.Unlock()
	if err := link.Attach(conn, welcome, hello.Received); err != nil {
		a.t.Error(err)
	}
}

// crash ends the agent without a word; its socket stays if its keeper does.
func (a *fakeAgent) crash(keeper bool) {
	if !keeper {
		_ = a.ln.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	for _, l := range a.links {
		l.Kill(transport.ErrClosed)
	}
	a.links = nil
}

func (a *fakeAgent) stop() {
	_ = a.ln.Close()
	a.crash(false)
	a.wait.Wait()
}

func (a *fakeAgent) send(m wire.Message, data ...byte) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.link.Send(m, 0, data); err != nil {
		a.t.Error(err)
	}
}

// next waits for a message of the same type as want, and drops others.
func next[M wire.Message](a *fakeAgent) M {
	a.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case m := <-a.got:
			if m, ok := m.(M); ok {
				return m
			}
		case <-limit:
			var want M
			a.t.Fatalf("the client does not say %T", want)
		}
	}
}

func (a *fakeAgent) output(group *fb.TaskIDT, incarnation, rank uint32, stream uint8, offset uint64, text string, eof bool) {
	a.t.Helper()
	a.send(&fb.RankOutputT{Group: group, Incarnation: incarnation, Rank: rank, Stream: stream, Offset: OffsetBase(incarnation) + offset, Eof: eof, Process: 1}, []byte(text)...)
}

// eofs ends all streams of a gang that said nothing more.
func (a *fakeAgent) eofs(group *fb.TaskIDT, ranks int, at map[int]uint64) {
	for r := range ranks {
		a.output(group, 1, uint32(r), 1, at[r], "", true)
		a.output(group, 1, uint32(r), 2, 0, "", true)
	}
}

func (a *fakeAgent) running(group *fb.TaskIDT, incarnation uint32, ranks int) {
	u := &fb.GroupUpdateT{Group: group, Incarnation: incarnation, Phase: fb.GroupPhaseRunning, Nodes: []*fb.PeerInfoT{{Agent: a.number, Name: "n1"}}}
	for r := range ranks {
		u.Ranks = append(u.Ranks, &fb.RankPlaceT{Rank: uint32(r), Agent: a.number, LocalRank: uint32(r)})
	}
	a.send(u)
}

func (a *fakeAgent) ended(group *fb.TaskIDT, end *fb.GroupEndT) {
	a.send(&fb.GroupUpdateT{Group: group, Phase: fb.GroupPhaseEnded, Incarnation: 1, End: end})
}

func attachTo(t *testing.T, a *fakeAgent) *Client {
	t.Helper()
	c, err := Connect(t.Context(), Endpoint{Socket: a.path, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ranks(n int) Spec {
	return Spec{Name: "gang", Bundles: []*fb.BundleT{{Ranks: uint32(n)}}, Program: &fb.ProgramT{Argv: []string{"p"}, Stdin: fb.StdinToRankZero}}
}

type result struct {
	end End
	err error
}

// begin runs a gang and returns its ID once the agent was asked for it.
func begin(t *testing.T, a *fakeAgent, c *Client, s Spec, io IO) (*fb.TaskIDT, <-chan result) {
	t.Helper()
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	go func() {
		end, err := Run(ctx, c, s, io)
		done <- result{end, err}
	}()
	return next[*fb.GroupCreateT](a).Group, done
}
