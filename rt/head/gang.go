package head

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// start tells the agents to start their ranks, now that every bundle is held.
func (c *Core) start(g *group) {
	zero := g.placeOf(0)
	addr := ""
	if n := c.state.nodeAt(zero.node); len(n.register.Addresses) > 0 {
		addr = host(n.register.Addresses[0])
	}
	if addr == "" {
		addr = c.state.nodeName(zero.node)
	}
	ok := c.must(&fb.RecGroupStateT{Group: wireTask(g.id), Incarnation: g.incarnation, Phase: fb.GroupPhaseStarting, Restarts: g.restarts,
		MasterAddr: addr, MasterPort: zero.run.port, PortFree: g.portFree, Wall: c.now})
	if !ok {
		return
	}
	for _, p := range g.places {
		c.startRanks(g, p, nil)
	}
	c.tell(g)
}

// startRanks tells one agent to start those of its ranks that it doesn't know of. It may be told again.
func (c *Core) startRanks(g *group, p *place, known []*fb.RankStateT) {
	ranks := slices.DeleteFunc(g.ranksOf(nil, p), func(r *fb.RankPlaceT) bool { return g.ranks[r.Rank].done || mentions(known, g, r.Rank) })
	if len(ranks) == 0 || p.lost {
		return
	}
	c.send(p.agent, &fb.RankStartT{
		Group: wireTask(g.id), Incarnation: g.incarnation, Program: g.create.Program, Name: g.create.Name,
		Ranks: ranks, World: uint32(len(g.ranks)), LocalWorld: p.ranks, Nodes: g.nodesWithRanks(),
		MasterAddr: g.master, MasterPort: g.port,
		SinkAgent: uint32(g.owner), SinkProcess: uint32(g.process), Sink: c.peer(g.owner),
	})
}

// ranksOf lists the ranks of a place.
func (g *group) ranksOf(out []*fb.RankPlaceT, p *place) []*fb.RankPlaceT {
	nodeRank := uint32(0)
	for _, o := range g.places {
		if o == p {
			break
		}
		if o.ranks > 0 {
			nodeRank++
		}
	}
	local := uint32(0)
	for _, b := range p.bundles {
		for i := uint32(0); i < b.Ranks; i++ {
			out = append(out, &fb.RankPlaceT{Rank: b.FirstRank + i, Bundle: b.Index, Agent: uint32(p.agent), LocalRank: local, NodeRank: nodeRank})
			local++
		}
	}
	return out
}

func (g *group) nodesWithRanks() uint32 {
	n := uint32(0)
	for _, p := range g.places {
		if p.ranks > 0 {
			n++
		}
	}
	return n
}

// rankState takes in what became of a rank.
func (c *Core) rankState(m *member, r *fb.RankStateT) {
	task := taskOf(r.Group)
	g := c.state.byID[task]
	var p *place
	if g != nil && g.incarnation == r.Incarnation && int(r.Rank) < len(g.ranks) {
		p = g.placeOf(r.Rank)
	}
	if p == nil || p.agent != m.number || p.lost || g.master == "" {
		c.unknownRank(m, r)
		return
	}
	switch {
	case g.ranks[r.Rank].done:
		c.ackRank(m, r)
	case r.Phase == fb.RankPhaseRunning:
		if !g.run.running[r.Rank] {
			g.run.running[r.Rank] = true
			g.run.nRunning++
		}
		c.advance(g)
	case r.Phase == fb.RankPhaseEnded:
		rec := *r
		if !c.must(&fb.RecRankEndT{Group: r.Group, Incarnation: r.Incarnation, State: &rec, Node: m.node.name}) {
			return
		}
		c.ackRank(m, r)
		if c.isFailure(g, r) {
			c.rankFailed(g, r)
			return
		}
		c.advance(g)
	}
}

// unknownRank answers for a rank that nobody wants: it is to end, and its end needs no more telling.
// An agent that was started again took it over from its keeper, and would keep its output for ever.
func (c *Core) unknownRank(m *member, r *fb.RankStateT) {
	if r.Phase == fb.RankPhaseEnded {
		c.ackRank(m, r)
		c.send(m.number, &fb.BundleReleaseT{Group: r.Group, Incarnation: r.Incarnation})
		return
	}
	c.send(m.number, &fb.RankStopT{Group: r.Group, Incarnation: r.Incarnation, Signal: sigKILL})
}

func (c *Core) ackRank(m *member, r *fb.RankStateT) {
	c.send(m.number, &fb.RankStateAckT{Group: r.Group, Incarnation: r.Incarnation, Ranks: []uint32{r.Rank}})
}

