package head

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const (
	testCluster = "00112233445566778899aabbccddeeff"
	second      = int64(time.Second)
)

// world is a core with agents around it that do what agents do, and a journal that is replayed
// beside it, record by record.
type world struct {
	t      testing.TB
	cfg    Config
	core   *Core
	now    int64
	shadow state
	recs   []Message // as read back from their bytes
	agents []*fakeAgent
	conn   Conn
	log    []string // what happened since it was last taken
	exit   *Exit
	broken bool // the journal takes nothing any more
	light  bool // the state is not written down at each step, which costs more the more groups have ended

	onEnd    func(a *fakeAgent, u *fb.GroupUpdateT)
	onUpdate func(a *fakeAgent, u *fb.GroupUpdateT)
}

// fakeAgent stands for one node: its keeper lives on over its agents.
type fakeAgent struct {
	name     string
	key      string
	number   uint32 // of the live agent; 0: none
	previous uint32
	dead     bool // refused by the head: the keeper starts another
	resource []*fb.ResourceT
	devices  []*fb.DeviceT
	cpus     []uint32
	bundles  []*fb.BundleReservedT
	ranks    []*fb.RankStateT // running, and ended ones that were not acknowledged
	stopping []*fb.RankStateT // told TERM
	manual   bool             // does nothing by itself
	inbox    []Message        // to this agent, not yet handled
	outbox   []Message        // to the head, not yet delivered
	ends     map[id.Task]*fb.GroupEndT
	reported map[id.Task]int // how often an end came
	nextPort uint16
	names    []*fb.NameClaimT // that it has, or asked for
}

func newWorld(t testing.TB, cfg Config) *world {
	cfg.Cluster = testCluster
	if cfg.Build == "" {
		cfg.Build = "test"
	}
	w := &world{t: t, cfg: cfg, now: 1_000_000 * second, shadow: newState()}
	w.open()
	return w
}

