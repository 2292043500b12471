package client_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/objstore/shm"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func TestMain(m *testing.M) {
	runChild()
	transporttest.Main(m)
}

// node is what an agent's shell does with a store: one goroutine, which ends with the test, takes what the
// programs say in order, and does the store's effects. Descriptors go as they would over a socket: duplicated.
type node struct {
	t     testing.TB
	store *objstore.Store
	mem   shm.Memory
	now   int64
	out   []objstore.Effect
	peers map[id.Process]*peer

	mu    sync.Mutex
	cond  *sync.Cond
	queue []func()
	idle  bool
	ended bool
	done  chan struct{}

	lent, refused, recalled, dropped int // guarded by mu; of effects
}

// peer is one program's connection.
type peer struct {
	*client.Client
	n    *node
	p    id.Process
	dead bool            // guarded by n.mu: what it says is not heard
	has  map[uint64]bool // arenas whose descriptor it got
}

func newNode(t testing.TB, cfg objstore.Config) *node {
	n := &node{t: t, store: objstore.New(cfg), peers: map[id.Process]*peer{}, done: make(chan struct{})}
	n.cond = sync.NewCond(&n.mu)
	d, m := left(t)
	go n.loop()
	t.Cleanup(func() {
		n.mu.Lock()
		n.ended = true
		n.cond.Broadcast()
		n.mu.Unlock()
		<-n.done
		if err := n.mem.Close(); err != nil {
			t.Error(err)
		}
		if d2, m2 := left(t); d2 != d || m2 != m { // MAP-7
			t.Errorf("%d descriptors and %d mappings at the end, %d and %d at the beginning", d2, m2, d, m)
		}
	})
	return n
}

// left gives the descriptors and mappings of arenas that this process has.
func left(t testing.TB) (descriptors, mappings int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "/memfd:maniple") {
			descriptors++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return descriptors, strings.Count(string(maps), "/memfd:maniple")
}

func (n *node) loop() {
	defer close(n.done)
	for {
		n.mu.Lock()
		for len(n.queue) == 0 && !n.ended {
			n.idle = true
			n.cond.Broadcast()
			n.cond.Wait()
		}
		n.idle = false
		if len(n.queue) == 0 {
			n.mu.Unlock()
			return
		}
		f := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		f()
		n.effects()
	}
}

func (n *node) post(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = append(n.queue, f)
	n.cond.Broadcast()
}

// do runs f in the loop, and returns when all that follows from it is done.
func (n *node) do(f func()) {
	n.t.Helper()
	n.post(f)
	n.settle()
}

func (n *node) settle() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.queue) > 0 || !n.idle {
		n.cond.Wait()
	}
}

func (n *node) must(err error) {
	if err != nil {
		n.t.Error(err)
	}
}

func (n *node) count(what *int) {
	n.mu.Lock()
	*what++
	n.mu.Unlock()
}

func (n *node) effects() {
	for len(n.out) > 0 {
		e := n.out[0]
		n.out = n.out[1:]
		var err error
		switch e := e.(type) {
		case objstore.Grow:
			if err := n.mem.Make(e.Arena, e.Size); err != nil {
				n.out, err = n.store.GrowFailed(n.now, e.Arena, err, n.out)
				n.must(err)
			} else {
				n.out, err = n.store.Grown(n.now, e.Arena, n.out)
				n.must(err)
			}
		case objstore.Punch:
			err = n.mem.Punch(e.Arena, e.Offset, e.Size)
		case objstore.Drop:
			n.count(&n.dropped)
			err = n.mem.Drop(e.Arena)
			for _, p := range n.peers {
				delete(p.has, e.Arena)
				n.must(p.Gone(e.Arena))
			}
		case objstore.Lent:
			n.count(&n.lent)
			p := n.peers[e.Process]
			var write *os.File
			if e.New {
				write, err = n.mem.Lend(e.Process, e.Slab, e.Arena, e.Start, e.Size)
				n.must(err)
			}
			n.tell(p, e.Arena)
			err = p.Lent(client.Lease{Slab: e.Slab, Arena: e.Arena, Start: e.Start, Size: e.Size, From: e.From, To: e.To}, write)
		case objstore.Refused:
			n.count(&n.refused)
			err = n.peers[e.Process].Refused(e.Err)
		case objstore.Recall:
			n.count(&n.recalled)
			err = n.peers[e.Process].Recall(e.Slab)
		}
		n.must(err)
	}
}

