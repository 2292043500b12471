package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// errand is tasks of one job that one agent has another run: frames of a work connection inside the session that
// the two agents have. To the owner's core the other agent is a process that runs tasks, to the other's core the owner is one that
// submits them. It ends with the session: what was on its way then may be lost, so both sides give up all of it, and the owner
// tries again by a new errand, with a number that was not used before.
type errand struct {
	number  uint64 // that its owner gave it
	peer    uint32
	back    bool // the peer is its owner
	process id.Process
	job     *job
	out     []byte
	dirty   bool
}

// errandBatch is how much of what is for a peer goes in one message, but for a frame that has more by itself.
const errandBatch = 1 << 20

// peerAgain: places of an agent whose session broke, and that nobody declared dead, are used again after so long.
const peerAgain = int64(5_000_000_000)

// fromPeer takes what another agent says about errands; on the loop.
func (d *desk) fromPeer(ctx context.Context, ev FromPeer) {
	m, ok := ev.M.(*fb.ErrandOpenT)
	if !ok {
		d.post(mail{do: func() { d.errandSays(ctx, ev) }})
		return
	}
	d.open(ctx)
	process := id.Process(d.l.number())
	d.post(mail{do: func() {
		if d.core == nil && d.over == "" {
			d.waiting = append(d.waiting, func() { d.errandOpened(ctx, ev.Peer, process, m) })
			return
		}
		d.errandOpened(ctx, ev.Peer, process, m)
	}})
}

// isErrand tells whether a message of another agent is the desk's.
func isErrand(m Message) bool {
	switch m.(type) {
	case *fb.ErrandOpenT, *fb.ErrandT, *fb.ErrandCloseT, *fb.PullT, *fb.PartT, *fb.BulkAskT, *fb.BulkTicketsT, *fb.SourceAskT, *fb.SourceT:
		return true
	}
	return false
}

// errandOpened: another agent has tasks for this one.
func (d *desk) errandOpened(ctx context.Context, peer uint32, process id.Process, m *fb.ErrandOpenT) {
	if d.errandOf(peer, m.Errand, true) != nil {
		return
	}
	e := &errand{number: m.Errand, peer: peer, back: true, process: process}
	if d.over != "" {
		d.tellPeer(ctx, peer, &fb.ErrandCloseT{Errand: e.number, Back: true, Reason: "the node ends: " + d.over}, nil)
		return
	}
	var j *job
	why := ""
	if m.Bare { // calls come by it, and need no process
		j = &job{number: uint32(process), name: "calls from " + m.Node, errand: e, drivers: 1}
		d.jobs = append(d.jobs, j)
	} else {
		j, why = d.newJob(ctx, uint32(process), m.Name+" on "+m.Node, m.Language, m.JobConfig, e)
	}
	if j == nil {
		d.tellPeer(ctx, peer, &fb.ErrandCloseT{Errand: e.number, Back: true, Reason: why}, nil)
		return
	}
	e.job = j
	d.errands = append(d.errands, e)
	d.brings(work.ProcessUp{Process: process, Kind: work.Owner, Job: j.number, Agent: id.Agent(peer), Node: m.Node})
	d.later(ctx)
}

// errandSays takes frames, or the end, of an errand.
func (d *desk) errandSays(ctx context.Context, ev FromPeer) {
	if d.core == nil {
		d.waiting = append(d.waiting, func() { d.errandSays(ctx, ev) })
		return
	}
	switch m := ev.M.(type) {
	case *fb.ErrandT:
		if e := d.errandOf(ev.Peer, m.Errand, !m.Back); e != nil {
			d.frames.Process, d.frames.Bytes = e.process, ev.Payload
			d.step(ctx, &d.frames)
		} else { // or its other end would wait
			d.tellPeer(ctx, ev.Peer, &fb.ErrandCloseT{Errand: m.Errand, Back: !m.Back, Reason: "it is over there", Cut: true}, nil)
		}
	case *fb.ErrandCloseT:
		if e := d.errandOf(ev.Peer, m.Errand, !m.Back); e != nil {
			d.errandOver(ctx, e, m.Reason, m.Cut)
		}
	case *fb.PullT:
		if e := d.errandOf(ev.Peer, m.Errand, !m.Back); e != nil {
			d.packagePulled(ctx, e, m)
		}
	case *fb.PartT:
		if e := d.errandOf(ev.Peer, m.Errand, !m.Back); e != nil {
			d.packageCame(ctx, e, m, ev.Payload)
		}
	default:
		d.bulkSays(ctx, ev.Peer, ev.M)
	}
}

