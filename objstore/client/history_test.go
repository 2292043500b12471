package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// history drives real clients on real memory at random. What the model knows is which bytes each object has,
// who holds it, and who looks at it.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	n     *node
	peers []*peer
	last  id.Process
	next  uint64
	live  map[uint64]*thing
	order []uint64 // keys of live, for picking
	views []look
	full  int
	at    int
	died  int
}

type thing struct {
	want     []byte
	holders  []*peer // have a reference
	released bool
}

type look struct {
	p *peer
	n uint64
	v *client.View
}

func (h *history) step() {
	switch k := h.rng.IntN(100); {
	case k < 6 || len(h.peers) == 0:
		h.last++
		h.peers = append(h.peers, h.n.attach(h.last))
	case k < 9:
		h.die(h.peers[h.rng.IntN(len(h.peers))])
	case k < 11:
		h.leave(h.peers[h.rng.IntN(len(h.peers))])
	case k < 45:
		h.put(h.peers[h.rng.IntN(len(h.peers))])
	case k < 60:
		if x := h.pick(); x != nil && !x.released {
			p := h.peers[h.rng.IntN(len(h.peers))]
			h.n.locate(p, object(h.order[h.at]))
			if !slices.Contains(x.holders, p) {
				x.holders = append(x.holders, p)
			}
		}
	case k < 75:
		if x := h.pick(); x != nil && len(x.holders) > 0 {
			p := x.holders[h.rng.IntN(len(x.holders))]
			h.views = append(h.views, look{p, h.order[h.at], view(h.t, p, h.order[h.at])})
		}
	case k < 85:
		if len(h.views) > 0 {
			h.unlook(h.rng.IntN(len(h.views)))
		}
	case k < 97:
		if x := h.pick(); x != nil {
			for _, p := range x.holders {
				h.n.must(p.Drop(object(h.order[h.at])))
			}
			x.holders = nil
			h.n.settle()
			h.release(h.order[h.at])
		}
	default:
		h.n.do(func() { h.n.now += int64(time.Second); h.n.out = h.n.store.Tick(h.n.now, h.n.out) })
	}
	h.n.settle()
	h.look()
}

// pick chooses an object; h.at is its place in h.order.
func (h *history) pick() *thing {
	if len(h.order) == 0 {
		return nil
	}
	h.at = h.rng.IntN(len(h.order))
	return h.live[h.order[h.at]]
}

func (h *history) put(p *peer) {
	h.next++
	n := h.next
	want := value(n, 1+h.rng.IntN(1<<(10+h.rng.IntN(12))))
	var err error
	if h.rng.IntN(2) == 0 {
		err = p.Put(h.t.Context(), object(n), client.Meta{}, want[:len(want)/2], want[len(want)/2:])
	} else {
		var b *client.Buffer
		if b, err = p.Alloc(h.t.Context(), int64(len(want))); err == nil {
			copy(b.Bytes(), want)
			if h.rng.IntN(5) == 0 {
				h.n.must(b.Discard())
				return
			}
			err = b.Seal(object(n), client.Meta{})
		}
	}
	var full *objstore.FullError
	switch {
	case errors.As(err, &full):
		h.full++
	case err != nil:
		h.t.Fatal(err)
	default:
		h.live[n] = &thing{want: want, holders: []*peer{p}}
		h.order = append(h.order, n)
		h.n.settle()
	}
}

func (h *history) unlook(i int) {
	l := h.views[i]
	h.views = slices.Delete(h.views, i, i+1)
	end(h.t, l.v)
	h.n.settle()
	h.gone(l.n)
}

func (h *history) release(n uint64) {
	if x := h.live[n]; !x.released {
		x.released = true
		h.n.release(object(n))
	}
	h.gone(n)
}

// gone forgets an object that nobody references or looks at: the store must have, too.
func (h *history) gone(n uint64) {
	x := h.live[n]
	if x == nil || !x.released || slices.ContainsFunc(h.views, func(l look) bool { return l.n == n }) {
		return
	}
	delete(h.live, n)
	h.order = slices.DeleteFunc(h.order, func(o uint64) bool { return o == n })
	h.n.do(func() {
		if _, ok := h.n.store.Lookup(object(n)); ok {
			h.t.Errorf("object %d is still there", n)
		}
	})
}

