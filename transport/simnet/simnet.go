// Package simnet is a network in memory, for tests of real loops: connections between named hosts
// with latency, limited bandwidth, faults and partitions.
//
// A Net knows hosts by name; Listen and Dial are between them. What happens on the way from one
// host to another is a Shape. All chance comes from the seed, one sequence per direction of each
// connection, so the same program of writes meets the same faults. Time is the time package's: run
// inside a testing/synctest bubble, a network costs no real time. For whole clusters in a
// reproducible order use rt/sim, which has no goroutines.
//
// A connection behaves as a stream: bytes arrive in order. Latency and Bandwidth delay them. Break
// ends the connection in the middle of a write, as a reset does. Loss makes a whole write vanish,
// which no TCP does: it shows that what stands on a carrier notices. A partition holds bytes back
// and lets no connection come about until it is healed.
//
// Goroutines: none. Callers' writes wait for room, reads for bytes, on the connection's own lock.
package simnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/transport"
)

// Shape is how bytes travel from one host to another. The zero value is perfect.
type Shape struct {
	Latency   time.Duration
	Jitter    time.Duration // added to Latency, uniform
	Bandwidth int64         // bytes per second, 0: unlimited
	Break     float64       // probability that a write breaks the connection at a random byte
	Loss      float64       // probability that a write vanishes
	Chop      int           // reads give at most this many bytes, 0: as many as there are
}

// Net is a network. All methods may be called at any time from any goroutine.
type Net struct {
	mu        sync.Mutex
	changed   *sync.Cond // partitions and listeners
	seed      uint64
	conns     uint64
	shapes    map[[2]string]Shape
	split     map[[2]string]bool
	listeners map[string]*Listener
	open      map[*half]struct{}
}

// New makes a network without hosts.
func New(seed uint64) *Net {
	n := &Net{
		seed: seed, shapes: map[[2]string]Shape{}, split: map[[2]string]bool{},
		listeners: map[string]*Listener{}, open: map[*half]struct{}{},
	}
	n.changed = sync.NewCond(&n.mu)
	return n
}

// Shape sets how bytes travel from one host to another, in that direction, from now on. An empty
// name stands for every host that has no shape of its own.
func (n *Net) Shape(from, to string, s Shape) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shapes[[2]string{from, to}] = s
}

func (n *Net) shapeLocked(from, to string) Shape {
	for _, k := range [][2]string{{from, to}, {from, ""}, {"", to}, {"", ""}} {
		if s, ok := n.shapes[k]; ok {
			return s
		}
	}
	return Shape{}
}

// Partition cuts a from b, in both directions, or ends that.
func (n *Net) Partition(a, b string, apart bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.split[[2]string{a, b}], n.split[[2]string{b, a}] = apart, apart
	n.changed.Broadcast()
	for h := range n.open {
		h.cond.Broadcast()
	}
}

// Cut breaks all connections between a and b, as if both hosts had sent a reset.
func (n *Net) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for h := range n.open {
		if h.from == a && h.to == b || h.from == b && h.to == a {
			h.breakLocked()
		}
	}
}

// ErrReset is what both ends of a broken connection get.
var ErrReset = errors.New("simnet: connection reset")

// ErrRefused: nobody listens.
var ErrRefused = errors.New("simnet: connection refused")

// Listener takes the connections of one host.
type Listener struct {
	net    *Net
	host   string
	cond   *sync.Cond
	queue  []*Conn
	closed bool
}

// Listen makes host reachable.
func (n *Net) Listen(host string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[host] != nil {
		return nil, fmt.Errorf("simnet: %s listens already", host)
	}
	l := &Listener{net: n, host: host, cond: sync.NewCond(&n.mu)}
	n.listeners[host] = l
	return l, nil
}

// Accept waits for the next connection.
func (l *Listener) Accept() (transport.Conn, error) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

// Close makes the host unreachable; connections that nobody accepted are reset.
func (l *Listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	delete(l.net.listeners, l.host)
	for _, c := range l.queue {
		c.in.breakLocked()
		c.out.breakLocked()
	}
	l.cond.Broadcast()
	return nil
}

// Dial connects host from to host to; each side sees the peer that the other side is said to be.
func (n *Net) Dial(ctx context.Context, from, to string, self, peer transport.Peer) (transport.Conn, error) {
	stop := context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.changed.Broadcast()
	})
	defer stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.split[[2]string{from, to}] && ctx.Err() == nil {
		n.changed.Wait()
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("simnet: %s to %s: %w", from, to, ctx.Err())
	}
	l := n.listeners[to]
	if l == nil {
		return nil, fmt.Errorf("simnet: %s to %s: %w", from, to, ErrRefused)
	}
	n.conns++
	there := n.halfLocked(from, to, 2*n.conns)
	back := n.halfLocked(to, from, 2*n.conns+1)
	there.other, back.other = back, there
	l.queue = append(l.queue, &Conn{in: there, out: back, peer: self})
	l.cond.Signal()
	return &Conn{in: back, out: there, peer: peer}, nil
}

func (n *Net) halfLocked(from, to string, number uint64) *half {
	h := &half{net: n, from: from, to: to, cond: sync.NewCond(&n.mu), rand: rand.New(rand.NewPCG(n.seed, number))}
	n.open[h] = struct{}{}
	return h
}
