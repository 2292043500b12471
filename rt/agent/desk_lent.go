package agent

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// lent is a bare group for tasks that belong to none: of those that found no room on this node, or that are to run on
// certain nodes or on many. Wherever the head places its bundles they are used, here or there, and go back when idle. So
// what tasks have of other nodes is an entry in the head's ledger like any other, and what they wait for its explanation.
type lent struct {
	lentKey
	group   id.Task
	create  *fb.GroupCreateT
	bundles []*fb.BundlePlaceT // here
	home    bool               // what is to be spread fits on this node, too, so no other one is needed
	there   bool
	gone    bool // given back
	said    int64
	idle    int64 // since when nothing runs on it
	recalled
}

// lentKey is what a lent group was asked for: the tasks of a class, where they may be.
type lentKey struct {
	class uint32
	where string
}

const (
	lentAfter  = int64(200 * time.Millisecond) // tasks that may run here wait for so long before other nodes are asked (again)
	lentMost   = 8                             // groups that are asked for at a time, or bundles of a spread one,
	maxBundles = 1000                          // and of one for what needs nothing
	lentWait   = 2 * time.Second               // so long the head may look for a place
	lentKept   = 1000                          // notes on what was asked for are kept before those are looked for that are of no use any more
	lentAgain  = int64(2 * time.Second)        // and is asked again after so long when it found none,
	lentNever  = int64(30 * time.Second)       // or when no node could ever be one, for tasks that have heard so
)

// settleLent asks for room on other nodes, and gives back what is not used.
func (d *desk) settleLent(ctx context.Context) int64 {
	now, next := d.l.now(), never
	wants := d.wants // of this turn
	d.forgetLent(now)
	for _, k := range wants.Away {
		due := d.lentDue[lentKey{k.Class, k.Where}]
		if said := d.lentNever[lentKey{k.Class, k.Where}]; k.Since > said && said != 0 { // to others, that are told
			due = 0
		}
		if k.Where == "" {
			due = max(due, k.Since+lentAfter)
		}
		if k.Where == "" && d.others() < 1 && d.stake.could(k.Lease) {
			continue // there is no other node
		}
		switch {
		case d.over != "" || slices.ContainsFunc(d.lent, func(l *lent) bool { return l.class == k.Class && l.where == k.Where && !l.there && !l.gone }):
		case now < due:
			next = min(next, due)
		default:
			d.borrow(ctx, k)
		}
	}
	for _, l := range slices.Clone(d.lent) {
		switch {
		case l.gone || !l.there:
			if now >= l.said+stakeSaid {
				d.sayLent(ctx, l)
			}
			next = min(next, l.said+stakeSaid)
		case slices.Contains(wants.Lent, l.group):
			l.idle = 0
			d.sayHeld(ctx, l.group, &l.recalled, d.core.Uses)
		case l.idle == 0 && l.how == fb.LeaseRecallNone:
			l.idle = now
			next = min(next, now+stakeIdle)
		case now < l.idle+stakeIdle && !d.stake.wanted && l.how == fb.LeaseRecallNone:
			next = min(next, l.idle+stakeIdle)
		default:
			l.gone = true
			d.takeLent(l)
			d.later(ctx) // before it goes back, so that nothing starts on it meanwhile
			d.sayLent(ctx, l)
			next = min(next, l.said+stakeSaid)
		}
	}
	return next
}

// forgetLent drops what is known of tasks that want nothing of other nodes any more, once nothing of it is to be waited for.
func (d *desk) forgetLent(now int64) {
	if len(d.lentDue)+len(d.lentTight)+len(d.lentNever) <= lentKept {
		return
	}
	kept := map[lentKey]bool{}
	for _, k := range d.wants.Away {
		kept[lentKey{k.Class, k.Where}] = true
	}
	for _, l := range d.lent {
		kept[l.lentKey] = true
	}
	maps.DeleteFunc(d.lentDue, func(k lentKey, due int64) bool { return !kept[k] && due <= now })
	maps.DeleteFunc(d.lentTight, func(k lentKey, _ bool) bool { return !kept[k] && d.lentDue[k] <= now })
	maps.DeleteFunc(d.lentNever, func(k lentKey, _ int64) bool { return !kept[k] && d.lentDue[k] <= now })
}

