package head

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What only agents know the head asks them for when it is asked: it keeps nothing of it.

const (
	gatherWait  = 2 * time.Second // so long an agent may take to answer
	devicesWait = 8 * time.Second // a driver that has to wake up first takes seconds
	maxGathers  = 64              // questions at a time
)

// gather is a question that agents are asked.
type gather struct {
	key   uint64
	what  string // the field of the answers that counts
	asker id.Agent
	corr  uint64
	wait  time.Duration
	nodes []jsonTold
	open  []id.Agent // of which there is no answer, by nodes; 0: it has answered
}

// jsonTold is what a node's agent says of itself.
type jsonTold struct {
	Name    string          `json:"name"`
	Store   json.RawMessage `json:"store,omitempty"`
	Devices json.RawMessage `json:"devices,omitempty"`
	Drivers json.RawMessage `json:"drivers,omitempty"`
	Idle    json.RawMessage `json:"-"`
	From    string          `json:"from,omitempty"` // the node whose bytes Name read
	Ways    json.RawMessage `json:"ways,omitempty"`
	Error   string          `json:"error,omitempty"` // in its stead
}

// answer gives the place of what was asked for.
func (j *jsonTold) answer(what string) *json.RawMessage {
	switch what {
	case "devices":
		return &j.Devices
	case "ways":
		return &j.Ways
	case "drivers":
		return &j.Drivers
	case "idle":
		return &j.Idle
	}
	return &j.Store
}

// gather asks all agents that can answer.
func (c *Core) gather(m *member, what string, corr uint64) {
	g := &gather{what: "store", asker: m.number, corr: corr, wait: gatherWait}
	ask := &fb.StateQueryT{What: "memory"}
	switch what {
	case "devices":
		g.what, g.wait, ask.What = what, devicesWait, what
	case "drivers":
		g.what, ask.What = what, what
	case "free":
		g.what, ask.What = "idle", "idle"
		if len(c.gathers) >= maxGathers/2 { // any number of tasks may look at the nodes
			c.sayFree(g)
			return
		}
	}
	if !c.beginGather(g) {
		return
	}
	for _, n := range c.state.nodes {
		c.gatherFrom(g, n, jsonTold{Name: n.name}, ask)
	}
	c.endGather(g)
}

const (
	maxPairs  = 4096             // of nodes that are measured at a time
	waysWait  = 15 * time.Second // beyond the time of a measurement: connections that don't come, a node that is busy
	maxMillis = 10_000           // that one takes
)

// gatherWays has nodes measure the ways from others to them, all at the same time. What is asked for is {"pairs": [[FROM, TO], ...], "ms": TIME}.
func (c *Core) gatherWays(m *member, question string, corr uint64) {
	var q struct {
		Pairs  [][2]string `json:"pairs"`
		Millis int         `json:"ms"`
	}
	refuse := func(format string, args ...any) {
		c.out = append(c.out, Send{Agent: m.number, Corr: corr, Msg: &fb.StateReplyT{Error: "head: ways: " + fmt.Sprintf(format, args...)}})
	}
	switch err := json.Unmarshal([]byte(question), &q); {
	case err != nil:
		refuse("%v", err)
		return
	case len(q.Pairs) > maxPairs || q.Millis < 0 || q.Millis > maxMillis:
		refuse("%d pairs for %d ms; at most %d go, for %d", len(q.Pairs), q.Millis, maxPairs, maxMillis)
		return
	}
	g := &gather{what: "ways", asker: m.number, corr: corr, wait: waysWait + time.Duration(q.Millis)*time.Millisecond}
	if !c.beginGather(g) {
		return
	}
	seen := map[string]bool{}
	for _, p := range q.Pairs {
		from, to, j := c.nodeNamed(p[0]), c.nodeNamed(p[1]), jsonTold{Name: p[1], From: p[0]}
		if from == nil || to == nil || from == to || from.dead || seen[p[1]] {
			j.Error = "there is no such way: both have to be nodes that are up, and a node can measure one way at a time"
			g.nodes, g.open = append(g.nodes, j), append(g.open, 0)
			continue
		}
		seen[p[1]] = true
		ask, _ := json.Marshal(map[string]any{"agent": uint32(from.agent), "addresses": from.register.Addresses, "ms": q.Millis}) // it has nothing that can't be written
		c.gatherFrom(g, to, j, &fb.StateQueryT{What: "way", Id: string(ask)})
	}
	c.endGather(g)
}

// nodeNamed finds a node; nil: there is none.
func (c *Core) nodeNamed(name string) *node {
	for _, n := range c.state.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// beginGather numbers a question, if there is room for it.
func (c *Core) beginGather(g *gather) bool {
	if len(c.gathers) >= maxGathers {
		c.out = append(c.out, Send{Agent: g.asker, Corr: g.corr, Msg: &fb.StateReplyT{Error: "head: too many such questions are open; ask again later"}})
		return false
	}
	c.gathered++
	g.key = c.gathered
	c.gathers = append(c.gathers, g)
	c.timers.add(c.now+int64(g.wait), timerGather, g.key)
	return true
}

// gatherFrom asks a node's agent, if it can answer. j is what is known of the answer. Who uses a node is asked of one that is being drained, too.
func (c *Core) gatherFrom(g *gather, n *node, j jsonTold, ask *fb.StateQueryT) {
	at := n.agent
	if node := c.jsonNode(n); node.State != "up" && (node.State != "draining" || g.what != "drivers") {
		j.Error, at = "it is "+node.State+": "+node.Why, 0
	} else {
		c.out = append(c.out, Send{Agent: at, Msg: ask, Corr: g.key})
	}
	g.nodes, g.open = append(g.nodes, j), append(g.open, at)
}

// told takes an agent's answer.
func (c *Core) told(m *member, r *fb.StateReplyT, corr uint64, payload []byte) {
	for _, g := range c.gathers {
		i := slices.Index(g.open, m.number)
		if g.key != corr || i < 0 {
			continue
		}
		g.open[i] = 0
		var reply map[string]json.RawMessage
		if g.nodes[i].Error = r.Error; r.Error == "" {
			if err := json.Unmarshal(payload, &reply); err != nil {
				g.nodes[i].Error = "its answer can't be read: " + err.Error()
			}
			*g.nodes[i].answer(g.what) = reply[g.what]
		}
		c.endGather(g)
		return
	}
}

// gatherDue answers without those that have not.
func (c *Core) gatherDue(key uint64) {
	for _, g := range c.gathers {
		if g.key != key {
			continue
		}
		for i, at := range g.open {
			if at != 0 {
				g.open[i], g.nodes[i].Error = 0, fmt.Sprintf("its agent has not answered for %v", g.wait)
			}
		}
		c.endGather(g)
		return
	}
}

// endGather answers once nobody is waited for.
func (c *Core) endGather(g *gather) {
	if slices.ContainsFunc(g.open, func(a id.Agent) bool { return a != 0 }) {
		return
	}
	c.gathers = slices.DeleteFunc(c.gathers, func(k *gather) bool { return k == g })
	if g.what == "idle" {
		c.sayFree(g)
		return
	}
	payload, err := json.Marshal(struct {
		Version int        `json:"version"`
		Nodes   []jsonTold `json:"nodes"`
	}{stateVersion, g.nodes})
	reply := &fb.StateReplyT{}
	if err != nil {
		reply.Error = err.Error()
	}
	c.out = append(c.out, Send{Agent: g.asker, Msg: reply, Corr: g.corr, Payload: payload})
}