func (d *desk) errandOf(peer uint32, number uint64, back bool) *errand {
	for _, e := range d.errands {
		if e.peer == peer && e.number == number && e.back == back {
			return e
		}
	}
	return nil
}

func (d *desk) errandBy(process id.Process) *errand {
	for _, e := range d.errands {
		if e.process == process {
			return e
		}
	}
	return nil
}

// jobNumber is that of its job, 0 when that is over.
func (e *errand) jobNumber() uint32 {
	if e.job == nil {
		return 0
	}
	return e.job.number
}

// needHost opens an errand of a job to another agent; job 0: of none, for calls of actors that were found by name.
func (d *desk) needHost(ctx context.Context, peer, job uint32) {
	d.l.post(ctx, item{do: func(ctx context.Context) {
		process, dead := id.Process(d.l.number()), d.l.core.Dead(peer)
		d.post(mail{do: func() {
			d.keys++
			e := &errand{number: uint64(d.agent)<<32 | d.keys, peer: peer, process: process, job: d.jobOf(job)}
			d.errands = append(d.errands, e)
			d.brings(work.ProcessUp{Process: process, Kind: work.Host, Job: job, Agent: id.Agent(peer), Node: d.nodes[peer]})
			if dead || e.job == nil && job != 0 || d.over != "" {
				d.errandOver(ctx, e, "it died", false)
				d.later(ctx)
				return
			}
			open := &fb.ErrandOpenT{Errand: e.number, Node: d.node, Bare: true}
			if j := e.job; j != nil {
				open.Name, open.Language, open.JobConfig, open.Bare = j.name, j.language, j.text, false
			}
			d.tellPeer(ctx, peer, open, nil)
			d.later(ctx)
		}})
	}})
}

// errandAppend puts frames behind those that go to the other agent.
func (d *desk) errandAppend(e *errand, frames []byte) {
	e.out = append(e.out, frames...)
	if !e.dirty {
		e.dirty = true
		d.full = append(d.full, e)
	}
}

// errandSend appends a message.
func (d *desk) errandSend(e *errand, m Message, payload []byte) {
	frame, err := carrier.AppendMessage(nil, m, 0, payload)
	if err != nil {
		d.l.log.Error("a message can't be sent on an errand", "type", typeName(m), "error", err)
		return
	}
	d.errandAppend(e, frame)
}

// settleErrands sends what a turn has for other agents.
func (d *desk) settleErrands(ctx context.Context) int64 {
	for i, e := range d.full {
		d.flushErrand(ctx, e)
		d.full[i] = nil
	}
	d.full = d.full[:0]
	now, next := d.l.now(), never
	d.broken = slices.DeleteFunc(d.broken, func(b brokenPeer) bool {
		if now < b.again {
			next = min(next, b.again)
			return false
		}
		for _, g := range sortedGroups(d.groups) {
			d.tellPlaces(work.Place{Group: g.group}, g.places, b.peer)
		}
		return true
	})
	return next
}

// flushErrand sends the frames of an errand, in messages that are not too large.
func (d *desk) flushErrand(ctx context.Context, e *errand) {
	e.dirty = false
	d.tellPieces(ctx, d.l.now()) // the frames may name them
	for out := e.out; len(out) > 0; {
		n := 0
		for f := range carrier.Frames(out) {
			if size := len(f); n == 0 || n+size <= errandBatch {
				n += size
				continue
			}
			break
		}
		d.tellPeer(ctx, e.peer, &fb.ErrandT{Errand: e.number, Back: e.back}, out[:n:n])
		out = out[n:]
	}
	e.out = nil // the session keeps it until it is acknowledged
}

// tellPeer sends a message to another agent once it can be reached; if it can't ever, the errand ends.
func (d *desk) tellPeer(ctx context.Context, peer uint32, m Message, payload []byte) {
	d.l.post(ctx, item{ev: ToAgent{Peer: peer, M: m, Payload: payload}})
}