// tell gives p an arena's descriptor for reading, once.
func (n *node) tell(p *peer, arena uint64) {
	if p.has[arena] {
		return
	}
	p.has[arena] = true
	f, err := n.mem.Reader(arena)
	n.must(err)
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	n.must(err)
	n.must(p.Arena(arena, os.NewFile(uintptr(fd), "arena to read")))
}

func (n *node) attach(p id.Process) *peer {
	x := &peer{n: n, p: p, has: map[uint64]bool{}}
	x.Client = client.New(x)
	n.do(func() {
		n.must(n.store.Attach(p))
		n.peers[p] = x
	})
	return x
}

// locate tells p where an object is, as the answer to a get does.
func (n *node) locate(p *peer, object id.Object) {
	n.do(func() {
		l, err := n.store.Deliver(p.p, object)
		if err != nil {
			n.must(err)
			return
		}
		n.tell(p, l.Arena)
		n.must(p.Located(object, client.Location{Arena: l.Arena, Offset: l.Offset, Size: l.Size}))
	})
}

func (n *node) release(object id.Object) {
	n.do(func() {
		var err error
		n.out, err = n.store.Release(n.now, object, n.out)
		n.must(err)
	})
}

// die ends a program without a word: it unmaps what it has, as its end does, and the node hears of the end.
func (p *peer) die() {
	p.n.mu.Lock()
	p.dead = true
	p.n.mu.Unlock()
	p.n.must(p.Close())
	p.n.do(func() {
		delete(p.n.peers, p.p)
		p.n.mem.Died(p.p)
		var err error
		p.n.out, err = p.n.store.Died(p.n.now, p.p, p.n.out)
		p.n.must(err)
	})
}

// say posts what the program says, unless it is dead by then.
func (p *peer) say(f func() error) error {
	p.n.post(func() {
		p.n.mu.Lock()
		dead := p.dead
		p.n.mu.Unlock()
		if dead {
			return
		}
		if err := f(); err != nil {
			p.n.t.Errorf("process %d: %v", p.p, err)
		}
	})
	return nil
}

func (p *peer) WantSlab(size int64) error {
	return p.say(func() (err error) { p.n.out, err = p.n.store.Lend(p.n.now, p.p, size, p.n.out); return err })
}

func (p *peer) Withdraw() error {
	return p.say(func() (err error) { p.n.out, err = p.n.store.Withdraw(p.n.now, p.p, p.n.out); return err })
}

func (p *peer) Seal(object id.Object, slab uint64, offset, size int64, m client.Meta) error {
	return p.say(func() error {
		return p.n.store.Seal(p.n.now, p.p, objstore.Sealed{Object: object, Slab: slab, Offset: offset, Size: size, Format: m.Format})
	})
}

func (p *peer) Forgo(slab uint64, offset, size int64) error {
	return p.say(func() (err error) {
		p.n.out, err = p.n.store.Forgo(p.n.now, p.p, slab, offset, size, p.n.out)
		return err
	})
}

func (p *peer) ReturnSlab(slab uint64) error {
	return p.say(func() (err error) {
		p.n.must(p.n.mem.Return(slab))
		p.n.out, err = p.n.store.Return(p.n.now, p.p, slab, p.n.out)
		return err
	})
}

func (p *peer) Release(object id.Object, deliveries uint32) error {
	return p.say(func() (err error) {
		p.n.out, err = p.n.store.Undeliver(p.n.now, p.p, object, deliveries, p.n.out)
		return err
	})
}

func object(n uint64) id.Object {
	return id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: n}, Index: 1}
}

func (n *node) String() string { return fmt.Sprint(n.store.Explain().Text()) }
