package work

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run one random history only")
	seeds    = flag.Int("seeds", 60, "how many random histories")
)

// TestRandomHistories lets honest processes submit, put, get, wait, release, cancel, create and call, and
// workers and drivers die, with frames under way in both directions for any time. After each step check
// recounts REF-1 to REF-4 and WORK-2; the model proves WORK-1, WORK-3 and WORK-5. At the end everything has an
// outcome, nobody holds anything, and nothing is left.
func TestRandomHistories(t *testing.T) {
	if *seedFlag != 0 {
		newHistory(t, *seedFlag).run(2000)
		return
	}
	submitted := 0
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		h := newHistory(t, seed)
		h.run(600)
		submitted += h.submitted
	}
	if submitted < *seeds*20 {
		t.Errorf("only %d tasks in %d histories", submitted, *seeds)
	}
}

type history struct {
	t         *testing.T
	core      *Core
	store     *ledger
	rng       *rand.Rand
	seed      uint64
	now       int64
	peers     []*peer
	last      id.Process
	needs     []*Need
	killed    []uint64 // workers that were killed before they came up
	actors    map[id.Task]*fb.CreateT
	once      map[id.Task]bool
	starts    map[id.Task]int
	runs      map[id.Task]*peer
	calm      bool
	submitted int
	jobs      uint32
}

func newHistory(t *testing.T, seed uint64) *history {
	store := &ledger{t: t, views: map[id.Object]map[id.Process]int{}}
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 11)), seed: seed, now: 1e9, store: store, core: New(Config{Agent: agentNumber, Node: "n1", Processes: 12, Deep: int(1 + seed%7), Piled: 3 * pileBlockSize, Store: store}),
		actors: map[id.Task]*fb.CreateT{}, once: map[id.Task]bool{}, starts: map[id.Task]int{}, runs: map[id.Task]*peer{}}
	h.grant(int64(1 + h.rng.IntN(4)))
	for range 1 + h.rng.IntN(3) {
		h.driver()
	}
	return h
}

func (h *history) grant(cpus int64) {
	devices := []string{"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"}[:2+cpus/8]
	h.step(Grant{Resources: []Amount{{"CPU", cpus * one}, {"GPU", int64(len(devices)) * one}, {"lic", one}}, Devices: devices})
}

func (h *history) driver() {
	h.jobs++
	h.attach(Driver, h.jobs, 0)
}

func (h *history) attach(kind Kind, job uint32, key uint64) {
	h.last++
	h.peers = append(h.peers, &peer{h: h, id: h.last, kind: kind, job: job, held: map[id.Object]*refs{}, before: map[id.Object]*refs{}, last: map[id.Process]uint64{}, calls: map[id.Task]int{}})
	h.step(ProcessUp{Process: h.last, Kind: kind, Job: job, Key: key})
}

func (h *history) step(ev Event) {
	h.now += int64(h.rng.IntN(100)) * 1000
	parts := map[*peer]bool{}
	for _, e := range h.core.Step(h.now, ev, nil) {
		switch e.Do {
		case Append:
			if p := h.peer(e.Process); p != nil {
				if at := len(p.in) - 1; parts[p] { // an arena was met between a task's arguments and the task
					p.in[at] = append(p.in[at], e.Bytes...)
				} else {
					p.in = append(p.in, slices.Clone(e.Bytes))
				}
				parts[p] = true
			}
		case NeedWorker:
			h.needs = append(h.needs, e.Need)
		case KillWorker, CloseProcess:
			if p := h.peer(e.Process); p != nil {
				p.doomed = true
			} else if e.Do == KillWorker {
				h.killed = append(h.killed, e.Key)
			}
		case Say:
			h.t.Fatalf("seed %d: %s: %s", h.seed, e.Code, e.Text)
		}
	}
	if err := checkViews(h.core, h.store); err != nil {
		h.t.Fatalf("seed %d: after %T: %v", h.seed, ev, err)
	}
	if err := check(h.core); err != nil {
		h.t.Fatalf("seed %d: after %T: %v", h.seed, ev, err)
	}
}

func (h *history) peer(p id.Process) *peer {
	for _, q := range h.peers {
		if q.id == p && !q.dead {
			return q
		}
	}
	return nil
}

func (h *history) alive(kind Kind) (out []*peer) {
	for _, p := range h.peers {
		if !p.dead && p.kind == kind {
			out = append(out, p)
		}
	}
	return out
}

func (h *history) end(p *peer, why string) {
	p.dead = true
	for t, w := range h.runs {
		if w == p {
			delete(h.runs, t)
		}
	}
	h.step(ProcessGone{Process: p.id, Why: why})
	h.peers = slices.DeleteFunc(h.peers, func(q *peer) bool { return q == p })
}

func (h *history) run(steps int) {
	for range steps {
		h.act()
	}
	h.settle()
}

// move delivers something of a process, in one of the directions.
func (h *history) move(p *peer) bool {
	switch {
	case len(p.in) > 0 && (h.rng.IntN(2) == 0 || len(p.out) == 0):
		chunk := p.in[0]
		p.in = p.in[1:]
		p.read(chunk)
	case len(p.out) > 0:
		n := 0
		for b := p.out; len(b) > 0 && (n == 0 || h.rng.IntN(4) > 0); {
			f, rest, _ := cut(b)
			n, b = n+len(f.whole), rest
		}
		bytes := p.out[:n:n]
		p.out = slices.Clone(p.out[n:])
		h.step(&Frames{Process: p.id, Bytes: bytes})
	default:
		return false
	}
	return true
}

