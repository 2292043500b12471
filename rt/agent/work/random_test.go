package work

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run one random history only")
	seeds    = flag.Int("seeds", 60, "how many random histories")

	showFrames = flag.Bool("frames", false, "print what goes between nodes")
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
	submitted, held, ended, returned, kept := 0, 0, 0, map[string]int{}, cacheCounts{}
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		h := newHistory(t, seed)
		h.run(600)
		submitted, held, ended = submitted+h.submitted, held+h.held, ended+h.ended
		kept.add(h.kept)
		for why, n := range h.returned {
			returned[why] += n
		}
	}
	kept.check(t, *seeds)
	if len(returned) < 4 {
		t.Errorf("%v: the histories don't reach all that becomes of what lies in files", returned)
	}
	if held < *seeds/2 || ended < *seeds/2 {
		t.Errorf("only %d tasks waited for their readers, and %d streams ended in %d histories", held, ended, *seeds)
	}
	if submitted < *seeds*20 {
		t.Errorf("only %d tasks in %d histories", submitted, *seeds)
	}
}

// site is an agent.
type site struct {
	agent  id.Agent
	core   *Core
	store  *ledger
	last   id.Process
	needs  []*Need
	killed []uint64     // workers that were killed before they came up
	wanted []Effect     // values to be fetched
	coming [][]parcel   // by sender
	asks   []Effect     // to the head
	says   []Event      // of the head
	told   map[view]int // places that went to processes here
	gone   []Evicted    // of which the core is to hear
	late   []Evicted    // the same, of copies: after its next step

	dropped map[id.Object]bool // copies that were, ever

	unlisted map[id.Object]bool // that came by way of another agent, and of which their owners said that they have them no more
	cpus     int64
}

type history struct {
	t         *testing.T
	sites     []*site
	errands   []*errand
	away      int
	rng       *rand.Rand
	seed      uint64
	now       int64
	peers     []*peer
	actors    map[id.Task]*fb.CreateT
	once      map[id.Task]bool
	starts    map[id.Task]int
	runs      map[id.Task]*peer
	calm      bool
	submitted int
	jobs      uint32
	head      *registry
	finds     int // names that were found
	inherited int // values that outlived their agents
	cuts      map[[2]id.Agent]bool
	listed    int              // references that came by way of one agent and were listed by another, their owner
	outlived  int              // whose objects were asked for when a third agent was lost
	kin       map[*worker]bool // that ran on what ancestors lent, where nothing else may
	rings     *rings           // of which this is one
	held      int              // tasks that waited for who reads what they give
	ended     int              // streams of which the end was heard
	last      uint64           // group that the head has lent
	direct    bool             // drivers call their actors again and again
	lines     int              // calls that went by direct lines
	told      int              // and that an agent was told of
	overs     int              // lines that agents had ended
	kept      cacheCounts
	returned  map[string]int // what came back from files, by why it did not
	copies    copyCounts
}

func newHistory(t *testing.T, seed uint64) *history { return newHistories(t, seed, 1) }

func newHistories(t *testing.T, seed uint64, nodes int) *history {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 11)), seed: seed, now: 1e9,
		actors: map[id.Task]*fb.CreateT{}, once: map[id.Task]bool{}, starts: map[id.Task]int{}, runs: map[id.Task]*peer{}, head: newRegistry(), returned: map[string]int{}, kin: map[*worker]bool{}, cuts: map[[2]id.Agent]bool{}}
	for i := range nodes {
		store := newLedger(t)
		s := &site{agent: id.Agent(agentNumber + i), store: store, told: map[view]int{}, unlisted: map[id.Object]bool{}, dropped: map[id.Object]bool{}}
		s.core = New(Config{Agent: s.agent, Node: fmt.Sprintf("n%d", i+1), Processes: 12, Deep: int(1 + seed%7), Piled: 3 * pileBlockSize, Direct: 1, Lineage: int(2+seed%2*1000) << 10, Store: store})
		h.sites = append(h.sites, s)
		cpus := int64(1 + h.rng.IntN(4))
		if nodes > 1 && h.rng.IntN(2) == 0 { // others have all
			cpus = 0
		}
		h.grant(s, cpus)
	}
	if nodes > 1 {
		h.lend()
	}
	for i := range 1 + h.rng.IntN(3) + nodes/3*2 {
		h.jobs++
		s := h.sites[h.rng.IntN(nodes)]
		if nodes == 3 {
			s = h.sites[i%nodes]
		}
		h.attach(s, Driver, h.jobs, 0)
	}
	return h
}

func (h *history) grant(s *site, cpus int64) {
	s.cpus = cpus
	h.recall(s, 0)
}

