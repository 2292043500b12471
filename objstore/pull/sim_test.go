package pull

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// world is agents that have a Core each, the links between them, and virtual time. A link carries rate bytes a second out of a node and
// into one; a message takes latency.
type world struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	now     int64
	rate    float64
	latency int64
	events  []happens
	counter uint64
	nodes   []*simNode
	out     []int64 // bytes that left each node
	links   map[uint64]*simLink
	faulty  bool
	anew    func(n *simNode, before *simFetch, number uint64) // a fetch began anew
}

type happens struct {
	at, n int64
	do    func()
}

// simNode is an agent.
type simNode struct {
	w      *world
	agent  uint32
	core   *Core
	dead   bool
	has    map[id.Object]int64
	made   map[id.Object]uint32 // the version of what it has
	coming map[uint64]*simFetch
	ended  map[uint64]Got
	sends  int64 // when its link out is free
	takes  int64 // and in
	waits  map[uint64]func(why string, version uint32)
	ticks  int64 // when one is due
}

type simFetch struct {
	Want
	came     map[int64]int64
	versions []uint32 // of what came
}

// simLink is a stream.
type simLink struct {
	number   uint64
	from, to *simNode // from asks
	asked    []Ask    // in order; the first is being answered
	over     bool
	busy     bool
}

func newWorld(t *testing.T, seed uint64, n int, cfg Config) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), rate: 1e9, latency: 50_000, links: map[uint64]*simLink{}, out: make([]int64, n+1), now: 1}
	for i := range n {
		cfg.Agent = uint32(i + 1)
		w.nodes = append(w.nodes, &simNode{w: w, agent: cfg.Agent, core: New(cfg), has: map[id.Object]int64{}, made: map[id.Object]uint32{}, coming: map[uint64]*simFetch{}, ended: map[uint64]Got{}, waits: map[uint64]func(string, uint32){}})
	}
	return w
}

func (w *world) node(agent uint32) *simNode { return w.nodes[agent-1] }

func (w *world) after(d int64, do func()) {
	w.counter++
	e := happens{w.now + d, int64(w.counter), do}
	i, _ := slices.BinarySearchFunc(w.events, e, func(a, b happens) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n))
	})
	w.events = slices.Insert(w.events, i, e)
}

// run goes on until nothing happens any more.
func (w *world) run() {
	for steps := 0; len(w.events) > 0; steps++ {
		if steps > 2_000_000 {
			w.t.Fatalf("seed %d: it does not end", w.seed)
		}
		e := w.events[0]
		w.events = w.events[1:]
		w.now = e.at
		e.do()
	}
}

func (n *simNode) step(ev Event) {
	if n.dead {
		return
	}
	for _, e := range n.core.Step(n.w.now, ev, nil) {
		n.apply(e)
	}
	n.check()
	if due := n.core.NextDeadline(); due != 0 && due != n.ticks {
		n.ticks = due
		n.w.after(max(0, due-n.w.now), func() {
			if n.ticks == due {
				n.ticks = 0
				n.step(Tick{})
			}
		})
	}
}

// Verifies PULL-3.
func (n *simNode) check() {
	for _, way := range n.core.ways {
		if len(way.streams)+way.opening > n.core.cfg.Streams+1 { // one that was cut may not be over yet
			standing := 0
			for _, s := range way.streams {
				if !s.cut {
					standing++
				}
			}
			if standing+way.opening > n.core.cfg.Streams {
				n.w.t.Fatalf("seed %d: %d streams", n.w.seed, standing+way.opening)
			}
		}
		for _, s := range way.streams {
			if len(s.flying) > ahead || s.bytes >= 3*n.core.cfg.Chunk {
				n.w.t.Fatalf("seed %d: %d ranges of %d bytes on a stream", n.w.seed, len(s.flying), s.bytes)
			}
		}
	}
}

// message brings something to another agent.
func (n *simNode) message(to uint32, ev Event) {
	n.w.after(n.w.latency, func() { n.w.node(to).step(ev) })
}

