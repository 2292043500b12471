package agent

import (
	"slices"

	"github.com/maniple-hpc/maniple/rt/internal/alike"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// endedKept is how many ended groups of a client are remembered, for acks of output still on its way.
const endedKept = 64

// client is a process of this node that is attached.
type client struct {
	process  uint32
	name     string
	pid      uint32
	waiting  bool // sent Attach before this agent had a number
	attached bool
}

// claim is a group that a client of this agent made, took over or waits for.
type claim struct {
	group     id.Task
	owner     uint32           // process; 0: none here
	watchers  []uint32         // other processes that want its updates
	create    *fb.GroupCreateT // until the head took it up
	watch     *fb.GroupWatchT  // likewise
	detached  bool
	stdinAll  bool // its input goes to all ranks
	last      *fb.GroupUpdateT
	agents    []uint32 // of each rank, in the incarnation of last
	inputAcks []inputAck
	end       bool
}

// inputAck is how far one of the agents with programs that read input has got.
type inputAck struct {
	agent       uint32
	incarnation uint32
	offset      uint64
}

// query is a question to the head without an answer.
type query struct {
	corr    uint64
	process uint32
	theirs  uint64
	m       Message // StateQuery, NodeDrain
}

// cancel is one that the head may not have taken up.
type cancel struct {
	m  *fb.GroupCancelT
	at int64
}

// relay is what clients asked of the cluster through this agent (AGENT-6).
type relay struct {
	clients []*client // in order of their numbers
	claims  []*claim  // in order of arrival
	byGroup map[id.Task]*claim
	queries []query // in order of corr
	corr    uint64
	cancels []cancel
	names   []claimedName
}

func (r *relay) init() { r.byGroup = map[id.Task]*claim{} }

func (r *relay) client(process uint32) *client {
	i, ok := slices.BinarySearchFunc(r.clients, process, func(c *client, n uint32) int { return int(int64(c.process) - int64(n)) })
	if !ok {
		return nil
	}
	return r.clients[i]
}

func (r *relay) claim(group id.Task) *claim {
	if cl := r.byGroup[group]; cl != nil {
		return cl
	}
	cl := &claim{group: group}
	r.byGroup[group] = cl
	r.claims = append(r.claims, cl)
	return cl
}

func (r *relay) drop(cl *claim) {
	delete(r.byGroup, cl.group)
	if i := slices.Index(r.claims, cl); i >= 0 {
		r.claims = slices.Delete(r.claims, i, i+1)
	}
}

// onClient takes a message of a client; the first one must be Attach.
func (c *Core) onClient(ev FromClient) {
	cl := c.relay.client(ev.Process)
	if m, ok := ev.M.(*fb.AttachT); ok {
		c.attachClient(ev.Process, m)
		return
	}
	if cl == nil || !cl.attached {
		switch ev.M.(type) {
		case *fb.RankOutputAckT, *fb.RankInputT:
			return // said to the agent before this one, as the session began; what counts of it is said again
		}
		c.emit(CloseClient{Process: ev.Process, Reason: "the first message must be Attach"})
		return
	}
	switch m := ev.M.(type) {
	case *fb.StateQueryT, *fb.NodeDrainT:
		c.onQuery(cl, m, ev.Corr)
	case *fb.GroupCreateT:
		c.onCreate(cl, m)
	case *fb.GroupWatchT:
		c.onWatch(cl, m)
	case *fb.GroupCancelT:
		c.onCancel(m)
	case *fb.NameClaimT:
		c.onClaim(cl, m)
	case *fb.NameFreeT:
		c.onFree(m)
	case *fb.GroupHeldT:
		if c.known { // else the head says first what it recalls
			c.toHead(m)
		}
	case *fb.DrainT:
		if c.known {
			c.toHead(c.byHeadsClock(m))
		} else {
			c.askDrain(m)
		}
	case *fb.RankOutputAckT:
		c.forwardOutputAck(cl, m)
	case *fb.RankInputT:
		c.forwardInput(cl, m, ev.Payload)
	}
}

func (c *Core) attachClient(process uint32, m *fb.AttachT) {
	if c.relay.client(process) != nil {
		return
	}
	if c.leaving != nil || c.gone {
		c.toClient(process, &fb.ShutdownT{Reason: "the cluster is being shut down"})
		c.emit(CloseClient{Process: process, Reason: "the cluster is being shut down"})
		return
	}
	cl := &client{process: process, name: m.Name, pid: m.Pid, waiting: true}
	at, _ := slices.BinarySearchFunc(c.relay.clients, process, func(c *client, n uint32) int { return int(int64(c.process) - int64(n)) })
	c.relay.clients = slices.Insert(c.relay.clients, at, cl)
	c.attachWaiting()
}

// attachWaiting answers clients that came before this agent was a member: IDs begin with its number.
func (c *Core) attachWaiting() {
	if !c.told {
		return
	}
	for _, cl := range c.relay.clients {
		if cl.waiting {
			cl.waiting, cl.attached = false, true
			c.toClient(cl.process, &fb.AttachedT{Agent: c.agent, Process: cl.process, Node: c.cfg.Name, Cluster: c.cfg.Cluster})
		}
	}
}

func (c *Core) onQuery(cl *client, m Message, corr uint64) {
	if len(c.relay.queries) >= maxQueries {
		c.emit(ToClient{Process: cl.process, Corr: corr, M: &fb.StateReplyT{Error: "the agent has too many questions open; ask again later"}})
		return
	}
	c.relay.corr++
	c.relay.queries = append(c.relay.queries, query{c.relay.corr, cl.process, corr, m})
	if c.known {
		c.emit(ToHead{M: c.headsQuestion(m), Corr: c.relay.corr})
	}
}

// headsQuestion is a question of a client in the head's time.
func (c *Core) headsQuestion(m Message) Message {
	if d, ok := m.(*fb.NodeDrainT); ok {
		return c.drainByHeadsClock(d)
	}
	return m
}

func (c *Core) onReply(m *fb.StateReplyT, corr uint64, payload []byte) {
	i, ok := slices.BinarySearchFunc(c.relay.queries, corr, func(q query, n uint64) int {
		switch {
		case q.corr < n:
			return -1
		case q.corr > n:
			return 1
		}
		return 0
	})
	if !ok {
		return
	}
	q := c.relay.queries[i]
	c.relay.queries = slices.Delete(c.relay.queries, i, i+1)
	if c.relay.client(q.process) != nil {
		c.emit(ToClient{Process: q.process, Corr: q.theirs, M: m, Payload: payload})
	}
}

func (c *Core) onCreate(cl *client, m *fb.GroupCreateT) {
	group := taskOf(m.Group)
	if group.IsZero() || len(c.relay.claims) >= maxPending {
		why := "the agent has too many groups open; wait until some have ended"
		if group.IsZero() {
			why = "the group has no ID"
		}
		c.toClient(cl.process, &fb.GroupUpdateT{Group: m.Group, Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{
			Code: 75, Cause: "lost", Rank: -1, Reason: why, Wall: c.now}})
		return
	}
	m.OwnerAgent, m.OwnerProcess = c.agent, cl.process
	k := c.relay.claim(group)
	k.owner, k.create, k.detached = cl.process, m, m.Detached
	k.stdinAll = m.Program != nil && m.Program.Stdin == fb.StdinToAll
	if c.known {
		c.toHead(m)
	}
}

func (c *Core) onWatch(cl *client, m *fb.GroupWatchT) {
	group := taskOf(m.Group)
	k := c.relay.claim(group)
	m.OwnerAgent, m.OwnerProcess = c.agent, cl.process
	if m.Owner {
		k.owner = cl.process
	} else if !slices.Contains(k.watchers, cl.process) {
		k.watchers = append(k.watchers, cl.process)
	}
	if k.watch == nil || m.Owner {
		k.watch = m
	}
	if c.known {
		c.toHead(m)
	}
}

func (c *Core) onCancel(m *fb.GroupCancelT) {
	if m.Mode != fb.CancelModeSignal || !c.known { // a signal that was sent must not come twice
		c.relay.cancels = append(c.relay.cancels, cancel{m, c.now})
		if len(c.relay.cancels) > maxPending {
			c.relay.cancels = c.relay.cancels[1:]
		}
	}
	if c.known {
		c.toHead(m)
	}
}

// repeatAsked asks a head that has just taken this agent in for everything that is open.
func (c *Core) repeatAsked() {
	for _, k := range c.relay.claims {
		switch {
		case k.end:
		case k.create != nil:
			c.toHead(k.create)
		case k.watch != nil:
			c.toHead(k.watch)
		default: // not as its owner: claiming it again would send its output again
			p := k.owner
			if p == 0 && len(k.watchers) > 0 {
				p = k.watchers[0]
			}
			c.toHead(&fb.GroupWatchT{Group: taskT(k.group), OwnerAgent: c.agent, OwnerProcess: p})
		}
	}
	c.relay.cancels = slices.DeleteFunc(c.relay.cancels, func(x cancel) bool { return x.at+cancelAge < c.now })
	for _, x := range c.relay.cancels {
		c.toHead(x.m)
	}
	c.relay.cancels = slices.DeleteFunc(c.relay.cancels, func(x cancel) bool { return x.m.Mode == fb.CancelModeSignal })
	for _, q := range c.relay.queries {
		c.emit(ToHead{M: c.headsQuestion(q.m), Corr: q.corr})
	}
}

// onUpdate passes on what became of a group.
func (c *Core) onUpdate(m *fb.GroupUpdateT) {
	group := taskOf(m.Group)
	for _, n := range m.Nodes {
		c.learn(n)
	}
	for _, p := range m.Places {
		p.Bundles = alike.Places(p.Bundles)
	}
	k := c.relay.byGroup[group]
	if k == nil {
		return
	}
	same := k.last != nil && k.last.Incarnation == m.Incarnation
	k.create, k.watch, k.last = nil, nil, m
	if len(m.Ranks) > 0 {
		var moved []uint32
		for _, r := range m.Ranks {
			if a := k.agentOf(r.Rank); same && a != 0 && a != r.Agent && !slices.Contains(moved, r.Agent) {
				moved = append(moved, r.Agent)
			}
		}
		for _, a := range moved {
			c.tellSink(k, a)
		}
		k.agents = k.agents[:0]
		for _, r := range m.Ranks {
			for int(r.Rank) >= len(k.agents) && r.Rank < 1<<20 {
				k.agents = append(k.agents, 0)
			}
			if int(r.Rank) < len(k.agents) {
				k.agents[r.Rank] = r.Agent
			}
		}
	}
	if m.Phase >= fb.GroupPhaseStopping {
		c.relay.cancels = slices.DeleteFunc(c.relay.cancels, func(x cancel) bool { return taskOf(x.m.Group) == group })
	}
	if c.relay.client(k.owner) != nil {
		c.toClient(k.owner, m)
	}
	for _, w := range k.watchers {
		c.toClient(w, m)
	}
	if m.Phase == fb.GroupPhaseEnded {
		k.end = true
		c.trimEnded()
	}
}

// trimEnded forgets the oldest ended groups.
func (c *Core) trimEnded() {
	n := 0
	for i := len(c.relay.claims) - 1; i >= 0; i-- {
		if k := c.relay.claims[i]; k.end {
			if n++; n > endedKept {
				c.relay.drop(k)
			}
		}
	}
}

// onNotice is for the owner of its group, or for every client.
func (c *Core) onNotice(m *fb.NoticeT) {
	if g := taskOf(m.Group); !g.IsZero() {
		if k := c.relay.byGroup[g]; k != nil && c.relay.client(k.owner) != nil {
			c.toClient(k.owner, m)
		}
		return
	}
	for _, cl := range c.relay.clients {
		if cl.attached {
			c.toClient(cl.process, m)
		}
	}
}

// onClientGone: a client that ends without a word takes its groups with it, but for those detached.
func (c *Core) onClientGone(process uint32) {
	cl := c.relay.client(process)
	if cl == nil {
		return
	}
	c.relay.clients = slices.DeleteFunc(c.relay.clients, func(x *client) bool { return x == cl })
	c.relay.queries = slices.DeleteFunc(c.relay.queries, func(q query) bool { return q.process == process })
	for i := len(c.relay.claims) - 1; i >= 0; i-- {
		k := c.relay.claims[i]
		k.watchers = slices.DeleteFunc(k.watchers, func(w uint32) bool { return w == process })
		if k.owner == process {
			k.owner = 0
			if !k.end && !k.detached {
				c.onCancel(&fb.GroupCancelT{Group: taskT(k.group), Mode: fb.CancelModeStop,
					Reason: "its client ended without a word", ExitCode: 137})
			}
		}
		if k.owner == 0 && len(k.watchers) == 0 {
			c.relay.drop(k)
		}
	}
}
