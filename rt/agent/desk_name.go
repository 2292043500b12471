package agent

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// askFind and what is above it are the numbers of questions for names.
const askFind = 1 << 32

// claimName asks the head for an actor's name, with what it takes to make the actor at another node if that can be.
func (d *desk) claimName(ctx context.Context, e *work.Effect) {
	n := e.Name
	m := &fb.NameClaimT{Actor: taskT(e.Group), Namespace_: n.Namespace, Name: n.Name, Detached: n.Detached, Restarts: n.Restarts, MaxRestarts: n.MaxRestarts}
	if j := d.jobOf(n.Job); j != nil && len(n.Spec) > 0 {
		m.Spec, m.JobName, m.Language, m.JobConfig = slices.Clone(n.Spec), j.name, j.language, j.text
	}
	d.ask(ctx, d.process, m, 0, nil)
}

// adopt makes an actor whose agent is dead, because the head says so; on the loop.
func (d *desk) adopt(ctx context.Context, m *fb.NameAdoptT) {
	if m.Claim == nil {
		return
	}
	d.open(ctx)
	number := d.l.number()
	d.post(mail{do: func() {
		if d.core == nil && d.over == "" {
			d.waiting = append(d.waiting, func() { d.adopted(ctx, number, m.Claim) })
			return
		}
		d.adopted(ctx, number, m.Claim)
	}})
}

func (d *desk) adopted(ctx context.Context, number uint32, m *fb.NameClaimT) {
	if d.over != "" {
		return
	}
	j, why := d.newJob(ctx, number, m.JobName, m.Language, m.JobConfig, nil)
	if j == nil {
		d.l.log.Error("a detached actor can't be made again here", "name", m.Name, "error", why)
		d.ask(ctx, d.process, &fb.NameFreeT{Actor: m.Actor}, 0, nil)
		return
	}
	j.drivers, j.over = 0, true
	d.l.log.Info("a detached actor is made again here: its agent is dead", "name", m.Name, "namespace", m.Namespace_)
	d.brings(work.Adopt{Actor: taskOf(m.Actor), Job: number, Spec: m.Spec, Restarts: m.Restarts})
	d.later(ctx)
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
	if number >= askRoom { // it is no name's
		d.toldRoom(number, m, payload)
		return
	}
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
