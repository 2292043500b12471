package transporttest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Cluster and Epoch are what a Site demands.
const (
	Cluster = "c0ffee00c0ffee00c0ffee00c0ffee00"
	Epoch   = 3
	DeadOne = 666 // agent number that was declared dead

	SiteAgent = 7 // the Site's own number
)

// handshakeTime is the deadline that a Site gives to handshakes.
const handshakeTime = 300 * time.Millisecond

// patience bounds every wait of the suite.
const patience = 20 * time.Second

// Hello is one that a Site admits.
func Hello() *fb.HelloT {
	return &fb.HelloT{Build: "test", Cluster: Cluster, Epoch: Epoch, Role: fb.RoleAgent, Agent: 1, To: SiteAgent}
}

// Inbox collects what a link tells.
type Inbox struct {
	mu      sync.Mutex
	cond    *sync.Cond
	Msgs    []transport.Msg
	Ups     []bool
	Downs   []error
	Dead    error
	total   int
	Blocked bool // OnMessage waits while it is set
}

// NewInbox makes an empty one.
func NewInbox() *Inbox {
	b := new(Inbox)
	b.cond = sync.NewCond(&b.mu)
	return b
}

// Config is a link's that tells everything to the inbox.
func (b *Inbox) Config(name string) transport.LinkConfig {
	do := func(f func()) {
		b.mu.Lock()
		defer b.mu.Unlock()
		f()
		b.cond.Broadcast()
	}
	return transport.LinkConfig{
		Name: name,
		OnMessage: func(m transport.Msg) {
			do(func() {
				for b.Blocked {
					b.cond.Wait()
				}
				b.Msgs = append(b.Msgs, m)
				b.total++
			})
		},
		OnUp:   func(r bool) { do(func() { b.Ups = append(b.Ups, r) }) },
		OnDown: func(err error) { do(func() { b.Downs = append(b.Downs, err) }) },
		OnDead: func(err error) { do(func() { b.Dead = err }) },
	}
}

// Block makes the owner stop taking messages, or go on.
func (b *Inbox) Block(v bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Blocked = v
	b.cond.Broadcast()
}

// Wait waits until f, which may read the inbox, is true.
func (b *Inbox) Wait(t testing.TB, what string, f func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.cond.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for !f() {
		if late {
			t.Fatalf("still waiting for %s: %d messages, up %v, down %v, dead: %v", what, b.total, b.Ups, b.Downs, b.Dead)
		}
		b.cond.Wait()
	}
}

// Take waits for n messages and removes them.
func (b *Inbox) Take(t testing.TB, n int) []transport.Msg {
	t.Helper()
	b.Wait(t, "messages", func() bool { return len(b.Msgs) >= n })
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.Msgs[:n:n]
	b.Msgs = b.Msgs[n:]
	return got
}

// Site answers handshakes with a Gate and one link.
type Site struct {
	W     World
	Gate  transport.Gate
	Link  *transport.Link
	Inbox *Inbox

	mu       sync.Mutex
	admitted int
	strays   []error // connections that did not come so far
	changed  chan struct{}
	wait     sync.WaitGroup
}

// NewSite begins to accept; everything ends with the test.
func NewSite(t testing.TB, w World, cfg func(*transport.LinkConfig)) *Site {
	s := &Site{W: w, Inbox: NewInbox(), changed: make(chan struct{}, 1<<16)}
	s.Gate = transport.Gate{Cluster: Cluster, Epoch: Epoch, Dead: func(n uint32) bool { return n == DeadOne },
		Agent: func() uint32 { return SiteAgent }}
	c := s.Inbox.Config("dialler")
	if cfg != nil {
		cfg(&c)
	}
	s.Link = transport.NewLink(c)
	s.wait.Add(1)
	go s.acceptLoop()
	t.Cleanup(func() {
		w.Close()
		s.Inbox.Block(false)
		s.Link.Kill(nil)
		<-s.Link.Done()
		s.wait.Wait()
	})
	return s
}

func (s *Site) acceptLoop() {
	defer s.wait.Done()
	for {
		conn, err := s.W.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.note(err)
			continue
		}
		s.wait.Add(1)
		go func() {
			defer s.wait.Done()
			s.note(s.answer(conn))
		}()
	}
}

func (s *Site) answer(conn transport.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(handshakeTime))
	link := s.link(nil)
	h, w, err := transport.Answer(conn, func(h *fb.HelloT, p transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
		if r := s.Gate.Check(h, p); r != nil {
			return nil, r
		}
		w := &fb.WelcomeT{Build: "test"}
		link.Offer(h, w)
		return w, nil
	})
	if err != nil {
		conn.Close()
		return err
	}
	return link.Attach(conn, w, h.Received)
}

// link is the site's link; one that is given takes its place. Whoever only reads s.Link in the test's
// own goroutine needs it not.
func (s *Site) link(instead *transport.Link) *transport.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if instead != nil {
		s.Link = instead
	}
	return s.Link
}

func (s *Site) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.admitted++
	} else {
		s.strays = append(s.strays, err)
	}
	s.changed <- struct{}{}
}

// Counts tells how many connections were attached and how many came to nothing, after n in all.
func (s *Site) Counts(t testing.TB, n int) (admitted, strays int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		admitted, strays = s.admitted, len(s.strays)
		s.mu.Unlock()
		if admitted+strays >= n {
			return admitted, strays
		}
		select {
		case <-s.changed:
		case <-deadline:
			t.Fatalf("%d connections attached and %d strays, of %d", admitted, strays, n)
		}
	}
}

// Dialled is a link that a Dialer keeps attached to a world.
type Dialled struct {
	Link  *transport.Link
	Inbox *Inbox
	Err   chan error // what Run returned
}

// Dial makes one; it ends with the test. wrap may change the connections that it uses.
func Dial(t testing.TB, w World, cfg func(*transport.LinkConfig), wrap func(transport.Conn) transport.Conn) *Dialled {
	d := &Dialled{Inbox: NewInbox(), Err: make(chan error, 1)}
	c := d.Inbox.Config("site")
	if cfg != nil {
		cfg(&c)
	}
	d.Link = transport.NewLink(c)
	ctx, cancel := context.WithCancel(context.Background())
	dialer := &transport.Dialer{
		Link:      d.Link,
		Addresses: func() []string { return []string{"site"} },
		Dial: func(ctx context.Context, _ string) (transport.Conn, error) {
			conn, err := w.Dial(ctx)
			if err == nil && wrap != nil {
				conn = wrap(conn)
			}
			return conn, err
		},
		Hello:    Hello,
		MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond,
	}
	go func() { d.Err <- dialer.Run(ctx) }()
	t.Cleanup(func() {
		d.Inbox.Block(false)
		d.Link.Kill(nil)
		cancel()
		<-d.Link.Done()
		<-d.Err
	})
	return d
}

// note, output make a control and a data message with a number.
func note(n uint64) wire.Message   { return &fb.RankInputAckT{Offset: n} }
func output(n uint64) wire.Message { return &fb.RankOutputT{Offset: n} }

// read drains a connection until it ends.
func read(c io.Reader) ([]byte, error) { return io.ReadAll(c) }
