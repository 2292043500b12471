package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What this agent has for tasks that belong to no group, parts of its own node and what is lent of others, are leases: the head recalls them when others
// wait (docs/adr/0014). From then on nothing new starts on them. They go back once what runs there has ended, of its own node's parts as many as are
// too many, whichever was recalled; of one that is more than a CPU or a GPU, as all licenses of a node are or its memory, what is used becomes a part of its own, so that the rest
// goes back at once (docs/adr/0051). Until then the head is told what runs there, and whether that is an actor, which may stay for ever.

// recalled is what the head said of a lease.
type recalled struct {
	how  fb.LeaseRecall
	said string // to the head, of what holds it
}

// recall takes in what the head says of a lease; true: nothing new is to start on it from now on.
func (r *recalled) recall(u *fb.GroupUpdateT) bool {
	if u.Recall == fb.LeaseRecallNow {
		r.said = "" // a head that was started again knows nothing of it
	}
	now := u.Recall == fb.LeaseRecallNow && r.how != fb.LeaseRecallNow
	r.how = max(r.how, u.Recall)
	return now
}

// why says why a lease goes back.
func (r *recalled) why() string {
	if r.how == fb.LeaseRecallNone {
		return "no task has used it for a while"
	}
	return "others waited for it"
}

// settleRecalled gives back of this node what was recalled and is not used, and takes its wish for more back when nothing waits for that.
func (d *desk) settleRecalled(ctx context.Context, lacking [][]work.Amount) {
	s := &d.stake
	for _, p := range s.parts {
		if p.line && p.bundle == nil && !p.gone && len(lacking) == 0 {
			p.gone = true
			d.sayPart(ctx, p)
		}
	}
	if !slices.ContainsFunc(s.parts, func(p *part) bool { return p.how != fb.LeaseRecallNone && !p.gone }) {
		return
	}
	var free []*part
	if free = s.unused(d.wants, nil, fb.LeaseRecallNow); len(free) == 0 {
		free = s.unused(d.wants, lacking, fb.LeaseRecallIdle)
	}
	if len(free) > 0 {
		d.giveBack(ctx, free)
	} else {
		d.splitRecalled(ctx, lacking)
	}
	stays := s.staying(d.core.Uses(id.Task{}))
	for _, p := range s.parts {
		if p.how == fb.LeaseRecallNow && p.bundle != nil && !p.gone {
			d.sayHeld(ctx, p.group, &p.recalled, func(id.Task) []work.Use { return stays(p) })
		}
	}
}

// unused gives the parts that were recalled so without which what is used, and what tasks gather to start, is still there.
func (s *stake) unused(w *work.Wants, lacking [][]work.Amount, how fb.LeaseRecall) (out []*part) {
	have := s.left(w, lacking)
	for _, p := range s.parts {
		if p.how == how && p.bundle != nil && !p.gone && p.without(have) {
			out = append(out, p)
		}
	}
	return out
}

// splitRecalled gives back of the parts that were recalled what is not used of them.
func (d *desk) splitRecalled(ctx context.Context, lacking [][]work.Amount) {
	for _, p := range slices.Clone(d.stake.parts) {
		if p.how == fb.LeaseRecallNone || p.bundle == nil || p.gone || p.unsure || len(p.bundle.Devices) > 0 || d.l.now() < p.splitAt {
			continue
		}
		wants := lacking
		if p.how == fb.LeaseRecallNow { // nothing starts on it any more
			wants = nil
		}
		if used := p.used(d.stake.left(d.wants, wants)); used != nil {
			d.split(ctx, p, used)
		}
	}
}

// used is what of a part is used, by what is left of all; nil: nothing of it would go back for whose sake it is worth to split it.
func (p *part) used(left []*fb.ResourceT) (used []*fb.ResourceT) {
	rest := false
	for _, r := range p.bundle.Resources {
		n := min(max(r.Amount-amountOf(left, r.Name), 0), r.Amount)
		if r.Name == placement.CPU || r.Name == placement.GPU {
			n = min((n+whole-1)/whole*whole, r.Amount)
		} else {
			rest = rest || n < r.Amount
		}
		if n > 0 {
			used = append(used, &fb.ResourceT{Name: r.Name, Amount: n})
		}
	}
	if !rest {
		return nil
	}
	return used
}

// split makes a part of what is used of another one, which goes back once the head knows of that.
func (d *desk) split(ctx context.Context, p *part, used []*fb.ResourceT) {
	bundle := &fb.BundlePlaceT{}
	for _, r := range used {
		p.take(r, -1)
		bundle.Resources = append(bundle.Resources, &fb.ResourceT{Name: r.Name, Amount: r.Amount})
	}
	p.heir = d.newPart(used, 0) // it has its place, and waits for nothing
	p.heir.create.Part, p.heir.bundle, p.heir.unsure = taskT(p.group), bundle, true
	d.giveBack(ctx, []*part{p}) // which tells of pieces of it first
	d.sayPart(ctx, p.heir)
}

