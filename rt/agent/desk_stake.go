package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// stake is what of the node the head's ledger has given to tasks that belong to no group: bare groups of
// one bundle on this node, each a part of what was free when it was asked for. So tasks and gangs never have the
// same CPU, and `explain` names whoever holds it. Parts that are not used go back one by one.
type stake struct {
	parts  []*part
	asking bool // a question to the head is out
	eager  bool // a driver came: ask before it has tasks
	all    bool // the question was for all, not only for what tasks lack
	wanted bool // a process has made a group: what is not used goes back at once
	again  int64
	every  time.Duration
	idle   int64 // since when parts are not used
	asked  int
	wish   []*fb.ResourceT // what the next pieces are made of

	idleCards int // parts with devices that were not used at the last question

	changed bool               // the core has to hear what its tasks may use now;
	taken   bool               // what is missing may be another's already
	total   map[string]float64 // what the node has
}

// part is one of the groups.
type part struct {
	group   id.Task
	create  *fb.GroupCreateT
	bundle  *fb.BundlePlaceT // nil: not yet placed
	gone    bool             // given back
	said    int64            // when the head was asked for it, or to take it back
	cutAt   int64            // when a piece of it was made last
	line    bool             // it waits for what others have
	unsure  bool             // it was made of another part, and the head has not said that it knows
	heir    *part            // gone: this one is made of it before it goes back
	splitAt int64            // it is not split before, since the head could not take that in
	recalled
}

// What the desk asks the head, by the number of the question.
const (
	askFree   = 1
	askGroups = 2
	askName   = 3
	askCount  = 4 // how many nodes there are
)

const (
	cpuParts   = 8                       // the CPUs of a node come in so many parts at most
	stakeIdle  = int64(3 * time.Second)  // an unused part goes back
	stakeWait  = 10 * time.Second        // when a part was not placed for so long, it is asked anew what is free
	stakeAgain = 500 * time.Millisecond  // tasks that wait have the head asked so often at first,
	stakeMost  = 5 * time.Second         // and so often when that was of no use
	stakeSaid  = int64(30 * time.Second) // without an answer for so long the head is told again
)

// settleStake asks for more of the node when tasks wait, and gives back what none needs.
func (d *desk) settleStake(ctx context.Context) int64 {
	s, now := &d.stake, d.l.now()
	wants := d.core.Wants()
	d.wants = wants
	lacking := s.lacking(wants)
	d.settleRecalled(ctx, lacking)
	pending := s.asking || slices.ContainsFunc(s.parts, func(p *part) bool { return p.bundle == nil && !p.gone && !p.line })
	next := never
	for _, p := range s.parts {
		if p.bundle != nil && !p.gone && !p.unsure {
			if due := p.cutAt + stakeIdle; p.cutAt != 0 && now < due {
				next = min(next, due)
			}
			if now < p.splitAt {
				next = min(next, p.splitAt)
			}
			continue
		}
		if now >= p.said+stakeSaid {
			d.sayPart(ctx, p)
		}
		next = min(next, p.said+stakeSaid)
	}
	switch {
	case len(lacking) == 0 && !s.eager:
		s.every = 0
	case pending || d.over != "" || d.going:
	case now < s.again && !s.eager && !s.newlyIdle(wants, lacking):
		next = min(next, s.again)
	default:
		s.asking, s.all, s.eager = true, s.eager, false
		s.every = min(max(2*s.every, stakeAgain), stakeMost)
		s.again = now + int64(s.every)
		d.ask(ctx, d.process, &fb.StateQueryT{What: "nodes"}, askFree, nil)
		return next
	}
	if s.wanted { // a group has to wait for tasks that run, not for those that gather what they need
		lacking = nil
	}
	spare := s.spare(wants, lacking, now)
	switch {
	case len(spare) == 0:
		s.idle, s.wanted = 0, s.wanted && pending
		return next
	case s.idle == 0:
		s.idle = now
		if !slices.ContainsFunc(spare, func(p *part) bool { return p.cutAt == 0 }) { // pieces kept them for so long
			s.idle -= stakeIdle
		}
	}
	if due := s.idle + stakeIdle; now < due && !s.wanted {
		return min(next, due)
	}
	s.idle, s.wanted = 0, pending
	if len(wants.Hungry) == 0 {
		s.again = 0
	}
	d.giveBack(ctx, spare)
	return next
}