// recall has some of a node's CPUs be recalled: those that are not used any more go back, some time.
func (h *history) recall(s *site, kept int64) {
	cpus := s.cpus
	devices := []string{"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"}[:2+cpus/8]
	ev := Grant{Resources: []Amount{{"CPU", (cpus - kept) * one}, {"GPU", int64(len(devices)) * one}, {"lic", one}}, Kept: []Amount{{"CPU", kept * one}}, Devices: devices}
	if h.seed%3 == 0 { // one is whole, of the others there are parts, which grow
		ev.Shares = make([]int64, len(devices))
		for i := range devices[1:] {
			ev.Shares[i+1] = min(one, one/2+cpus*250)
			ev.Resources[1].Amount -= one - ev.Shares[i+1]
		}
	}
	h.step(s, ev)
}

func (h *history) driver() {
	h.jobs++
	h.attach(h.sites[h.rng.IntN(len(h.sites))], Driver, h.jobs, 0)
}

func (h *history) attach(s *site, kind Kind, job uint32, key uint64) {
	s.last++
	h.peers = append(h.peers, &peer{h: h, at: s, id: s.last, kind: kind, job: job, held: map[id.Object]*refs{}, before: map[id.Object]*refs{}, last: map[id.Task]uint64{}, calls: map[id.Task]int{}})
	mute := kind == Worker && len(h.sites) == 1 && s.last%2 == 0
	h.peers[len(h.peers)-1].mute = mute
	h.step(s, ProcessUp{Process: s.last, Kind: kind, Job: job, Key: key, Direct: true})
}

func (h *history) step(s *site, ev Event) {
	h.now += int64(h.rng.IntN(100)) * 1000
	parts := map[*peer]bool{}
	for _, e := range s.core.Step(h.now, ev, nil) {
		switch e.Do {
		case Append:
			if h.rings != nil {
				h.toldOfCircles(s, e.Bytes)
			}
			if k := h.errandOf(s, e.Process); k != nil {
				k.says(s, e.Bytes)
			} else if p := h.peer(s, e.Process); p != nil {
				s.tells(e)
				if at := len(p.in) - 1; parts[p] { // an arena was met between a task's arguments and the task
					p.in[at] = append(p.in[at], e.Bytes...)
				} else {
					p.in = append(p.in, slices.Clone(e.Bytes))
				}
				parts[p] = true
			}
		case Join:
			h.join(h.peer(s, e.Process), h.peer(s, e.Worker), e.Line)
		case Claim, Free, Find, Survey:
			s.asks = append(s.asks, e)
		case NeedWorker:
			s.needs = append(s.needs, e.Need)
		case NeedHost:
			h.open(s, id.Agent(e.Key), e.Need.Job)
		case Fetch, Slice:
			s.wanted = append(s.wanted, e)
		case Unslice:
			h.unsliced(s, e)
		case Hasten:
			i := slices.IndexFunc(s.wanted, func(f Effect) bool { return f.Process == e.Process && f.Object == e.Object })
			if i < 0 || s.wanted[i].Urgency <= e.Urgency {
				h.t.Fatalf("seed %d: agent %d hastens %v, which is not on its way, or as urgent", h.seed, s.agent, e.Object)
			}
			s.wanted[i].Urgency = e.Urgency
		case KillWorker, CloseProcess:
			if k := h.errandOf(s, e.Process); k != nil {
				k.doomed[k.end(s)] = true
			} else if p := h.peer(s, e.Process); p != nil {
				p.doomed = true
				h.moved(p, e.Text)
			} else if e.Do == KillWorker {
				s.killed = append(s.killed, e.Key)
			}
		case Say:
			if e.Code != codeMemoryShort && !(e.Code == codeKept && h.toldKept(s, e.Text)) {
				h.t.Fatalf("seed %d: agent %d: %s: %s", h.seed, s.agent, e.Code, e.Text)
			}
		}
	}
	for t, why := range s.core.doomed {
		if !h.rings.told[t] {
			h.isStuck(s, t, why)
		}
	}
	if err := checkViews(s); err != nil {
		h.t.Fatalf("seed %d: agent %d after %T: %v", h.seed, s.agent, ev, err)
	}
	h.checkNames()
	for _, w := range s.core.workers {
		if w.held && w.kin {
			h.kin[w] = true
		}
	}
	if err := check(s.core); err != nil {
		h.t.Fatalf("seed %d: agent %d after %T: %v", h.seed, s.agent, ev, err)
	}
	late := s.late
	s.late = nil
	for _, ev := range late {
		h.dropped(s, ev)
	}
}

