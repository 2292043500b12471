package agent

import (
	"context"
	"encoding/json"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// askFind and what is above it are the numbers of questions for names.
const askFind = 1 << 32

// claimName asks the head for an actor's name.
func (d *desk) claimName(ctx context.Context, e *work.Effect) {
	d.ask(ctx, d.process, &fb.NameClaimT{Actor: taskT(e.Group), Namespace_: e.Code, Name: e.Text, Detached: e.Key == 1}, 0, nil)
}

// toldClaim takes the head's answer.
func (d *desk) toldClaim(m *fb.NameClaimedT) {
	d.brings(work.Named{Actor: taskOf(m.Actor), Holder: taskOf(m.Holder), Agent: id.Agent(m.Agent), Node: m.Node, Why: m.Error})
}

// findName asks the head whose a name is.
func (d *desk) findName(ctx context.Context, e *work.Effect) {
	d.ask(ctx, d.process, &fb.StateQueryT{What: "names", Id: e.Text}, askFind+e.Key, nil)
}

// toldFound takes the head's answer.
func (d *desk) toldFound(number uint64, m *fb.StateReplyT, payload []byte) {
	ev := work.Found{Key: number - askFind, Why: m.Error}
	var reply struct {
		Names []struct {
			Actor string `json:"actor"`
			Agent uint32 `json:"agent"`
			Node  string `json:"node"`
		} `json:"names"`
	}
	if ev.Why == "" {
		if err := json.Unmarshal(payload, &reply); err != nil {
			ev.Why = "what the head says of it can't be read: " + err.Error()
		}
	}
	for _, n := range reply.Names {
		actor, err := id.ParseTask(n.Actor)
		if err != nil {
			ev.Why = "what the head says of it can't be read: " + err.Error()
			break
		}
		ev.Actor, ev.Agent, ev.Node = actor, id.Agent(n.Agent), n.Node
		d.nodes[n.Agent] = n.Node
	}
	d.brings(ev)
}