func (n *simNode) apply(e Effect) {
	w := n.w
	switch e := e.(type) {
	case Open:
		for range e.Count {
			w.after(3*w.latency, func() {
				if w.node(e.Agent).dead || w.faulty && w.rng.IntN(6) == 0 {
					n.step(Failed{e.Agent, "refused"})
					return
				}
				w.counter++
				l := &simLink{number: w.counter, from: n, to: w.node(e.Agent)}
				w.links[l.number] = l
				n.step(Opened{e.Agent, l.number})
			})
		}
	case Cut:
		if l := w.links[e.Stream]; l != nil {
			w.after(0, func() { l.breaks(0, 0) })
		}
	case Ask:
		l := w.links[e.Stream]
		for _, f := range n.core.fetches { // PULL-9
			if f.source == l.to.agent && !f.over && f.left() > 0 && f.urgency < n.core.fetch(e.Fetch).urgency {
				w.t.Fatalf("seed %d: fetch %d is asked for before fetch %d", w.seed, e.Fetch, f.number)
			}
		}
		l.asked = append(l.asked, e)
		l.answer()
	case AskSource:
		n.message(e.Owner, Asked{n.agent, e.Object, e.Again})
	case TellSource:
		n.message(e.Agent, SourceIs{n.agent, e.Source, e.Object})
	case Got:
		f := n.coming[e.Fetch]
		delete(n.coming, e.Fetch)
		if _, twice := n.ended[e.Fetch]; twice || f == nil {
			w.t.Fatalf("seed %d: fetch %d ends twice", w.seed, e.Fetch) // PULL-2
		}
		n.ended[e.Fetch] = e
		for _, l := range w.links {
			if !l.over && l.from == n && slices.ContainsFunc(l.asked, func(a Ask) bool { return a.Fetch == e.Fetch }) {
				w.t.Fatalf("seed %d: fetch %d ends with bytes under way", w.seed, e.Fetch)
			}
		}
		if e.Why == "" {
			if sum(f.came) != f.Size {
				w.t.Fatalf("seed %d: fetch %d is got with %d bytes of %d", w.seed, e.Fetch, sum(f.came), f.Size)
			}
			if slices.ContainsFunc(f.versions, func(v uint32) bool { return v != e.Version }) { // PULL-10
				w.t.Fatalf("seed %d: fetch %d is got as version %d, of bytes of versions %v", w.seed, e.Fetch, e.Version, f.versions)
			}
			if f.Part {
				return
			}
			n.has[f.Object], n.made[f.Object] = f.Size, e.Version
		}
		if e.Anew && !n.dead && !f.Part {
			w.after(0, func() { w.anew(n, f, n.wants(f.Object, f.Size, f.Owner)) })
		}
	case Give:
		f := n.coming[e.Fetch]
		if f.Part {
			w.t.Fatalf("seed %d: node %d gives what is a part", w.seed, n.agent)
		}
		for at := e.Offset; at < e.Offset+e.Size; {
			size, ok := f.came[at]
			if !ok {
				for from, size := range f.came { // a range may begin inside of what came
					if from < at && at < from+size {
						at, ok = from+size, true
					}
				}
				if !ok {
					w.t.Fatalf("seed %d: node %d gives [%d, +%d) without having it", w.seed, n.agent, e.Offset, e.Size)
				}
				continue
			}
			at += size
		}
		if slices.ContainsFunc(f.versions, func(v uint32) bool { return v != e.Version }) { // PULL-10
			w.t.Fatalf("seed %d: node %d gives as version %d bytes of %v", w.seed, n.agent, e.Version, f.versions)
		}
		n.answerWait(e.Wait, "", e.Version)
	case Refuse:
		n.answerWait(e.Wait, e.Why, 0)
	}
}

func sum(m map[int64]int64) (n int64) {
	for _, size := range m {
		n += size
	}
	return n
}

func (n *simNode) answerWait(number uint64, why string, version uint32) {
	f := n.waits[number]
	if f == nil {
		n.w.t.Fatalf("seed %d: wait %d is answered twice", n.w.seed, number) // PULL-7
	}
	delete(n.waits, number)
	f(why, version)
}

// answer has the oldest range of a link come.
func (l *simLink) answer() {
	if l.over || l.busy || len(l.asked) == 0 {
		return
	}
	l.busy = true
	w, a := l.from.w, l.asked[0]
	w.after(w.latency, func() {
		if l.over {
			return
		}
		size, ok := l.to.has[a.Object]
		switch {
		case l.to.dead:
			l.breaks(0, 0)
		case ok && a.Offset+a.Size <= size:
			l.carry(a, "", l.to.made[a.Object])
		default:
			w.counter++
			wait := w.counter
			l.to.waits[wait] = func(why string, version uint32) { l.carry(a, why, version) }
			l.to.step(Wanted{Line: l.number, Wait: wait, Object: a.Object, Offset: a.Offset, Size: a.Size})
		}
	})
}