func (h *history) need() {
	n := h.needs[0]
	h.needs = h.needs[1:]
	switch dead := slices.Contains(h.killed, n.Key); {
	case dead && h.rng.IntN(2) == 0 || !h.calm && h.rng.IntN(12) == 0:
		h.step(WorkerFailed{Key: n.Key, Why: "no memory"})
	default:
		h.attach(Worker, n.Job, n.Key)
	}
}

func (h *history) act() {
	if len(h.peers) == 0 {
		h.driver()
		return
	}
	p := h.peers[h.rng.IntN(len(h.peers))]
	switch k := h.rng.IntN(100); {
	case k < 45:
		h.move(p)
	case k < 55 && len(h.needs) > 0:
		h.need()
	case k < 57 && p.doomed:
		h.end(p, "it was told to")
	case k == 57 && p.kind == Worker:
		h.end(p, "killed by signal 9")
	case k == 58 && h.rng.IntN(10) == 0:
		h.end(p, "it ended")
	case k == 59 && h.rng.IntN(10) == 0:
		h.driver()
	case k == 60:
		h.now += int64(h.rng.IntN(300)) * int64(time.Millisecond)
		h.step(Tick{})
	case p.doomed:
	case p.kind == Worker:
		p.work()
	case k < 75:
		p.submit(id.Task{})
	case k < 79:
		p.put()
	case k < 84:
		p.get()
	case k < 86:
		if len(h.core.actors) < 5 { // they keep what they have
			p.create()
		}
	case k < 91:
		p.call()
	case k < 94:
		for _, o := range p.some(1) {
			m := &fb.CancelT{Task: taskT(o.Task), Force: uint32(h.rng.IntN(3)), Recursive: uint32(h.rng.IntN(2))}
			if p.held[o].own {
				p.send(m, nil)
			}
		}
	default:
		for _, o := range p.some(2) {
			p.drop(o)
		}
	}
}

// settle lets everything end: first all that was submitted, then all that is held, then the drivers.
func (h *history) settle() {
	h.calm = true
	h.grant(32) // what never fitted does now
	h.quiesce("tasks to end")
	for _, p := range h.peers {
		for _, o := range p.keys {
			if r := p.held[o]; r.own && r.unsettled && h.actors[o.Task] == nil {
				h.t.Fatalf("seed %d: WORK-1: process %d never heard of %v: %s", h.seed, p.id, o, h.explain(o.Task))
			}
		}
	}
	for _, p := range slices.Clone(h.peers) {
		for len(p.keys) > 0 {
			p.drop(p.keys[0])
		}
	}
	h.quiesce("references to go")
	for _, p := range h.peers {
		if len(p.keys) > 0 {
			for len(p.keys) > 0 {
				p.drop(p.keys[0])
			}
		}
	}
	h.quiesce("the last references to go")
	c := h.core
	if len(c.entries) > 0 || c.taskRec.used > 0 {
		h.t.Fatalf("seed %d: REF-1: all is released and %d entries are left, %d tasks; %s", h.seed, len(c.entries), c.taskRec.used, h.left())
	}
	if len(h.store.views) > 0 {
		h.t.Fatalf("seed %d: REF-1: all is released, and %d objects lie in the store", h.seed, len(h.store.views))
	}
	for _, p := range h.alive(Driver) {
		h.end(p, "done")
	}
	h.quiesce("workers to end")
	for _, p := range h.alive(Worker) {
		h.end(p, "left over")
	}
	if len(c.workers) > 0 || len(c.jobs) > 0 || len(c.processes) > 0 {
		h.t.Fatalf("seed %d: %d workers, %d jobs, %d processes are left", h.seed, len(c.workers), len(c.jobs), len(c.processes))
	}
	for i, n := range c.grants[0].free {
		if n != get(c.grants[0].total, i) {
			h.t.Fatalf("seed %d: WORK-2: %s: %d of %d free at the end", h.seed, c.names[i], n, c.grants[0].total[i])
		}
	}
}

// quiesce moves everything until nothing moves.
func (h *history) quiesce(what string) {
	for n := 0; ; n++ {
		moved := false
		for _, p := range slices.Clone(h.peers) {
			for !p.dead && h.move(p) {
				moved = true
			}
			if !p.dead && p.doomed {
				h.end(p, "it was told to")
				moved = true
			}
			if !p.dead && len(p.inbox)+len(p.running) > 0 {
				p.work()
				moved = true
			}
		}
		for len(h.needs) > 0 {
			h.need()
			moved = true
		}
		h.now += int64(10 * time.Millisecond)
		h.step(Tick{})
		if !moved {
			return
		}
		if n > 20000 {
			h.t.Fatalf("seed %d: waiting for %s never ends", h.seed, what)
		}
	}
}

func (h *history) explain(t id.Task) string {
	e, err := h.core.explain(t.String())
	if err != nil {
		return err.Error()
	}
	return e.Text
}

// left names what is left in the core.
func (h *history) left() string {
	var names []string
	for t, e := range h.core.entries {
		s := h.explain(t)
		if o := e.first; o != nil {
			s += fmt.Sprintf(" (%d pins, held: %v)", o.pins, o.holders != nil)
		}
		names = append(names, s)
	}
	slices.Sort(names)
	return strings.Join(names[:min(len(names), 5)], "; ")
}