// giveBack gives parts back.
func (d *desk) giveBack(ctx context.Context, parts []*part) {
	for _, p := range parts {
		p.gone = true
	}
	d.stake.changed = true
	d.later(ctx) // before they go back, so that nothing starts on them meanwhile
	d.tellPieces(ctx, d.l.now())
	for _, p := range parts {
		d.sayPart(ctx, p)
	}
}

// sayPart asks the head for a part, or to take it back.
func (d *desk) sayPart(ctx context.Context, p *part) {
	p.said = d.l.now()
	if p.heir != nil {
		return
	}
	if p.gone {
		d.ask(ctx, d.process, &fb.GroupCancelT{Group: taskT(p.group), Mode: fb.CancelModeStop, Reason: p.why()}, 0, nil)
		return
	}
	create := *p.create // the loop's core fills in its owner
	d.ask(ctx, d.process, &create, 0, nil)
}

// lacking gives what tasks wait for, but for those that need more than the node has.
func (s *stake) lacking(w *work.Wants) [][]work.Amount {
	return slices.DeleteFunc(slices.Clone(w.Hungry), func(lease []work.Amount) bool { return !s.could(lease) })
}

// could tells whether the node has enough for a lease, for all that is known.
func (s *stake) could(lease []work.Amount) bool {
	return len(s.total) == 0 || !slices.ContainsFunc(lease, func(a work.Amount) bool { return tenThousandths(s.total[a.Name]) < a.Amount })
}

// stakeName is what the names of an agent's parts begin with.
func (d *desk) stakeName(agent uint32) string {
	return fmt.Sprintf("tasks-%s-%d-", d.node, agent)
}

