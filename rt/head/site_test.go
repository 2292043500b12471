package head

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// site is what a head has around it: a keeper that accepts connections and hands them over, a
// directory, and the head itself in a goroutine, behind its real sockets.
type site struct {
	t      *testing.T
	dir    string
	doc    bootdoc.Doc
	auth   *tcp.Authority
	listen net.Listener

	mu     sync.Mutex
	keeper *uds.FDConn // to the head that runs now
	told   chan wire.Message
	ended  chan headEnd
	cancel context.CancelFunc // of the head
}

type headEnd struct {
	code int
	err  error
}

const patience = 20 * time.Second

func newSite(t *testing.T, dir string, change func(*bootdoc.Doc)) *site {
	s := &site{t: t, dir: dir, doc: bootdoc.Doc{Version: bootdoc.Version, Cluster: testCluster, Secret: make([]byte, 32), Name: "loop"}}
	if change != nil {
		change(&s.doc)
	}
	var err error
	if s.auth, err = tcp.NewAuthority(s.doc.Cluster, s.doc.Secret); err != nil {
		t.Fatal(err)
	}
	if s.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(s.accept)
	t.Cleanup(func() {
		s.crash()
		_ = s.listen.Close()
		accepting.Wait()
	})
	return s
}

// accept is a keeper's: it reads the preamble and hands the descriptor to the head.
func (s *site) accept() {
	for {
		nc, err := s.listen.Accept()
		if err != nil {
			return
		}
		p, err := transport.ReadPreamble(nc)
		if err == nil {
			var f *os.File
			if f, err = nc.(*net.TCPConn).File(); err == nil {
				s.mu.Lock()
				if s.keeper != nil {
					_ = s.keeper.Send(&fb.KeeperConnT{Role: p.Role, Purpose: p.Purpose}, 0, nil, f)
				}
				s.mu.Unlock()
				_ = f.Close()
			}
		}
		_ = nc.Close()
	}
}

// start runs a head and waits until it serves, or has said why not.
func (s *site) start() wire.Message {
	s.t.Helper()
	mine, theirs, err := uds.Pair()
	if err != nil {
		s.t.Fatal(err)
	}
	keeper, err := uds.NewFDConn(mine)
	if err != nil {
		s.t.Fatal(err)
	}
	boot, err := json.Marshal(&s.doc)
	if err != nil {
		s.t.Fatal(err)
	}
	told, ended := make(chan wire.Message, 16), make(chan headEnd, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the head
		code, err := run(ctx, theirs, "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
		ended <- headEnd{code, err}
	}()
	if err := keeper.Send(&fb.KeeperConfigT{Role: fb.RoleHead, Boot: string(boot), NodeKey: "k", NodeDir: s.dir}, 0, nil); err != nil {
		s.t.Fatal(err)
	}
	go func() { // ends when the head closes its end, or stop closes this one
		for {
			m, _, err := keeper.Recv()
			if err != nil {
				close(told)
				return
			}
			told <- m.M
		}
	}()
	s.mu.Lock()
	s.keeper, s.told, s.ended, s.cancel = keeper, told, ended, cancel
	s.mu.Unlock()
	return s.next()
}

// next is what the head says to its keeper.
func (s *site) next() wire.Message {
	s.t.Helper()
	select {
	case m := <-s.told:
		return m
	case <-time.After(patience):
		s.t.Fatal("the head says nothing to its keeper")
		return nil
	}
}

// crash ends the head without a word to any agent: another one may follow.
func (s *site) crash() {
	s.mu.Lock()
	keeper, ended, cancel := s.keeper, s.ended, s.cancel
	s.keeper = nil
	s.mu.Unlock()
	if keeper == nil {
		return
	}
	cancel()
	s.wait(ended)
	_ = keeper.Close()
}

// stop is the keeper's end of the socket closing: for the head, its keeper is gone.
func (s *site) stop() headEnd {
	s.mu.Lock()
	keeper, ended := s.keeper, s.ended
	s.keeper = nil
	s.mu.Unlock()
	if keeper == nil {
		return headEnd{}
	}
	_ = keeper.Close()
	return s.wait(ended)
}

func (s *site) wait(ended chan headEnd) headEnd {
	select {
	case e := <-ended:
		ended <- e // for whoever asks again
		return e
	case <-time.After(patience):
		s.t.Error("the head does not end")
		return headEnd{}
	}
}

// remote is an agent over real links: it speaks, and keeps what it hears.
type remote struct {
	s      *site
	name   string
	key    string
	cred   *tcp.Credential
	link   *transport.Link
	number uint32
	mute   bool // has no liveness connection
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	heard   []transport.Msg
	notices []string // codes of all
	ups     []bool   // resumed
	downs   int
	dialed  error
	news    chan struct{}
	held    []*fb.BundleReservedT
	ranks   []*fb.RankStateT
	conns   []transport.Conn
}

func (s *site) agent(name string, mute bool) *remote {
	s.t.Helper()
	a := &remote{s: s, name: name, key: fmt.Sprintf("%032x", len(name)*1000+int(name[len(name)-1])), mute: mute, news: make(chan struct{}, 1)}
	var err error
	if a.cred, err = s.auth.Credential(fb.RoleAgent); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.link = transport.NewLink(transport.LinkConfig{
		Name: "head",
		OnMessage: func(m transport.Msg) {
			a.mu.Lock()
			a.heard = append(a.heard, m)
			if n, ok := m.M.(*fb.NoticeT); ok {
				a.notices = append(a.notices, n.Code)
			}
			a.mu.Unlock()
			a.wake()
		},
		OnUp: func(resumed bool) {
			a.mu.Lock()
			a.ups = append(a.ups, resumed)
			reg := a.register()
			a.mu.Unlock()
			if !resumed {
				_ = a.link.Send(reg, 0, nil)
			}
			a.wake()
		},
		OnDown: func(error) { a.mu.Lock(); a.downs++; a.mu.Unlock(); a.wake() },
	})
	hello := func(p fb.Purpose) *fb.HelloT {
		a.mu.Lock()
		defer a.mu.Unlock()
		return &fb.HelloT{Cluster: s.doc.Cluster, Job: s.doc.Job, Epoch: s.doc.Epoch, Build: "test", Role: fb.RoleAgent, Purpose: p, Agent: a.number, NodeKey: a.key}
	}
	dial := func(p fb.Purpose) func(context.Context, string) (transport.Conn, error) {
		return func(ctx context.Context, addr string) (transport.Conn, error) {
			c, err := tcp.Dial(ctx, addr, a.cred, transport.Preamble{Role: fb.RoleHead, Purpose: p})
			if err == nil {
				a.mu.Lock()
				a.conns = append(a.conns, c)
				a.mu.Unlock()
			}
			return c, err
		}
	}
	d := &transport.Dialer{
		Link: a.link, Addresses: func() []string { return []string{s.listen.Addr().String()} }, Dial: dial(fb.PurposeControl),
		Hello: func() *fb.HelloT { return hello(fb.PurposeControl) },
		OnWelcome: func(w *fb.WelcomeT) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			if w.Assigned != 0 {
				a.number = w.Assigned
			}
			return nil
		},
		MaxDelay: 50 * time.Millisecond,
	}
	a.done.Go(func() {
		err := d.Run(ctx)
		a.mu.Lock()
		a.dialed = err
		a.mu.Unlock()
		a.wake()
	})
	if !mute {
		live := transport.NewLiveness(transport.LivenessConfig{Turns: func(context.Context) (uint64, error) { return uint64(time.Now().UnixNano()), nil }})
		a.done.Go(func() {
			a.until("up", func() bool { return len(a.ups) > 0 })
			for ctx.Err() == nil {
				_ = live.Keep(ctx, func(ctx context.Context) (transport.Conn, error) {
					return dial(fb.PurposeLiveness)(ctx, s.listen.Addr().String())
				}, func() *fb.HelloT { return hello(fb.PurposeLiveness) })
				if a.refused() {
					return
				}
			}
		})
	}
	s.t.Cleanup(a.crash)
	return a
}

