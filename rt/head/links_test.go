package head

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

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