// closeErrand ends an errand because the core wants it to.
func (d *desk) closeErrand(ctx context.Context, e *errand, why string) {
	d.flushErrand(ctx, e)
	d.tellPeer(ctx, e.peer, &fb.ErrandCloseT{Errand: e.number, Back: e.back, Reason: why}, nil)
	d.errandOver(ctx, e, why, false)
}

// errandOver forgets an errand. At the end where the tasks run the job ends with it. cut: the other agent may live.
func (d *desk) errandOver(ctx context.Context, e *errand, why string, cut bool) {
	d.errands = slices.DeleteFunc(d.errands, func(k *errand) bool { return k == e })
	d.full = slices.DeleteFunc(d.full, func(k *errand) bool { return k == e })
	e.out = nil
	d.endFetches(e)
	d.heirs(e.peer, work.ProcessGone{Process: e.process, Why: why, Cut: cut})
	if !e.back {
		return
	}
	j := e.job
	j.drivers--
	j.over, j.errand = true, nil
	for _, k := range j.left {
		d.abandon(ctx, k)
	}
	j.left = nil
}

// brokenPeer is an agent with which the session broke, and that was not declared dead.
type brokenPeer struct {
	peer  uint32
	again int64
}

// peerLost: what was sent to another agent may be lost; on the loop. dead: the head says so.
func (d *desk) peerLost(ctx context.Context, peer uint32, why string, dead bool) {
	d.post(mail{do: func() {
		if d.core == nil {
			d.waiting = append(d.waiting, func() { d.peerOver(ctx, peer, why, dead) })
			return
		}
		d.peerOver(ctx, peer, why, dead)
	}})
}

func (d *desk) peerOver(ctx context.Context, peer uint32, why string, dead bool) {
	d.broken = slices.DeleteFunc(d.broken, func(b brokenPeer) bool { return b.peer == peer })
	lost := slices.ContainsFunc(d.errands, func(e *errand) bool { return e.peer == peer })
	d.bulkLost(ctx, peer, why)
	switch {
	case dead:
		for _, g := range sortedGroups(d.groups) {
			g.places = slices.DeleteFunc(g.places, func(p *fb.RecPlaceT) bool { return p.Agent == peer })
		}
	case lost:
		d.broken = append(d.broken, brokenPeer{peer, d.l.now() + peerAgain})
	default:
		return
	}
	d.brings(work.Place{Agent: id.Agent(peer), Gone: true}) // first, so that nothing goes there again
	for _, e := range slices.Clone(d.errands) {
		if e.peer == peer {
			if !dead { // it may not have noticed
				d.tellPeer(ctx, peer, &fb.ErrandCloseT{Errand: e.number, Back: e.back, Reason: why, Cut: true}, nil)
			}
			d.errandOver(ctx, e, why, !dead)
		}
	}
	d.later(ctx)
}

// tellPlaces tells the core of a group's bundles that are at an agent, or, 0, at any other: of all before it uses one.
func (d *desk) tellPlaces(as work.Place, places []*fb.RecPlaceT, peer uint32) {
	var told []work.Place
	for _, p := range places {
		if p.Agent == d.agent || peer != 0 && p.Agent != peer {
			continue
		}
		as.Agent, as.Node, as.More = id.Agent(p.Agent), d.nodes[p.Agent], true
		for _, b := range p.Bundles {
			as.Bundle, as.Resources = int32(b.Index), amounts(b.Resources)
			told = append(told, as)
		}
	}
	for i, p := range told {
		p.More = i < len(told)-1
		d.brings(p)
	}
}

// watch has a group's places told that tasks here name and that nobody here has made: its maker's are told anyway.
func (d *desk) watch(ctx context.Context, group id.Task) {
	if !d.knows(group) && group.Agent != 0 {
		d.ask(ctx, d.process, &fb.GroupWatchT{Group: taskT(group)}, 0, nil)
	}
}

// reserved tells the core of the bundles that bare groups have here, or had; on the loop. Of those that
// somebody here made, their maker's updates tell.
func (d *desk) reserved(group id.Task, incarnation uint32, bundles []*fb.BundlePlaceT) {
	d.post(mail{do: func() { d.hold(group, incarnation, bundles) }})
}

func (d *desk) hold(group id.Task, incarnation uint32, bundles []*fb.BundlePlaceT) {
	if d.core == nil {
		return // it asks for all when it is there
	}
	stake := slices.ContainsFunc(d.stake.parts, func(p *part) bool { return p.group == group }) || slices.ContainsFunc(d.lent, func(l *lent) bool { return l.group == group })
	i := slices.IndexFunc(d.held, func(h *heldGroup) bool { return h.group == group })
	switch {
	case stake || slices.ContainsFunc(bundles, func(b *fb.BundlePlaceT) bool { return b.Ranks > 0 }):
	case len(bundles) > 0:
		if i >= 0 {
			d.held = slices.Delete(d.held, i, i+1)
		}
		d.held = append(d.held, &heldGroup{group, incarnation, bundles})
		if d.groups[group] == nil {
			d.grantBundles(group, bundles)
		}
	case i >= 0 && d.held[i].incarnation == incarnation:
		h := d.held[i]
		d.held = slices.Delete(d.held, i, i+1)
		if d.groups[group] == nil {
			for _, b := range h.bundles {
				d.brings(work.Grant{Group: group, Bundle: int32(b.Index)})
			}
		}
	}
}

func (d *desk) grantBundles(group id.Task, bundles []*fb.BundlePlaceT) {
	for _, b := range bundles {
		d.brings(work.Grant{Group: group, Bundle: int32(b.Index), Resources: amounts(b.Resources), Devices: b.Devices})
	}
}

// heldGroup is a bare group of which bundles are here.
type heldGroup struct {
	group       id.Task
	incarnation uint32
	bundles     []*fb.BundlePlaceT
}

// heldHere asks the loop's core for all bundles that are here, once, when the core is made.
func (d *desk) heldHere(ctx context.Context) {
	d.l.post(ctx, item{do: func(context.Context) {
		for _, g := range d.l.core.gangs.order {
			if g.bundles != nil && !g.released {
				d.reserved(g.key.group, g.key.incarnation, slices.Clone(g.bundles))
			}
		}
	}})
}

// passErrand handles a frame on an errand that is not about work: output of workers, and what is said to drivers.
func (d *desk) passErrand(ctx context.Context, e *errand, f carrier.Frame) {
	m, err := f.Message()
	if err != nil {
		d.l.log.Warn("a frame on an errand can't be read", "type", wire.Type(f.Type()).String(), "error", err)
		return
	}
	switch m := m.(type) {
	case *fb.RankOutputAckT:
		if slices.ContainsFunc(d.templates, func(t *template) bool { return t.group == taskOf(m.Group) }) {
			d.ask(ctx, d.process, m, 0, nil)
		}
	case *fb.RankOutputT:
		if e.job != nil {
			d.output(e.job, e, m, f.Payload())
		}
	case *fb.NoticeT:
		if e.job != nil {
			d.toDriver(e.job, &fb.NoticeT{Level: m.Level, Code: m.Code, Text: fmt.Sprintf("node %s: %s", d.nodes[e.peer], m.Text), Wall: m.Wall}, nil)
		}
	}
}

// toDriver sends something to the driver of a job, wherever it is; false: it is gone.
func (d *desk) toDriver(j *job, m Message, payload []byte) bool {
	if j.errand != nil {
		d.errandSend(j.errand, m, payload)
		return true
	}
	c := d.conns[id.Process(j.number)]
	if c != nil {
		d.send(c, m, 0, payload)
	}
	return c != nil
}

// madeOf gives what is known of a group; it is made if need be.
func (d *desk) madeOf(group id.Task) *made {
	g := d.groups[group]
	if g == nil {
		g = &made{group: group, detached: true}
		d.groups[group] = g
	}
	return g
}

// sortedGroups gives groups in the order in which they were minted.
func sortedGroups(groups map[id.Task]*made) []*made {
	list := make([]*made, 0, len(groups))
	for _, g := range groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *made) int { return a.group.Compare(b.group) })
	return list
}