// forget takes p out of the model: what only p looked at or held goes.
func (h *history) forget(p *peer, sayNothing bool) {
	if sayNothing {
		h.n.mu.Lock()
		p.dead = true
		h.n.mu.Unlock()
	}
	var seen []uint64
	h.views = slices.DeleteFunc(h.views, func(l look) bool {
		if l.p == p {
			end(h.t, l.v)
			seen = append(seen, l.n)
		}
		return l.p == p
	})
	for _, n := range h.order {
		x := h.live[n]
		if i := slices.Index(x.holders, p); i >= 0 {
			h.n.must(p.Drop(object(n)))
			x.holders = slices.Delete(x.holders, i, i+1)
			seen = append(seen, n)
		}
	}
	h.peers = slices.DeleteFunc(h.peers, func(q *peer) bool { return p == q })
	p.finish(sayNothing)
	for _, n := range seen {
		if x := h.live[n]; x != nil && len(x.holders) == 0 {
			h.release(n)
		}
	}
}

// finish ends the client, orderly or not, and tells the node of its end.
func (p *peer) finish(sayNothing bool) {
	if !sayNothing {
		p.n.must(p.Close())
		p.n.settle()
	}
	p.die()
}

func (h *history) die(p *peer)   { h.died++; h.forget(p, true) }
func (h *history) leave(p *peer) { h.forget(p, false) }

// look: verifies OBJ-1 and MAP-3, that what was sealed never changes, through every view there is.
func (h *history) look() {
	for _, l := range h.views {
		if !bytes.Equal(l.v.Bytes(), h.live[l.n].want) {
			h.t.Fatalf("object %d changed under a view of process %d", l.n, l.p.p)
		}
	}
	h.n.do(func() {
		if got := h.n.store.Objects(); got != len(h.live) {
			h.t.Errorf("%d objects, not %d", got, len(h.live))
		}
		var objects int64
		for _, n := range h.order {
			objects += (int64(len(h.live[n].want)) + 63) / 64 * 64
		}
		e := h.n.store.Explain()
		arenas, size := h.n.mem.Used()
		if e.Primary.Bytes != objects || e.Accounts[objstore.Arenas] != size || e.Free+e.Open+e.Holes+objects != size { // OBJ-2
			h.t.Errorf("objects %d, %d arenas %d: %+v", objects, arenas, size, e)
		}
	})
}

// Real clients on real memory: verifies OBJ-1, OBJ-2, OBJ-5, MAP-3, MAP-4 and MAP-7.
func TestHistories(t *testing.T) {
	seeds, steps := 25, 150
	if testing.Short() {
		seeds = 3
	}
	var full, died, recalled int
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 9)), live: map[uint64]*thing{}}
			h.n = newNode(t, objstore.Config{Budget: 12 * mib, FirstArena: 2 * mib, Patience: -1, KeepWarm: time.Second})
			for range steps {
				if h.step(); t.Failed() {
					t.FailNow()
				}
			}
			for len(h.peers) > 0 {
				h.leave(h.peers[0])
			}
			for len(h.order) > 0 {
				h.release(h.order[0])
			}
			h.n.do(func() {
				for range 3 {
					h.n.now += int64(time.Second)
					h.n.out = h.n.store.Tick(h.n.now, h.n.out)
				}
			})
			if arenas, size := h.n.mem.Used(); h.n.store.Total() != 0 || arenas != 0 || size != 0 {
				t.Errorf("%d bytes are charged, %d arenas of %d bytes are left", h.n.store.Total(), arenas, size)
			}
			full, died, recalled = full+h.full, died+h.died, recalled+h.n.recalled
		})
	}
	if full == 0 || died == 0 || recalled == 0 {
		t.Errorf("%d full, %d died, %d recalled: the histories don't reach the ends", full, died, recalled)
	}
}