// borrow asks the head for room for tasks of a class.
func (d *desk) borrow(ctx context.Context, k work.Lack) {
	resources := inLine(k.Lease)
	if len(resources) == 0 { // a bundle has something
		resources = []*fb.ResourceT{{Name: placement.Memory, Amount: whole}}
	}
	var labels []*fb.LabelT
	if k.Shape.Node != "" {
		name := k.Shape.Node
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && d.nodes[uint32(n)] != "" {
			name = d.nodes[uint32(n)]
		}
		labels = append(labels, &fb.LabelT{Key: placement.LabelNode, Value: name})
	}
	for _, l := range k.Shape.Labels {
		if l.Key != "" && l.Key[0] != '?' {
			labels = append(labels, l)
		}
	}
	bundle := &fb.BundleT{Resources: resources, Labels: labels}
	if k.Shape.Strategy == "spread" && d.others() < 1 {
		d.lentDue[lentKey{k.Class, k.Where}] = d.l.now() + lentNever
		return
	}
	groups, bundles, strategy := min(k.Tasks, lentMost), 1, fb.StrategyPack
	if d.lentTight[lentKey{k.Class, k.Where}] { // a single one waits in line
		groups = 1
	}
	if k.Shape.Strategy == "spread" {
		groups, strategy = 1, fb.StrategySpread
		most := lentMost
		if len(k.Lease) == 0 { // what needs nothing may be everywhere
			most = maxBundles
		}
		if !d.lentTight[lentKey{k.Class, k.Where}] { // else what there is, wherever it is
			bundles = min(most, d.others())
		}
		// What there is of this node they use beside it.
		bundle.Labels = append(bundle.Labels, &fb.LabelT{Key: placement.LabelNode, Value: "!" + d.node})
	}
	d.lentDue[lentKey{k.Class, k.Where}] = d.l.now() + lentAgain
	for range groups {
		d.stake.asked++
		l := &lent{lentKey: lentKey{k.Class, k.Where}, group: d.mint(), home: strategy == fb.StrategySpread && d.stake.could(k.Lease)}
		l.create = &fb.GroupCreateT{Group: taskT(l.group), Lease: true, Name: d.stakeName(d.agent) + strconv.Itoa(d.stake.asked), Strategy: strategy, Wait: int64(lentWait)}
		for range bundles {
			l.create.Bundles = append(l.create.Bundles, bundle)
		}
		d.lent = append(d.lent, l)
		d.sayLent(ctx, l)
	}
}

// sayLent asks the head for a group, or to take it back.
func (d *desk) sayLent(ctx context.Context, l *lent) {
	l.said = d.l.now()
	if l.gone {
		d.ask(ctx, d.process, &fb.GroupCancelT{Group: taskT(l.group), Mode: fb.CancelModeStop, Reason: l.why()}, 0, nil)
		return
	}
	create := *l.create // the loop's core fills in its owner
	d.ask(ctx, d.process, &create, 0, nil)
}

// toldLent takes the state of a lent group; false: it is none.
func (d *desk) toldLent(u *fb.GroupUpdateT, bundles []*fb.BundlePlaceT) bool {
	i := slices.IndexFunc(d.lent, func(l *lent) bool { return l.group == taskOf(u.Group) })
	if i < 0 {
		return false
	}
	l := d.lent[i]
	switch u.Phase {
	case fb.GroupPhasePending:
		if u.Explain != "" {
			d.brings(work.Waits{Class: l.class, Where: l.where, Why: u.Explain})
		}
	case fb.GroupPhaseCreated:
		if l.gone {
			break
		}
		defer func() {
			if l.recall(u) {
				d.brings(work.Place{Group: l.group, Recalled: true})
				d.brings(work.Grant{Group: l.group, Recalled: true})
			}
		}()
		if l.there {
			break
		}
		l.there, l.bundles = true, bundles
		for _, b := range bundles {
			d.brings(work.Grant{Group: l.group, Bundle: int32(b.Index), Resources: amounts(b.Resources), Devices: b.Devices, Open: true, Where: l.where})
		}
		d.learnNodes(u.Nodes)
		d.tellPlaces(work.Place{Group: l.group, Open: true, Where: l.where}, u.Places, 0)
		d.lentDue[l.lentKey] = 0
		if l.home { // this node's share is asked for at the same time
			d.lentDue[l.lentKey] = d.l.now() + lentAfter
		}
		delete(d.lentTight, l.lentKey)
	case fb.GroupPhaseEnded:
		d.lent = slices.Delete(d.lent, i, i+1)
		if l.there && !l.gone {
			d.takeLent(l)
		}
		if !l.there {
			d.lentTight[l.lentKey] = true
		}
		if u.End != nil && u.End.Cause == "infeasible" {
			d.lentDue[l.lentKey] = d.l.now() + lentNever
			if !l.home {
				d.lentNever[l.lentKey] = d.l.now()
			}
			d.brings(work.Waits{Class: l.class, Where: l.where, Why: u.End.Reason, Never: !l.home})
		}
	}
	return true
}

// noticeJoined is the code of the head's word that a node has joined a cluster that was there.
const noticeJoined = "NODE_JOINED"

// nodeJoined asks at once for what no node had, or none that was free: the new one may.
func (d *desk) nodeJoined(ctx context.Context) {
	clear(d.lentDue)
	clear(d.lentNever)
	d.stake.again = 0
	d.ask(ctx, d.process, &fb.StateQueryT{What: "nodes"}, askCount, nil)
}

// takeLent lets nothing more use a lent group. What runs there, if it was taken, may be tried again.
func (d *desk) takeLent(l *lent) {
	d.brings(work.Place{Group: l.group, Gone: true})
	for _, b := range l.bundles {
		d.brings(work.Grant{Group: l.group, Bundle: int32(b.Index), Lost: true})
	}
}

func (d *desk) learnNodes(nodes []*fb.PeerInfoT) {
	for _, n := range nodes {
		d.nodes[n.Agent] = n.Name
	}
}