func (h *history) peer(s *site, p id.Process) *peer {
	for _, q := range h.peers {
		if q.at == s && q.id == p && !q.dead {
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
	h.step(p.at, ProcessGone{Process: p.id, Why: why, Memory: why == killedBySignal && h.rng.IntN(2) == 0})
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
		h.step(p.at, &Frames{Process: p.id, Bytes: bytes})
	default:
		return false
	}
	return true
}

func (h *history) act() {
	if len(h.peers) == 0 {
		h.driver()
		return
	}
	p, s := h.peers[h.rng.IntN(len(h.peers))], h.sites[h.rng.IntN(len(h.sites))]
	if h.rng.IntN(8) == 0 {
		h.dropSome(s)
	}
	if h.evict(s); p.kind == Driver && !p.doomed && h.rng.IntN(15) == 0 && p.wantCached() {
		return
	}
	if h.rng.IntN(10) == 0 {
		h.files(s)
	}
	if len(h.sites) > 1 && h.between(s) || len(h.sites) > 2 && h.meet(p) || h.direct && p.converse() {
		return
	}
	switch k := h.rng.IntN(120); {
	case k < 45:
		h.move(p)
	case k < 55 && len(s.needs) > 0:
		h.need(s)
	case k < 57 && p.doomed:
		h.end(p, "it was told to")
	case k == 57 && p.kind == Worker:
		h.end(p, killedBySignal)
	case k == 61 && h.rng.IntN(3) == 0:
		h.short(s)
	case k == 62 && len(h.sites) > 1 && h.rng.IntN(4) == 0:
		h.drain(s)
	case k == 58 && h.rng.IntN(10) == 0:
		h.end(p, "it ended")
	case k == 59 && h.rng.IntN(10) == 0:
		h.driver()
	case k >= 106:
		h.names(s)
	case k == 60:
		h.now += int64(h.rng.IntN(300)) * int64(time.Millisecond)
		h.step(s, Tick{})
	case p.doomed:
	case p.kind == Worker:
		p.work()
	case p.direct():
	case k < 70 && p.reads():
	case k < 75:
		p.submit(id.Task{})
	case k < 79:
		p.put()
	case k < 83:
		p.get()
	case k == 83:
		p.slice()
	case k < 86:
		if len(p.at.core.actors) < 5 { // they keep what they have
			p.create()
		}
	case k < 91:
		p.call()
	case k >= 100 && k < 106:
		p.look()
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
	h.undrain()
	for _, s := range h.sites {
		h.grant(s, 32) // what never fitted does now
		h.relend(s)
	}
	h.quiesce("tasks to end")
	for _, p := range h.peers {
		if p.looks > 0 {
			h.t.Fatalf("seed %d: process %d was not told of %d names", h.seed, p.id, p.looks)
		}
		for _, o := range p.keys {
			if r := p.held[o]; r.own && r.unsettled && h.actors[o.Task] == nil {
				h.t.Fatalf("seed %d: WORK-1: process %d never heard of %v: %s", h.seed, p.id, o, h.explain(p.at, o.Task))
			}
		}
		for _, f := range p.flows {
			if !f.ended {
				h.t.Fatalf("seed %d: WORK-1: process %d never heard of the end of %v: %s", h.seed, p.id, f.task, h.explain(p.at, f.task))
			}
		}
	}
	if len(h.sites) > 1 {
		h.asked()
		h.checkHomes()
		h.middle()
	}
	h.wantAll()
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
	h.stayAway()
	for _, k := range h.errands { // what came for a frame which does not come any more goes with the next one
		for i, s := range k.ends {
			h.step(s, &Frames{Process: k.process[i], Bytes: frameOf(h.t, &fb.CancelT{Task: &fb.TaskIDT{}}, nil)})
		}
	}
	h.quiesce("what came too late")
	circles := h.inCircles()
	for _, s := range h.sites {
		c := s.core
		if !circles || c.taskRec.used > c.lineage.n+len(c.entries) || c.piled > 0 {
			h.t.Fatalf("seed %d: REF-1: all is released and %d entries are left at agent %d, %d tasks; %s", h.seed, len(c.entries), s.agent, c.taskRec.used, h.left())
		}
		if len(s.store.views) > len(c.entries)+len(s.store.resting) {
			h.t.Fatalf("seed %d: REF-1: all is released, and %d objects lie in the store", h.seed, len(s.store.views))
		}
	}
	for _, p := range h.alive(Driver) {
		h.end(p, "done")
	}
	h.quiesce("workers to end")
	for _, p := range h.alive(Worker) {
		h.end(p, "left over")
	}
	for _, s := range h.sites {
		c := s.core
		if len(c.workers) > 0 || len(c.jobs) > 0 || len(c.processes) > 0 || len(c.hosts) > 0 || len(c.lent) > 0 || len(c.asked)+len(c.finding)+len(c.finds)+len(c.slices) > 0 {
			for _, k := range c.hosts {
				h.t.Logf("host of job %d, over: %v, up: %v, %d actors, %d tasks, %d classes", k.job.number, k.job.over, k.process != nil, len(k.actors), len(tasksOf(k)), len(k.job.classes))
			}
			h.t.Fatalf("seed %d: %d workers, %d jobs, %d processes, %d hosts, %d foreign objects are left", h.seed, len(c.workers), len(c.jobs), len(c.processes), len(c.hosts), len(c.lent))
		}
		for _, g := range c.grants {
			for i, n := range g.free {
				if n != get(g.total, i) {
					h.t.Fatalf("seed %d: WORK-2: %s: %d of %d free at the end", h.seed, c.names[i], n, g.total[i])
				}
			}
		}
	}
}