func (w *world) open() {
	w.core = New(w.cfg)
	for _, r := range w.recs {
		if err := w.core.Replay(r); err != nil {
			w.t.Fatalf("replay: %v", err)
		}
	}
	w.recs = w.core.Snapshot(nil) // as the loop does: the next head reads what this one left
	out, err := w.core.Open(w.now, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.carry(out)
}

func (w *world) step(ev Event) { w.carry(w.core.Step(w.now, ev, nil)) }

// carry does the effects. Each record must leave the replayed state equal to the live one at the end.
func (w *world) carry(out []Effect) {
	w.t.Helper()
	for _, e := range out {
		w.note(e)
		switch e := e.(type) {
		case Append:
			if w.broken {
				w.t.Fatalf("a record after the journal broke: %s", show(e.Rec))
			}
			body, err := wire.Marshal(nil, e.Rec)
			if err != nil {
				w.t.Fatalf("marshal %T: %v", e.Rec, err)
			}
			rec, err := wire.Unmarshal(wire.TypeOf(e.Rec), slices.Clone(body))
			if err != nil {
				w.t.Fatalf("unmarshal %T: %v", e.Rec, err)
			}
			if err := w.shadow.apply(rec); err != nil {
				w.t.Fatalf("HEAD-6: %s is not accepted at replay: %v", show(rec), err)
			}
			w.recs = append(w.recs, rec)
		case Admitted:
			if a := w.byConn(e.Conn); a != nil && e.Welcome.Assigned != 0 {
				a.number = e.Welcome.Assigned
			}
		case Refused:
			if a := w.byConn(e.Conn); a != nil {
				a.dead = true
			}
		case Send:
			if a := w.byNumber(uint32(e.Agent)); a != nil {
				body, err := wire.Marshal(nil, e.Msg)
				if err != nil {
					w.t.Fatalf("marshal %T: %v", e.Msg, err)
				}
				m, err := wire.Unmarshal(wire.TypeOf(e.Msg), slices.Clone(body))
				if err != nil {
					w.t.Fatalf("unmarshal %T: %v", e.Msg, err)
				}
				a.inbox = append(a.inbox, m)
			}
		case Bury:
			if a := w.byNumber(uint32(e.Agent)); a != nil {
				a.dead = true
			}
		case Exit:
			w.exit = &e
		}
	}
	if !slices.ContainsFunc(out, func(e Effect) bool { _, is := e.(Append); return is }) {
		return // nothing durable can have changed
	}
	if w.light {
		w.checkLedger()
		return
	}
	if live, replayed := dump(&w.core.state), dump(&w.shadow); live != replayed {
		w.t.Fatalf("HEAD-6: the live state is not what the journal says\n%s", diff(live, replayed))
	}
	w.checkLedger()
}

// checkLedger is HEAD-1 and HEAD-3: on every node, total = free + what groups hold; a placed group
// has all of its bundles.
func (w *world) checkLedger() {
	w.t.Helper()
	s := &w.core.state
	if err := s.view.Check(); err != nil {
		w.t.Fatalf("HEAD-1: %v", err)
	}
	for _, n := range s.nodes {
		v := s.view.Node(int(n.index))
		if n.dead {
			if v != nil {
				w.t.Fatalf("HEAD-1: the dead node %s is in the ledger", n.name)
			}
			continue
		}
		for _, r := range v.Total {
			held := placement.Amount(0)
			for _, g := range s.groups {
				for _, p := range g.places {
					for _, b := range p.bundles {
						if p.node == n.index && !p.lost {
							res, _ := resourcesOf(b.Resources)
							held += res.Get(r.Name)
						}
					}
				}
			}
			if v.Free.Get(r.Name)+held != r.Amount {
				w.t.Fatalf("HEAD-1: %s: %v of %s free, %v held, %v in all", n.name, v.Free.Get(r.Name), r.Name, held, r.Amount)
			}
		}
	}
	for _, g := range s.groups {
		bundles := 0
		for _, p := range g.places {
			bundles += len(p.bundles)
		}
		if bundles != 0 && bundles != len(g.create.Bundles) {
			w.t.Fatalf("HEAD-3: group %v has %d of %d bundles", g.id, bundles, len(g.create.Bundles))
		}
	}
}

var conns = map[Conn]*fakeAgent{}

func (w *world) byConn(c Conn) *fakeAgent { return conns[c] }

func (w *world) byNumber(n uint32) *fakeAgent {
	for _, a := range w.agents {
		if a.number == n && n != 0 && !a.dead {
			return a
		}
	}
	return nil
}

// agent is the last node of that name.
func (w *world) agent(name string) *fakeAgent {
	for _, a := range slices.Backward(w.agents) {
		if a.name == name {
			return a
		}
	}
	w.t.Fatalf("no node %s", name)
	return nil
}

func (w *world) hello(a *fakeAgent) *fb.HelloT {
	return &fb.HelloT{WireVersion: wire.Version, Build: "test", Cluster: w.cfg.Cluster, Job: w.cfg.Job, Epoch: w.cfg.Epoch,
		Role: fb.RoleAgent, Agent: a.number, NodeKey: a.key}
}

// dial brings an agent's control connection up, and registers it unless its session resumes.
func (w *world) dial(a *fakeAgent, resumed bool) {
	w.conn++
	conns[w.conn] = a
	a.dead = false
	w.step(Admit{w.conn, w.hello(a)})
	delete(conns, w.conn)
	if a.dead {
		return
	}
	w.step(LinkUp{id.Agent(a.number), resumed})
	if !resumed {
		a.inbox, a.outbox = nil, nil
		a.outbox = append(a.outbox, a.register())
	}
}

func (a *fakeAgent) register() *fb.RegisterT {
	r := &fb.RegisterT{Name: a.name, NodeKey: a.key, Previous: a.previous, Addresses: []string{a.name + ".local:7000"},
		Resources: a.resource, Devices: a.devices, Cpus: a.cpus, Grant: "all of it"}
	r.Bundles = append(r.Bundles, a.bundles...)
	r.Names = append(r.Names, a.names...)
	for _, k := range a.ranks {
		c := *k
		r.Ranks = append(r.Ranks, &c)
	}
	return r
}

// join starts a node's keeper and agent.
func (w *world) join(name string, resources string, gpus int) *fakeAgent {
	res, err := placement.ParseResources(resources)
	if err != nil {
		w.t.Fatal(err)
	}
	a := &fakeAgent{name: name, key: fmt.Sprintf("%032x", len(w.agents)+1), resource: wireResources(res),
		ends: map[id.Task]*fb.GroupEndT{}, reported: map[id.Task]int{}, nextPort: 20000}
	if gpus > 0 {
		a.resource = append(a.resource, &fb.ResourceT{Name: "GPU", Amount: int64(gpus) * 10_000})
	}
	for i := range gpus {
		a.devices = append(a.devices, &fb.DeviceT{Id: fmt.Sprintf("%s-gpu-%d", name, i), Kind: "declared", Minor: -1, Numa: -1})
	}
	w.agents = append(w.agents, a)
	w.dial(a, false)
	return a
}

// restartAgent is a crash of the agent alone: its programs run on.
func (w *world) restartAgent(a *fakeAgent) {
	w.step(LinkDown{id.Agent(a.number), "EOF"})
	a.previous, a.number, a.stopping, a.bundles, a.names = a.number, 0, nil, nil, nil // of bundles only the agent knew, and of actors
	w.dial(a, false)
}

// settle delivers everything in both directions until nothing is under way.
func (w *world) settle() {
	w.t.Helper()
	for range 10000 {
		idle := true
		for _, a := range w.agents {
			for len(a.inbox) > 0 {
				m := a.inbox[0]
				a.inbox = a.inbox[1:]
				w.handle(a, m)
				idle = false
			}
			for len(a.outbox) > 0 {
				m := a.outbox[0]
				a.outbox = a.outbox[1:]
				w.step(FromAgent{Agent: id.Agent(a.number), Msg: m})
				idle = false
			}
		}
		if idle {
			return
		}
	}
	w.t.Fatal("it does not come to rest")
}

// handle is an agent that takes in a message of the head.
func (w *world) handle(a *fakeAgent, m Message) {
	send := func(m Message) { a.outbox = append(a.outbox, m) }
	switch m := m.(type) {
	case *fb.RegisteredT:
		a.previous = 0
	case *fb.BundleReserveT:
		if a.manual {
			return
		}
		at := slices.IndexFunc(a.bundles, func(h *fb.BundleReservedT) bool {
			return taskOf(h.Group) == taskOf(m.Group) && h.Incarnation == m.Incarnation
		})
		if at < 0 {
			h := &fb.BundleReservedT{Group: m.Group, Incarnation: m.Incarnation, Bundles: m.Bundles}
			if m.HoldPort {
				h.MasterPort = a.nextPort
				a.nextPort++
			}
			a.bundles, at = append(a.bundles, h), len(a.bundles)
		}
		if !m.Quiet {
			send(a.bundles[at])
		}
	case *fb.BundleReleaseT:
		gone := func(g *fb.TaskIDT, inc uint32) bool { return taskOf(g) == taskOf(m.Group) && inc == m.Incarnation }
		a.bundles = slices.DeleteFunc(a.bundles, func(h *fb.BundleReservedT) bool { return gone(h.Group, h.Incarnation) })
		a.ranks = slices.DeleteFunc(a.ranks, func(k *fb.RankStateT) bool { return gone(k.Group, k.Incarnation) })
		a.stopping = slices.DeleteFunc(a.stopping, func(k *fb.RankStateT) bool { return gone(k.Group, k.Incarnation) })
	case *fb.RankStartT:
		if m.World == 0 || m.MasterAddr == "" || len(m.Ranks) == 0 {
			w.t.Errorf("bad RankStart: %s", show(m))
		}
		for _, r := range m.Ranks {
			if k := a.rank(taskOf(m.Group), m.Incarnation, r.Rank); k != nil {
				continue
			}
			k := &fb.RankStateT{Group: m.Group, Incarnation: m.Incarnation, Rank: r.Rank, Phase: fb.RankPhaseStarting, Pid: 100 + r.Rank}
			a.ranks = append(a.ranks, k)
			if !a.manual {
				w.run(a, k)
			}
		}
	case *fb.RankStopT:
		for _, k := range a.ranks {
			if taskOf(k.Group) != taskOf(m.Group) || k.Incarnation != m.Incarnation || k.Phase == fb.RankPhaseEnded || m.Grace < 0 {
				continue
			}
			if m.Signal == 9 {
				w.endRank(a, k, 0, 9, true, "")
			} else if !slices.Contains(a.stopping, k) {
				a.stopping = append(a.stopping, k)
			}
		}
	case *fb.RankStateAckT:
		a.ranks = slices.DeleteFunc(a.ranks, func(k *fb.RankStateT) bool {
			return taskOf(k.Group) == taskOf(m.Group) && k.Incarnation == m.Incarnation && slices.Contains(m.Ranks, k.Rank) && k.Phase == fb.RankPhaseEnded
		})
	case *fb.GroupUpdateT:
		if w.onUpdate != nil {
			w.onUpdate(a, m)
		}
		if m.Phase != fb.GroupPhaseEnded || m.End.Cause == causeLost { // lost: this head never heard of it
			return
		}
		task := taskOf(m.Group)
		if old := a.ends[task]; old != nil && *old != *m.End {
			w.t.Errorf("HEAD-2: two ends of group %v: %+v and %+v", task, old, m.End)
		}
		a.ends[task] = m.End
		a.reported[task]++
		if w.onEnd != nil {
			w.onEnd(a, m)
		}
	case *fb.NameAdoptT:
		if !a.manual {
			a.claim(m.Claim)
		}
	case *fb.NameClaimedT:
		if taskOf(m.Holder) != taskOf(m.Actor) || m.Error != "" {
			a.names = slices.DeleteFunc(a.names, func(q *fb.NameClaimT) bool { return taskOf(q.Actor) == taskOf(m.Actor) })
		}
	case *fb.DrainT:
		if m.Now {
			w.step(Left{id.Agent(a.number), "drained"})
			a.dead = true
		}
	}
}

// claim asks for a name, or asks again.
func (a *fakeAgent) claim(q *fb.NameClaimT) {
	if !slices.ContainsFunc(a.names, func(o *fb.NameClaimT) bool { return taskOf(o.Actor) == taskOf(q.Actor) }) {
		a.names = append(a.names, q)
	}
	a.outbox = append(a.outbox, q)
}

func (a *fakeAgent) rank(g id.Task, inc, rank uint32) *fb.RankStateT {
	for _, k := range a.ranks {
		if taskOf(k.Group) == g && k.Incarnation == inc && k.Rank == rank {
			return k
		}
	}
	return nil
}

func (w *world) run(a *fakeAgent, k *fb.RankStateT) {
	k.Phase = fb.RankPhaseRunning
	c := *k
	a.outbox = append(a.outbox, &c)
}

func (w *world) endRank(a *fakeAgent, k *fb.RankStateT, code, signal int32, byUs bool, tail string) {
	k.Phase, k.Code, k.Signal, k.ByUs, k.Tail = fb.RankPhaseEnded, code, signal, byUs, tail
	a.stopping = slices.DeleteFunc(a.stopping, func(o *fb.RankStateT) bool { return o == k })
	c := *k
	a.outbox = append(a.outbox, &c)
}

// advance lets time pass: the core ticks when it asked to.
func (w *world) advance(d int64) {
	end := w.now + d
	for {
		at := w.core.NextDeadline()
		if at == 0 || at > end || w.exit != nil {
			break
		}
		w.now = max(w.now, at)
		w.step(Tick{})
		w.settle()
	}
	w.now = end
}

// restartHead is a crash of the head: only the journal stays. Agents dial again.
func (w *world) restartHead(back ...*fakeAgent) {
	w.open()
	for _, a := range back {
		w.dial(a, false)
	}
}

// dump writes a state down, all of it and nothing that is not durable.
func dump(s *state) string {
	var b strings.Builder
	j := func(v any) string {
		x, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return strings.NewReplacer(":null", ":[]", `"spec":""`, `"spec":[]`).Replace(string(x)) // absent and empty are one on the wire
	}
	fmt.Fprintf(&b, "cluster %s epoch %d term %d began %d next %d drain %s\n", s.cluster, s.epoch, s.term, s.began, s.nextAgent, j(s.drain))
	for _, m := range s.members {
		node := int64(-1)
		if m.node != nil {
			node = int64(m.node.index)
		}
		fmt.Fprintf(&b, "member %d %s node %d known %v\n", m.number, m.nodeKey, node, s.byAgent[m.number] == m)
	}
	for _, n := range s.nodes {
		fmt.Fprintf(&b, "node %d %s %s agent %d dead %v %q since %d %s\n", n.index, n.name, n.nodeKey, n.agent, n.dead, n.why, n.since, j(n.register))
		if v := s.view.Node(int(n.index)); v != nil {
			fmt.Fprintf(&b, "  agent %d free %s devices %s\n", v.Agent, j(v.Free), j(v.Devices))
		}
	}
	for i, list := range [][]*group{s.groups, s.ended} {
		for _, g := range list {
			fmt.Fprintf(&b, "%d group %v %s created %d owner %d.%d phase %v since %d inc %d restarts %d master %s:%d free %v end %s known %v\n", i, g.id, j(g.create),
				g.created, g.owner, g.process, g.phase, g.since, g.incarnation, g.restarts, g.master, g.port, g.portFree, j(g.end), s.byID[g.id] == g)
			for _, p := range g.places {
				fmt.Fprintf(&b, "  place agent %d node %d first %d ranks %d lost %v %s\n", p.agent, p.node, p.first, p.ranks, p.lost, j(p.bundles))
			}
			fmt.Fprintf(&b, "  ranks %v, last at %v\n", g.ranks, g.last)
		}
	}
	for _, n := range s.names {
		fmt.Fprintf(&b, "name %s agent %d since %d restarts %d coming %v of %d and %d known %v\n", j(n.claim), n.agent, n.since, n.restarts, n.coming, s.specs, s.adrift, s.byActor[n.actor] == n)
	}
	return b.String()
}

func diff(a, b string) string {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			return "live:     " + la[i] + "\nreplayed: " + lb[i]
		}
	}
	return fmt.Sprintf("live has %d lines, replayed %d", len(la), len(lb))
}