func (a *remote) refused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dialed != nil
}

// register is called with the lock held.
func (a *remote) register() *fb.RegisterT {
	return &fb.RegisterT{Name: a.name, NodeKey: a.key, Addresses: []string{"127.0.0.1:9"}, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 40_000}},
		Grant: "4 cores", Bundles: slices.Clone(a.held), Ranks: slices.Clone(a.ranks)}
}

// crash ends the agent without a word.
func (a *remote) crash() {
	a.cancel()
	a.link.Kill(transport.ErrClosed)
	a.cut()
	a.done.Wait()
}

// cut breaks all of its connections.
func (a *remote) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		_ = c.Close()
	}
	a.conns = nil
}

func (a *remote) wake() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// until waits for cond, which is asked with the lock held.
func (a *remote) until(what string, cond func() bool) bool {
	end := time.Now().Add(patience)
	for {
		a.mu.Lock()
		ok := cond()
		a.mu.Unlock()
		switch {
		case ok:
			return true
		case time.Now().After(end):
			a.s.t.Errorf("%s waited in vain for: %s", a.name, what)
			return false
		}
		select {
		case <-a.news:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hear waits for a message of type M that pleases, and forgets all up to it.
func hear[M wire.Message](a *remote, what string, pleases func(M) bool) (m M) {
	a.s.t.Helper()
	found := a.until(what, func() bool {
		for i, msg := range a.heard {
			if got, ok := msg.M.(M); ok && (pleases == nil || pleases(got)) {
				m, a.heard = got, a.heard[i+1:]
				return true
			}
		}
		return false
	})
	if !found {
		a.s.t.FailNow()
	}
	return m
}

func (a *remote) noticed(code string) {
	a.s.t.Helper()
	if !a.until("notice "+code, func() bool { return slices.Contains(a.notices, code) }) {
		a.s.t.FailNow()
	}
}

func (a *remote) say(m wire.Message) {
	a.s.t.Helper()
	if err := a.link.Send(m, 0, nil); err != nil {
		a.s.t.Fatalf("%s: %v", a.name, err)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }
