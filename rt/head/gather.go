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
	gatherWait = 2 * time.Second // so long an agent may take to answer
	maxGathers = 64              // questions at a time
)

// gather is a question that agents are asked.
type gather struct {
	key   uint64
	asker id.Agent
	corr  uint64
	due   int64
	nodes []jsonStored
	open  []id.Agent // of which there is no answer, by nodes; 0: it has answered
}

// jsonStored is what a node's agent says of its memory.
type jsonStored struct {
	Name  string          `json:"name"`
	Store json.RawMessage `json:"store,omitempty"`
	Error string          `json:"error,omitempty"` // in its stead
}

// gather asks all agents that can answer.
func (c *Core) gather(m *member, corr uint64) {
	if len(c.gathers) >= maxGathers {
		c.out = append(c.out, Send{Agent: m.number, Corr: corr, Msg: &fb.StateReplyT{Error: "head: too many such questions are open; ask again later"}})
		return
	}
	c.gathered++
	g := &gather{key: c.gathered, asker: m.number, corr: corr, due: c.now + int64(gatherWait)}
	for _, n := range c.state.nodes {
		j, at := jsonStored{Name: n.name}, n.agent
		if node := c.jsonNode(n); node.State != "up" {
			j.Error, at = "it is "+node.State+": "+node.Why, 0
		} else {
			c.out = append(c.out, Send{Agent: at, Msg: &fb.StateQueryT{What: "memory"}, Corr: g.key})
		}
		g.nodes, g.open = append(g.nodes, j), append(g.open, at)
	}
	c.gathers = append(c.gathers, g)
	c.timers.add(g.due, timerGather, g.key)
	c.endGather(g)
}

// told takes an agent's answer.
func (c *Core) told(m *member, r *fb.StateReplyT, corr uint64, payload []byte) {
	for _, g := range c.gathers {
		i := slices.Index(g.open, m.number)
		if g.key != corr || i < 0 {
			continue
		}
		g.open[i] = 0
		var reply struct {
			Store json.RawMessage `json:"store"`
		}
		if g.nodes[i].Error = r.Error; r.Error == "" {
			if err := json.Unmarshal(payload, &reply); err != nil {
				g.nodes[i].Error = "its answer can't be read: " + err.Error()
			}
			g.nodes[i].Store = reply.Store
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
				g.open[i], g.nodes[i].Error = 0, fmt.Sprintf("its agent has not answered for %v", gatherWait)
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
		Version int          `json:"version"`
		Nodes   []jsonStored `json:"nodes"`
	}{stateVersion, g.nodes})
	reply := &fb.StateReplyT{}
	if err != nil {
		reply.Error = err.Error()
	}
	c.out = append(c.out, Send{Agent: g.asker, Msg: reply, Corr: g.corr, Payload: payload})
}
