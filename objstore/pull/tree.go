package pull

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const (
	fan      = 2    // to how many an agent gives a value, as far as trees decide
	maxTrees = 1024 // of the last values that were asked for
)

// tree is who gets a value that lies here from whom.
type tree struct {
	object   id.Object
	children int // of this agent's own
	nodes    []node
}

// node is an agent that asked.
type node struct {
	agent    uint32
	parent   int // among the nodes; -1: this agent itself
	children int
	bad      bool // nobody else is sent to it
}

// asked answers who wants a value that lies here. One that asks once more gets it from here: whoever was sent to it meanwhile may
// wait for it.
func (c *Core) asked(ev Asked) {
	i := slices.IndexFunc(c.trees, func(t *tree) bool { return t.object == ev.Object })
	if i < 0 {
		if len(c.trees) == maxTrees {
			c.trees = slices.Delete(c.trees, 0, 1)
		}
		i = len(c.trees)
		c.trees = append(c.trees, &tree{object: ev.Object})
	}
	t, source := c.trees[i], c.cfg.Agent
	if at := slices.IndexFunc(t.nodes, func(n node) bool { return n.agent == ev.Agent }); at >= 0 {
		if p := t.nodes[at].parent; ev.Again && p >= 0 {
			t.nodes[p].bad = true
		}
		t.nodes[at].parent = -1
	} else if parent := t.room(); parent >= 0 && !ev.Again {
		t.nodes[parent].children++
		source = t.nodes[parent].agent
		t.nodes = append(t.nodes, node{agent: ev.Agent, parent: parent})
	} else {
		t.children++
		t.nodes = append(t.nodes, node{agent: ev.Agent, parent: -1})
	}
	c.emit(TellSource{Agent: ev.Agent, Source: source, Object: ev.Object})
}

// room finds the first node that may be a parent; -1: this agent gives the value itself.
func (t *tree) room() int {
	if t.children < fan {
		return -1
	}
	return slices.IndexFunc(t.nodes, func(n node) bool { return !n.bad && n.children < fan })
}

func (t *tree) lost(agent uint32) {
	for i := range t.nodes {
		if t.nodes[i].agent == agent {
			t.nodes[i].bad = true
		}
	}
}

// coming gives the fetch of an object that goes on.
func (c *Core) coming(o id.Object) *fetch {
	for _, f := range c.fetches {
		if f.object == o && !f.over && !f.part {
			return f
		}
	}
	return nil
}

// serveWaits gives those who wait what has come.
func (c *Core) serveWaits() {
	c.waits = slices.DeleteFunc(c.waits, func(w wait) bool {
		f := c.coming(w.Object)
		if f == nil || !f.has(span{w.Offset, w.Offset + w.Size}) {
			return false
		}
		c.emit(Give{Wait: w.Wait, Fetch: f.number, Offset: w.Offset, Size: w.Size, Version: f.version})
		return true
	})
	c.answerWaits(func(w wait) (string, bool) {
		f := c.coming(w.Object)
		return "it has not so many bytes", f != nil && (w.Offset < 0 || w.Size <= 0 || w.Offset > f.size || w.Size > f.size-w.Offset)
	})
}

// has tells whether a range has come.
func (f *fetch) has(s span) bool {
	return slices.ContainsFunc(f.came, func(x span) bool { return x.from <= s.from && s.from < s.to && s.to <= x.to })
}

// answerWaits refuses waits for a reason.
func (c *Core) answerWaits(over func(wait) (why string, is bool)) {
	c.waits = slices.DeleteFunc(c.waits, func(w wait) bool {
		why, is := over(w)
		if is {
			c.emit(Refuse{w.Wait, why})
		}
		return is
	})
}
