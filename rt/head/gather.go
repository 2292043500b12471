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
	Error   string          `json:"error,omitempty"` // in its stead
}

// answer gives the place of what was asked for.
func (j *jsonTold) answer(what string) *json.RawMessage {
	if what == "devices" {
		return &j.Devices
	}
	return &j.Store
}

// gather asks all agents that can answer.
func (c *Core) gather(m *member, what string, corr uint64) {
	g := &gather{what: "store", asker: m.number, corr: corr, wait: gatherWait}
	ask := &fb.StateQueryT{What: "memory"}
	if what == "devices" {
		g.what, g.wait, ask.What = what, devicesWait, what
	}
	if !c.beginGather(g) {
		return
	}
	for _, n := range c.state.nodes {
		c.gatherFrom(g, n, jsonTold{Name: n.name}, ask)
	}
	c.endGather(g)
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

// gatherFrom asks a node's agent, if it can answer. j is what is known of the answer.
func (c *Core) gatherFrom(g *gather, n *node, j jsonTold, ask *fb.StateQueryT) {
	at := n.agent
	if node := c.jsonNode(n); node.State != "up" {
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