// toldGroups gives back what the agent before this one had: its tasks are gone, and nobody else will.
func (d *desk) toldGroups(ctx context.Context, payload []byte) {
	var reply struct {
		Groups []struct {
			ID    string `json:"id"`
			Name  string `json:"name"`
			Phase string `json:"phase"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(payload, &reply); err != nil {
		d.l.log.Warn("the head does not say which groups there are", "error", err)
	}
	for _, g := range reply.Groups {
		group, err := id.ParseTask(g.ID)
		before := d.l.core.cfg.Previous // the name alone may be that of a node a-1 to a
		if err == nil && g.Phase != "ended" && uint32(group.Agent) == before && strings.HasPrefix(g.Name, d.stakeName(before)) {
			d.ask(ctx, d.process, &fb.GroupCancelT{Group: taskT(group), Mode: fb.CancelModeStop, Reason: "the agent that had it was killed"}, 0, nil)
		}
	}
}

// spare gives the parts without which what is used is still there, and what tasks gather to start; but for those that
// pieces were made of a moment ago.
func (s *stake) spare(w *work.Wants, lacking [][]work.Amount, now int64) (out []*part) {
	have := s.left(w, lacking)
	for i := len(s.parts) - 1; i >= 0; i-- {
		p := s.parts[i]
		if p.bundle != nil && !p.gone && (p.cutAt == 0 || now >= p.cutAt+stakeIdle) && p.without(have) {
			out = append(out, p)
		}
	}
	return out
}

// left is what of all parts is neither used nor lacking.
func (s *stake) left(w *work.Wants, lacking [][]work.Amount) []*fb.ResourceT {
	var have []*fb.ResourceT
	for _, p := range s.parts {
		if p.bundle != nil && !p.gone {
			for _, r := range p.counts() {
				have = add(have, r.Name, r.Amount)
			}
		}
	}
	for _, u := range w.Used {
		have = add(have, u.Name, -u.Amount)
	}
	for _, u := range w.Devices {
		have = add(have, deviceCount+u.Device, -u.Amount)
		have = add(have, s.kindOf(u.Device), -u.Amount)
	}
	for _, lease := range lacking {
		for _, a := range lease {
			if a.Name == placement.GPU && a.Amount < whole {
				a.Name = partsCount
			}
			have = add(have, a.Name, -a.Amount)
		}
	}
	return have
}

func amountOf(list []*fb.ResourceT, name string) int64 {
	for _, r := range list {
		if r.Name == name {
			return r.Amount
		}
	}
	return 0
}

func amountIn(list []work.Amount, name string) int64 {
	for _, a := range list {
		if a.Name == name {
			return a.Amount
		}
	}
	return 0
}

func add(list []*fb.ResourceT, name string, amount int64) []*fb.ResourceT {
	for _, r := range list {
		if r.Name == name {
			r.Amount += amount
			return list
		}
	}
	return append(list, &fb.ResourceT{Name: name, Amount: amount})
}

// jsonNode is what the head says of a node.
type jsonNode struct {
	Name    string             `json:"name"`
	Agent   uint32             `json:"agent"`
	State   string             `json:"state"`
	Total   map[string]float64 `json:"total"`
	Free    map[string]float64 `json:"free"`
	Lent    map[string]float64 `json:"lent"`
	Devices []jsonDevice       `json:"devices"`
}

// nodeOf finds this node in what the head says of all; nil: it is not there.
func (d *desk) nodeOf(payload []byte) *jsonNode {
	var reply struct {
		Nodes []*jsonNode `json:"nodes"`
	}
	if err := json.Unmarshal(payload, &reply); err != nil {
		return nil
	}
	var nodes work.Nodes
	for _, n := range reply.Nodes {
		if n == nil || n.State != "up" {
			continue
		}
		d.nodes[n.Agent] = n.Name
		if nodes.N++; n.Agent == d.agent {
			continue
		}
		var has []work.Amount
		for _, name := range slices.Sorted(maps.Keys(n.Total)) {
			has = append(has, work.Amount{Name: name, Amount: tenThousandths(n.Total[name])})
		}
		nodes.Others = append(nodes.Others, has)
	}
	if text := fmt.Sprint(nodes); text != d.upText {
		d.up, d.upText = nodes.N, text
		d.brings(nodes)
	}
	if i := slices.IndexFunc(reply.Nodes, func(n *jsonNode) bool { return n != nil && n.Agent == d.agent }); i >= 0 {
		return reply.Nodes[i]
	}
	return nil
}

// toldFree asks for what the head says is free here.
func (d *desk) toldFree(ctx context.Context, m *fb.StateReplyT, payload []byte) {
	s := &d.stake
	s.asking = false
	n := d.nodeOf(payload)
	if n == nil || n.Free == nil {
		d.l.log.Warn("the head does not say what is free here", "reply", m.Error)
		return
	}
	s.changed = s.changed || !maps.Equal(s.total, n.Total)
	s.total = n.Total
	lacking := s.lacking(d.core.Wants())
	if d.over != "" || d.going || len(lacking) == 0 && !s.all {
		return
	}
	var free []*fb.ResourceT
	var cards cardPlan
	if len(n.Devices) > 0 {
		delete(n.Free, placement.GPU)
		cards = s.planCards(d.core.Wants(), lacking, n.Devices)
		d.giveBack(ctx, cards.back)
	}
	for name, x := range n.Free {
		free = append(free, &fb.ResourceT{Name: name, Amount: tenThousandths(x)})
	}
	slices.SortFunc(free, func(a, b *fb.ResourceT) int { return cmp.Compare(a.Name, b.Name) })
	parts := divide(slices.DeleteFunc(free, func(r *fb.ResourceT) bool {
		return !s.all && !slices.ContainsFunc(lacking, func(lease []work.Amount) bool { return amountIn(lease, r.Name) > 0 })
	}))
	for _, amount := range cards.ask {
		parts = append(parts, []*fb.ResourceT{{Name: placement.GPU, Amount: amount}})
	}
	for _, resources := range parts {
		d.askPart(ctx, resources, stakeWait)
	}
	if len(parts) == 0 {
		d.standInLine(ctx, n, lacking)
	}
}

// askPart asks the head for a part, for which it may look for so long.
func (d *desk) askPart(ctx context.Context, resources []*fb.ResourceT, wait time.Duration) *part {
	p := d.newPart(resources, wait)
	d.sayPart(ctx, p)
	return p
}

// newPart is one of which the head has not heard.
func (d *desk) newPart(resources []*fb.ResourceT, wait time.Duration) *part {
	d.stake.asked++
	p := &part{group: d.mint()}
	p.create = &fb.GroupCreateT{
		Group: taskT(p.group), Lease: true, Name: d.stakeName(d.agent) + strconv.Itoa(d.stake.asked), Strategy: fb.StrategyStrictPack, Wait: int64(wait),
		Bundles: []*fb.BundleT{{Resources: resources, Labels: []*fb.LabelT{{Key: placement.LabelNode, Value: d.node}}}},
	}
	d.stake.parts = append(d.stake.parts, p)
	return p
}

// whole is one CPU or one GPU.
const whole = 10_000

// divide makes parts of what is free: some of the CPUs each, one for each GPU, and one each for memory and the like.
func divide(free []*fb.ResourceT) (parts [][]*fb.ResourceT) {
	for _, r := range free {
		switch n := r.Amount / whole; {
		case r.Amount <= 0:
		case strings.HasPrefix(r.Name, "accelerator_type:"): // a task takes a thousandth: the rest is for groups, and others
			parts = append(parts, []*fb.ResourceT{{Name: r.Name, Amount: min(r.Amount, whole/10)}})
		case r.Name == placement.CPU:
			for k := range min(n, cpuParts) {
				parts = append(parts, []*fb.ResourceT{{Name: r.Name, Amount: ((k+1)*n/min(n, cpuParts) - k*n/min(n, cpuParts)) * whole}})
			}
		case r.Name == "GPU":
			for range n {
				parts = append(parts, []*fb.ResourceT{{Name: r.Name, Amount: whole}})
			}
		default:
			parts = append(parts, []*fb.ResourceT{r})
		}
	}
	return parts
}

// inLine is a lease with whole CPUs and GPUs, or a part of one GPU.
func inLine(lease []work.Amount) (out []*fb.ResourceT) {
	for _, a := range lease {
		switch {
		case a.Name == placement.GPU && a.Amount < whole:
			a.Amount = cutOf(a.Amount)
		case a.Name == placement.CPU || a.Name == placement.GPU:
			a.Amount = (a.Amount + whole - 1) / whole * whole
		}
		out = append(out, &fb.ResourceT{Name: a.Name, Amount: a.Amount})
	}
	return out
}

// tenThousandths is exact for whole numbers of any size.
func tenThousandths(x float64) int64 {
	n := int64(x)
	return n*whole + int64((x-float64(n))*whole+0.5)
}

// toldStake takes the state of one of the stake's groups; false: it is none.
func (d *desk) toldStake(u *fb.GroupUpdateT, bundles []*fb.BundlePlaceT) bool {
	s := &d.stake
	group := taskOf(u.Group)
	i := slices.IndexFunc(s.parts, func(p *part) bool { return p.group == group })
	if i < 0 {
		return false
	}
	p := s.parts[i]
	switch u.Phase {
	case fb.GroupPhaseCreated:
		if len(bundles) > 0 && !p.gone && p.bundle == nil { // said again, it may lack what was cut off since
			b := *bundles[0]
			b.Resources = slices.Clone(b.Resources)
			for i, r := range b.Resources {
				b.Resources[i] = &fb.ResourceT{Name: r.Name, Amount: r.Amount}
			}
			p.bundle, s.every = &b, 0
			s.changed = true
			if p.line { // there may be more
				s.again = 0
			}
		}
		s.changed = p.recall(u) || s.changed
		s.inherited(p)
	case fb.GroupPhaseEnded:
		if d.unsplit(p, u) {
			return true
		}
		s.inherited(p)
		s.parts = slices.Delete(s.parts, i, i+1)
		for _, x := range slices.Clone(d.pieces) {
			if x.part == p {
				d.endPiece(x.group, "the share of the node that it was made of was taken back")
			}
		}
		if !p.gone && p.bundle != nil {
			d.l.log.Info("a part of the node is not this agent's any more", "group", group)
			s.changed, s.taken = true, s.taken || u.End == nil || u.End.Cause != "drained" // who drains gives it to nobody
		}
	}
	return true
}

// grant is what of the node tasks may use now.
func (s *stake) grant() work.Grant {
	total := []*fb.ResourceT{{Name: placement.CPU}}
	var kept []*fb.ResourceT
	g := work.Grant{Taken: s.taken}
	for _, p := range s.parts {
		if p.bundle == nil || p.gone {
			continue
		}
		if p.how == fb.LeaseRecallNow {
			for _, r := range p.bundle.Resources {
				kept = add(kept, r.Name, r.Amount)
			}
			continue
		}
		p.addCards(&g)
		for _, r := range p.bundle.Resources {
			total = add(total, r.Name, r.Amount)
		}
	}
	g.Resources, g.Kept = amounts(total), amounts(kept)
	for name, x := range s.total {
		g.Node = append(g.Node, work.Amount{Name: name, Amount: tenThousandths(x)})
	}
	slices.SortFunc(g.Node, func(a, b work.Amount) int { return cmp.Compare(a.Name, b.Name) })
	s.changed, s.taken = false, false
	return g
}

// amounts are resources as the work core has them.
func amounts(list []*fb.ResourceT) []work.Amount {
	out := make([]work.Amount, 0, len(list))
	for _, r := range list {
		out = append(out, work.Amount{Name: r.Name, Amount: r.Amount})
	}
	return out
}