// carry brings a range, or why it does not come.
func (l *simLink) carry(a Ask, why string, version uint32) {
	w := l.from.w
	if l.over {
		return
	}
	took := int64(0)
	if why == "" {
		took = int64(float64(a.Size) / w.rate * 1e9)
		w.out[l.to.agent] += a.Size
	}
	begin := max(w.now, l.to.sends, l.from.takes)
	l.to.sends, l.from.takes = begin+took, begin+took
	if w.faulty && w.rng.IntN(20) == 0 {
		came := w.rng.Int64N(a.Size + 1)
		if why != "" {
			came = 0
		}
		w.after(begin+took/2-w.now+w.latency, func() { l.breaks(came, version) })
		return
	}
	w.after(begin+took-w.now+w.latency, func() {
		if l.over {
			return
		}
		l.busy, l.asked = false, l.asked[1:]
		if why == "" {
			l.from.takesIn(a, a.Size, version)
		}
		l.from.step(Came{l.number, version, why})
		l.answer()
	})
}

// takesIn notes bytes that came. Verifies PULL-1.
func (n *simNode) takesIn(a Ask, size int64, version uint32) {
	if a.At != a.Offset-n.coming[a.Fetch].Offset {
		n.w.t.Fatalf("seed %d: [%d, +%d) of a part from %d on is put at %d", n.w.seed, a.Offset, size, n.coming[a.Fetch].Offset, a.At)
	}
	f := n.coming[a.Fetch]
	if f == nil || size == 0 {
		return
	}
	for from, had := range f.came {
		if a.Offset < from+had && from < a.Offset+size {
			n.w.t.Fatalf("seed %d: bytes of [%d, +%d) came twice", n.w.seed, a.Offset, size)
		}
	}
	f.came[a.Offset] = size
	f.versions = append(f.versions, version)
}

func (l *simLink) breaks(came int64, version uint32) {
	if l.over {
		return
	}
	l.over = true
	if len(l.asked) > 0 {
		l.from.takesIn(l.asked[0], came, version)
	} else {
		came = 0
	}
	l.from.step(Broke{l.number, came, version, "cut"})
	l.from.w.after(l.from.w.latency, func() { l.to.step(LineOver{l.number}) })
}

// wants begins a fetch.
func (n *simNode) wants(o id.Object, size int64, owner uint32) uint64 {
	n.w.counter++
	f := &simFetch{Want{Fetch: n.w.counter, Object: o, Size: size, Owner: owner, Urgency: n.w.rng.IntN(3)}, map[int64]int64{}, nil}
	if n.w.anew != nil && n.w.rng.IntN(4) == 0 { // and a part besides
		n.w.counter++
		at := n.w.rng.Int64N(size)
		p := &simFetch{Want{Fetch: n.w.counter, Object: o, Size: 1 + n.w.rng.Int64N(size-at), Owner: owner, Part: true, Offset: at, Version: n.w.node(owner).made[o]}, map[int64]int64{}, nil}
		n.coming[p.Fetch] = p
		n.step(p.Want)
	}
	n.coming[f.Fetch] = f
	n.step(f.Want)
	if n.w.rng.IntN(4) == 0 {
		n.w.after(n.w.rng.Int64N(50_000_000), func() {
			f.Urgency = min(f.Urgency, n.w.rng.IntN(3))
			n.step(Hasten{f.Fetch, f.Urgency})
		})
	}
	return f.Fetch
}

// dies is the end of an agent.
func (n *simNode) dies() {
	n.dead = true
	for _, l := range n.w.sorted() {
		if l.to == n {
			l.breaks(0, 0)
		} else if l.from == n && !l.over {
			l.over = true
			n.w.after(n.w.latency, func() { l.to.step(LineOver{l.number}) })
		}
	}
	for _, m := range n.w.nodes {
		m.w.after(n.w.latency, func() {
			m.step(Lost{n.agent, "it died"})
			for _, f := range m.sortedFetches() {
				if f.Owner == n.agent {
					m.step(Drop{f.Fetch})
				}
			}
		})
	}
}

func (w *world) sorted() (list []*simLink) {
	for _, l := range w.links {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *simLink) int { return cmp.Compare(a.number, b.number) })
	return list
}

func (n *simNode) sortedFetches() (list []*simFetch) {
	for _, f := range n.coming {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *simFetch) int { return cmp.Compare(a.Fetch, b.Fetch) })
	return list
}

func object(n uint64) id.Object { return id.Object{Task: id.Task{Agent: 1, Counter: n}} }
