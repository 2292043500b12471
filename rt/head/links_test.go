package head

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// An agent that says more than its window holds is heard: the loop gives its credit back.
func TestCreditComesBack(t *testing.T) {
	s := newSite(t, t.TempDir(), nil)
	s.start()
	a := s.agent("n1", false)
	hear[*fb.RegisteredT](a, "Registered", nil)
	const n = 200 // of 64 KiB each; the window is 8 MiB
	long := strings.Repeat("x", 64<<10)
	for i := range uint64(n) {
		if err := a.link.Send(&fb.StateQueryT{What: "cluster", Id: long}, i+1, nil); err != nil {
			t.Fatal(err)
		}
	}
	a.until("the last answer", func() bool {
		return slices.ContainsFunc(a.heard, func(m transport.Msg) bool { _, ok := m.M.(*fb.StateReplyT); return ok && m.Corr == n })
	})
}

// pipe is one end of a connection to nobody.
type pipe struct{ net.Conn }

func (pipe) Peer() transport.Peer { return transport.Peer{} }

// The end of a connection may be told after the next one was admitted: that one is watched all the same,
// or its agent would be refused its liveness connection and nobody would notice its silence.
func TestTheNextConnectionIsWatched(t *testing.T) {
	core := New(Config{Cluster: testCluster})
	if _, err := core.Open(second, nil); err != nil {
		t.Fatal(err)
	}
	l := newLoop(core, nil, nil, func() int64 { return time.Now().UnixNano() }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	m := l.newMember(ctx, 1)
	defer func() {
		m.drop(errEnds)
		cancel()
		<-m.link.Done()
		l.wait.Wait()
	}()
	l.watch(ctx, 1, m) // as the next connection is admitted
	l.linkDown(1, m, io.EOF)
	if m.alive != nil {
		t.Fatal("an agent without a connection is watched")
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	if err := m.link.Attach(pipe{ours}, &fb.WelcomeT{Session: 1}, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case it := <-l.inbox:
		l.take(it)
	case <-ctx.Done():
		t.Fatal("the link is not up")
	}
	if m.alive == nil {
		t.Error("nobody watches the agent")
	}
}
