package agent

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// idleLoop is a loop that nobody runs: the test takes what comes.
func idleLoop(cred *tcp.Credential) *loop {
	return &loop{
		core: NewCore(Config{}), config: &fb.KeeperConfigT{NodeKey: "n"}, doc: &bootdoc.Doc{Cluster: "c"}, cred: cred, log: slog.New(slog.DiscardHandler),
		now: func() int64 { return 1 }, inbox: make(chan item, inboxSize), head: &headLink{}, peers: map[uint32]*peerLinks{},
	}
}

// A session with the head that is over, however it ended, ends the agent: without one it would hold its
// node for ever, unknown to anybody.
func TestDeadHeadSessionEndsTheAgent(t *testing.T) {
	for _, why := range []error{transport.ErrProtocol, &transport.GoodbyeError{Reason: "you are dead"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		l := idleLoop(nil)
		l.dialHead(ctx)
		l.head.link.Kill(why)
		var got []Event
		for len(got) < 2 {
			select {
			case it := <-l.inbox:
				got = append(got, it.ev)
			case <-ctx.Done():
				t.Fatalf("%v: the core was told %v", why, got)
			}
		}
		if r, ok := got[1].(HeadRefused); !ok || r.Code != fb.RefuseCodeDead || r.Text != why.Error() {
			t.Errorf("%v: the core was told %v", why, got)
		}
		cancel()
		l.wait.Wait()
	}
}

// mutePipe is one end of a connection.
type mutePipe struct{ net.Conn }

func (mutePipe) Peer() transport.Peer { return transport.Peer{} }

// A connection to a peer that only seems to stand does not hold up output for long: its session is over.
func TestMutePeerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l := idleLoop(nil)
		link := l.peerLink(ctx, 5)
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }() // takes all and says nothing; ends with ours
		if err := link.Attach(mutePipe{ours}, &fb.WelcomeT{Session: 1}, 0); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for over := false; !over; {
			select {
			case it := <-l.inbox:
				over = it.do != nil
			case <-ctx.Done():
				t.Error("the session with a peer that says nothing goes on")
				over = true
			}
		}
		if d := time.Since(began); d > 2*peerAlive+peerLost+time.Second {
			t.Errorf("it went on for %v", d)
		}
		link.Kill(transport.ErrClosed)
		<-link.Done()
	})
}

// Whoever dials an agent says which one it means, so that another one at its address can refuse; a
// refusal ends the try, and the core asks the head where the agent is.
func TestDialPeerSaysWhomItMeans(t *testing.T) {
	authority, err := tcp.NewAuthority("00112233445566778899aabbccddeeff", bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	cred, err := authority.Credential(fb.RoleAgent)
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l := idleLoop(cred)
	l.head.number.Store(3)
	l.dialPeer(ctx, PeerDial{Peer: 5, Addresses: []string{port.Addr().String()}})
	nc, err := port.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.ReadPreamble(nc); err != nil {
		t.Fatal(err)
	}
	conn, err := tcp.Server(ctx, nc, cred)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello, _, _ := transport.Answer(conn, func(*fb.HelloT, transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
		return nil, &fb.RefuseT{Code: fb.RefuseCodeIdentity, Text: "agent 6 answers here"}
	})
	if hello == nil || hello.To != 5 || hello.Agent != 3 {
		t.Errorf("said %+v", hello)
	}
	for l.peers[5].out != nil { // until the loop was told that the try is over
		select {
		case it := <-l.inbox:
			it.do(ctx)
		case <-ctx.Done():
			t.Fatal("a refusal does not end the try")
		}
	}
	cancel()
	l.wait.Wait()
}

// When the head is elsewhere the agent looks for it there, at once.
func TestHeadMoves(t *testing.T) {
	l := idleLoop(nil)
	l.head.addresses = []string{"10.0.0.1:7000"}
	ours, theirs := net.Pipe()
	l.head.remember(mutePipe{ours})
	l.headMoved(&fb.KeeperConfigT{Boot: `{"version":1,"cluster":"00112233445566778899aabbccddeeff","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","name":"c","head":["10.0.0.2:7000"]}`})
	if got := l.head.where(); len(got) != 1 || got[0] != "10.0.0.2:7000" {
		t.Error(got)
	}
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Error("the connection to the old one stands:", err)
	}
	l.headMoved(&fb.KeeperConfigT{Boot: "no document"})
	if got := l.head.where(); len(got) != 1 {
		t.Error(got)
	}
}

// Without a head an agent ends after as long as its boot document says.
func TestPatience(t *testing.T) {
	for patience, want := range map[int64]int64{0: fenceAfter, int64(time.Minute): int64(time.Minute)} {
		c := NewCore(Config{Patience: patience})
		c.headUp, c.downSince = false, 5
		if got := c.fenceAt(); got != 5+want {
			t.Error(patience, got)
		}
	}
}