// isFailure tells whether this end is to end the gang. Ends after the first failure are not: they
// are ours, or would have been.
func (c *Core) isFailure(g *group, r *fb.RankStateT) bool {
	if g.phase != fb.GroupPhaseStarting && g.phase != fb.GroupPhaseRunning {
		return false
	}
	return r.Code != 0 || r.Signal != 0 || r.Error != ""
}

// rankFailed ends the gang on account of the first rank that failed.
func (c *Core) rankFailed(g *group, r *fb.RankStateT) {
	node := c.state.nodeName(g.placeOf(r.Rank).node)
	end := &fb.GroupEndT{Cause: causeRank, Rank: int32(r.Rank), Node: node, Signal: r.Signal, Tail: r.Tail, Code: exitCode(r), Wall: c.now}
	who := fmt.Sprintf("rank %d on %s", r.Rank, node)
	if g.create.Program.Driver {
		who = "the program on " + node
	}
	switch {
	case r.ByUs && r.Error == "":
		// Its agent ended it without having been told to: the node was cut off, or is leaving.
		end = c.lostEnd(g, node, "")
		end.Reason = node + " was cut off or is leaving, and ended its ranks"
	case r.Error != "":
		end.Cause, end.Code = causeStart, startCode(r)
		end.Reason = fmt.Sprintf("%s could not be started: %s", who, r.Error)
	case r.Rank == 0 && g.port != 0 && !g.portFree && portInUse(r.Tail, g.port):
		end.Cause = causePort
		end.Reason = fmt.Sprintf("%s found MASTER_PORT %d in use: it binds without SO_REUSEADDR, or another program took the port", who, g.port)
	case r.Signal != 0:
		end.Reason = fmt.Sprintf("%s was killed by signal %d (%s)", who, r.Signal, signalName(r.Signal))
		if r.Core {
			end.Reason += ", core dumped"
		}
	default:
		end.Reason = fmt.Sprintf("%s exited with code %d", who, r.Code)
	}
	c.stop(g, end, failureGrace)
}

func exitCode(r *fb.RankStateT) int32 {
	if r.Signal != 0 {
		return 128 + r.Signal
	}
	return r.Code
}

// startCode is the shell's: 127 when the program isn't there, 126 when it can't be run.
func startCode(r *fb.RankStateT) int32 {
	text := strings.ToLower(r.Error)
	switch {
	case r.Code != 0:
		return r.Code
	case strings.Contains(text, "permission denied"), strings.Contains(text, "exec format"), strings.Contains(text, "not executable"), strings.Contains(text, "is a directory"):
		return codeNotExec
	}
	return codeNotFound
}

// inUse is how programs say that an address is in use.
var inUse = regexp.MustCompile(`EADDRINUSE|(?i:address already in use)`)

// aPort is a port as programs write it: "port 29500", "port: 29500", ('::', 29500), or behind an address.
// Neither a time (12:30:59) nor a place in a source file (socket.cpp:1036) is one.
var aPort = regexp.MustCompile(`(?i)(?:(?:\b|_)port\W{0,3}|['"], ?)(\d{2,5})\b|(?:^|[^\w.-])(?:[\w-]*|[\d.]+):(\d{4,5})\b`)

// portInUse tells whether last words say that port is in use: a line that says so of an address and names
// this port or none. A program may listen on others, and may find those in use.
func portInUse(tail string, port uint16) bool {
	for line := range strings.Lines(tail) {
		if !inUse.MatchString(line) {
			continue
		}
		named := aPort.FindAllStringSubmatch(line, -1)
		if named == nil || slices.ContainsFunc(named, func(m []string) bool { return m[1]+m[2] == strconv.Itoa(int(port)) }) {
			return true
		}
	}
	return false
}

// stop begins the end of an incarnation: TERM now, KILL to all that is left after grace. Where
// nothing was started yet it is the end at once.
func (c *Core) stop(g *group, end *fb.GroupEndT, grace int64) {
	if g.master == "" {
		c.finish(g, end)
		return
	}
	due := *end
	due.Wall = c.now + grace // until it has ended, wall is when KILL is due
	if !c.phase(g, fb.GroupPhaseStopping, &due) {
		return
	}
	for _, p := range g.places {
		c.stopRanks(g, p)
	}
	c.tell(g)
	c.advance(g)
}

