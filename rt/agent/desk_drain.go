package agent

import (
	"context"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// drains takes in that a node is being drained, or not any more; on the loop. The core hears of it behind which other nodes there are, since what is to be
// moved away has to have somewhere to go.
func (d *desk) drains(ctx context.Context, m *fb.NodeDrainT) {
	open := d.process != 0
	d.post(mail{do: func() {
		d.drained = append(d.drained, work.Drain{Agent: id.Agent(m.Agent), Node: m.Node, Reason: m.Reason, Until: m.Deadline, Undo: m.Undo})
		if open {
			d.ask(ctx, d.process, &fb.StateQueryT{What: "nodes"}, askCount, nil)
		}
	}})
}

// others is how many nodes there are that take something new, without this one.
func (d *desk) others() int {
	if d.going { // it is none of those that are up
		return d.up
	}
	return d.up - 1
}

// tellDrains tells the core what it is to know of nodes that are being drained.
func (d *desk) tellDrains() {
	if d.core == nil {
		return
	}
	for _, e := range d.drained {
		if uint32(e.Agent) == d.agent {
			d.going = !e.Undo
			d.stake.again = 0
		}
		d.brings(e)
	}
	if len(d.drained) > 0 {
		clear(d.lentDue)
	}
	d.drained = nil
}
