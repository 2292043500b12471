package work

import (
	"encoding/json"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// askHost asks another agent what a task or an actor waits for that it has; false: none has it.
func (c *Core) askHost(p *process, ref string, corr uint64, e jsonExplain) bool {
	name, _, _ := strings.Cut(ref, "[")
	t, err := id.ParseTask(name)
	entry := c.entries[t]
	if err != nil || entry == nil {
		return false
	}
	var w *worker
	switch {
	case entry.task != nil:
		w = entry.task.worker
	case entry.actor != nil:
		w = entry.actor.worker
	}
	if w == nil || w.host == nil || w.process == nil || w.process.gone || entry.actor != nil && entry.actor.proxy {
		return false
	}
	c.askProcess(w.process, asker{of: p, corr: corr, what: "explain", ref: name})
	c.asked[len(c.asked)-1].explain = &e
	return true
}

// explained answers with what is known here of a task that another agent has, and what that says of it.
func (c *Core) explained(q question, fault string, payload []byte) {
	if q.of.gone {
		return
	}
	e, there := *q.explain, jsonReply{}
	switch err := json.Unmarshal(payload, &there); {
	case fault != "":
		e.Text += ", which does not say what it waits for there: " + fault
	case err == nil && there.Explain != nil && there.Explain.Why != "":
		e.Why += ", where it waits for " + there.Explain.Why
		e.Text += ", where it waits for " + there.Explain.Why
	}
	c.reply(q.of, q.corr, jsonReply{Explain: &e}, nil)
}