// stopRanks tells one agent to end its ranks by the time that was decided. It may be told again.
func (c *Core) stopRanks(g *group, p *place) {
	if p.allDone(g) {
		return
	}
	grace := max(0, g.end.Wall-c.now)
	signal := int32(sigTERM)
	if grace == 0 {
		signal = sigKILL
	}
	c.send(p.agent, &fb.RankStopT{Group: wireTask(g.id), Incarnation: g.incarnation, Signal: signal, Grace: grace})
}

// advance goes on with a gang whose ranks moved.
func (c *Core) advance(g *group) {
	switch {
	case g.phase == fb.GroupPhaseStopping:
		if g.master == "" || g.allDone() {
			c.finish(g, g.end)
		}
	case g.phase != fb.GroupPhaseStarting && g.phase != fb.GroupPhaseRunning:
	case g.allDone():
		c.finish(g, c.ending(0, causeOK, ""))
	case g.phase == fb.GroupPhaseStarting:
		for r := range g.ranks {
			if !g.run.running[r] && !g.ranks[r].done {
				return
			}
		}
		if c.phase(g, fb.GroupPhaseRunning, nil) {
			c.tell(g)
		}
	}
}

// nodeLost ends what had a share on a node that died, unless all ranks there were over.
func (c *Core) nodeLost(g *group, agent id.Agent, n *node) {
	at := slices.IndexFunc(g.places, func(p *place) bool { return p.agent == agent && p.lost })
	if at < 0 {
		return
	}
	switch g.phase {
	case fb.GroupPhaseReserving, fb.GroupPhaseCreated:
		c.finish(g, c.lostEnd(g, n.name, n.why))
	case fb.GroupPhaseStarting, fb.GroupPhaseRunning:
		if g.places[at].ended(g) {
			c.advance(g)
			return
		}
		c.stop(g, c.lostEnd(g, n.name, n.why), failureGrace)
	case fb.GroupPhaseStopping:
		c.advance(g)
	}
}

// reconcile compares what an agent holds with what it should, and tells it the difference. Nothing
// that it says is lost: a rank's end that it tells here counts as one told at any other time.
func (c *Core) reconcile(m *member, held []*fb.BundleReservedT, ranks []*fb.RankStateT) {
	for _, h := range held {
		g := c.state.byID[taskOf(h.Group)]
		if g == nil || g.incarnation != h.Incarnation || g.placeAt(m.number) == nil {
			c.send(m.number, &fb.RankStopT{Group: h.Group, Incarnation: h.Incarnation, Signal: sigKILL})
			c.send(m.number, &fb.BundleReleaseT{Group: h.Group, Incarnation: h.Incarnation})
			continue
		}
		c.reserved(m, h)
	}
	for _, r := range ranks {
		c.rankState(m, r)
	}
	for _, g := range slices.Clone(c.state.groups) {
		p := g.placeAt(m.number)
		if p == nil {
			continue
		}
		// An agent that restarted knows its programs from the keeper, but no bundles.
		if !holds(held, g) && g.phase != fb.GroupPhaseStopping && (g.master == "" || !p.allDone(g)) {
			p.run.reserved = false
			c.reserve(g, p, false)
		}
		switch g.phase {
		case fb.GroupPhaseStarting:
			c.startRanks(g, p, ranks)
		case fb.GroupPhaseRunning:
			c.gone(g, p, m, ranks)
		case fb.GroupPhaseStopping:
			c.stopRanks(g, p)
			c.gone(g, p, m, ranks)
		}
	}
}

func holds(held []*fb.BundleReservedT, g *group) bool {
	return slices.ContainsFunc(held, func(h *fb.BundleReservedT) bool {
		return h.Incarnation == g.incarnation && h.Error == "" && taskOf(h.Group) == g.id
	})
}

func mentions(ranks []*fb.RankStateT, g *group, rank uint32) bool {
	return slices.ContainsFunc(ranks, func(r *fb.RankStateT) bool {
		return r.Rank == rank && r.Incarnation == g.incarnation && taskOf(r.Group) == g.id
	})
}

// gone handles ranks that should run and that their agent knows nothing of: they ended unseen.
func (c *Core) gone(g *group, p *place, m *member, ranks []*fb.RankStateT) {
	incarnation := g.incarnation
	for r := p.first; r < p.first+p.ranks; r++ {
		if g.incarnation != incarnation || len(g.ranks) == 0 {
			return // the one before ended it
		}
		if g.ranks[r].done || mentions(ranks, g, r) {
			continue
		}
		c.rankState(m, &fb.RankStateT{Group: wireTask(g.id), Incarnation: incarnation, Rank: r, Phase: fb.RankPhaseEnded,
			Signal: sigKILL, ByUs: true, Wall: c.now})
	}
}