// inherited has a part go back of which another one was made, now that the head has said what became of that.
func (s *stake) inherited(heir *part) {
	heir.unsure = false
	for _, p := range s.parts {
		if p.heir == heir {
			p.heir, p.said = nil, -stakeSaid // it is said in this turn
		}
	}
}

// unsplit makes a part whole again of which the head could not make another one, as it can write nothing down now; false: its word says something else.
func (d *desk) unsplit(heir *part, u *fb.GroupUpdateT) bool {
	s := &d.stake
	i := slices.IndexFunc(s.parts, func(p *part) bool { return p.heir == heir })
	if i < 0 || u.End == nil || u.End.Cause != "start" || u.Incarnation != 0 { // it was never placed
		return false
	}
	p := s.parts[i]
	for _, r := range heir.bundle.Resources {
		p.take(r, 1)
	}
	for _, x := range slices.Concat(d.pieces, d.unsure) {
		if x.part == heir {
			x.part = p
		}
	}
	p.gone, p.heir, p.recalled.said, p.splitAt = false, nil, "", d.l.now()+stakeSaid
	s.parts = slices.DeleteFunc(s.parts, func(o *part) bool { return o == heir })
	s.changed = true
	d.l.log.Info("of a part of the node that others wait for what is not used does not go back yet", "group", p.group, "why", u.End.Reason)
	return true
}

// staying tells of a part that was recalled what runs on it: as parts of one resource are as good as each other, actors are
// counted to those that were not recalled first.
func (s *stake) staying(uses []work.Use) func(*part) []work.Use {
	var over []*fb.ResourceT // what actors have beyond the parts that were not recalled
	for _, u := range uses {
		for _, a := range u.Needs {
			if u.Stays {
				over = add(over, a.Name, a.Amount)
			}
		}
	}
	for _, p := range s.parts {
		if p.bundle != nil && !p.gone && p.how != fb.LeaseRecallNow {
			for _, r := range p.bundle.Resources {
				over = add(over, r.Name, -r.Amount)
			}
		}
	}
	return func(p *part) (out []work.Use) {
		stays := false
		for _, r := range p.bundle.Resources {
			stays = stays || amountOf(over, r.Name) > 0
			over = add(over, r.Name, -r.Amount)
		}
		for _, u := range uses {
			its := slices.ContainsFunc(u.Devices, func(id string) bool { return slices.Contains(p.bundle.Devices, id) })
			if its || len(p.bundle.Devices) == 0 && u.Stays == stays && slices.ContainsFunc(p.bundle.Resources, func(r *fb.ResourceT) bool { return amountIn(u.Needs, r.Name) > 0 }) {
				out = append(out, u)
			}
		}
		return out
	}
}

// sayHeld tells the head what holds a lease that was recalled, when that is something else: what stays, or else what has run for longest.
func (d *desk) sayHeld(ctx context.Context, group id.Task, r *recalled, uses func(id.Task) []work.Use) {
	if r.how != fb.LeaseRecallNow {
		return
	}
	var by work.Use
	for _, u := range uses(group) {
		if by.Name == "" || u.Stays && !by.Stays || u.Stays == by.Stays && u.Since < by.Since {
			by = u
		}
	}
	if said := fmt.Sprint(by.Name, by.Stays); by.Name != "" && said != r.said {
		r.said = said
		d.ask(ctx, d.process, &fb.GroupHeldT{Group: taskT(group), By: by.Name, Since: by.Since, Stays: by.Stays}, 0, nil)
	}
}

// standInLine asks for what tasks lack though none of the node is free: what other agents have of it comes back when they were there for
// long enough, and have more. If nobody else has any by a lease, and this one has none, gangs have all, and one part is asked for.
func (d *desk) standInLine(ctx context.Context, n *jsonNode, lacking [][]work.Amount) {
	s := &d.stake
	if slices.ContainsFunc(s.parts, func(p *part) bool { return p.line && p.bundle == nil && !p.gone }) {
		return
	}
	one := []*fb.ResourceT{{Name: placement.CPU, Amount: whole}}
	if len(lacking) > 0 {
		one = inLine(lacking[0])
	}
	most := int64(max(1, min(d.core.Wants().Tasks, cpuParts)))
	for _, r := range one {
		others := tenThousandths(n.Lent[r.Name])
		for _, p := range s.parts {
			if p.bundle != nil {
				others -= amountOf(p.bundle.Resources, r.Name)
			}
		}
		for _, l := range d.lent {
			for _, b := range l.bundles {
				others -= amountOf(b.Resources, r.Name)
			}
		}
		if r.Amount > 0 {
			most = min(most, others/r.Amount)
		}
	}
	if most <= 0 && !slices.ContainsFunc(s.parts, func(p *part) bool { return !p.gone }) {
		most = 1
	}
	for range most {
		d.askPart(ctx, one, stakeWait).line = true
	}
}
