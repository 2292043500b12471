package agent

import (
	"context"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// piece is a group of one bundle that a process here asked for and got at once: a piece of a part of the stake, which the
// head's ledger has down as this agent's. The head hears of it when it has lived for a moment, or before anything is said to
// which somebody might refer to it: a question of a process, a frame to another agent. From then on it is a group like any other, and
// what it has is not the part's any more. One that is removed before that was never anybody's business (docs/adr/0011).
type piece struct {
	group id.Task
	part  *part
	conn  *workConn // of the process that made it
	m     *fb.GroupCreateT
	since int64
}

const (
	pieceTold = int64(50 * time.Millisecond)
	pieceWait = time.Second // so long the head may look for what the next pieces are made of
	maxPieces = 1000        // that the head has not heard of
)

// small tells whether a group may be a piece, if there is something that it can be made of.
func small(m *fb.GroupCreateT) bool {
	if m.Name != "" || m.Detached || m.Program != nil || m.Wait != 0 || m.Within != "" || len(m.Bundles) != 1 {
		return false
	}
	b := m.Bundles[0]
	return len(b.Labels) == 0 && b.Times <= 1 && b.Ranks == 0 && len(b.Resources) == 1 && b.Resources[0].Name != "GPU" && b.Resources[0].Amount > 0
}

// create makes a group, or has it wait for the stake that is on its way, for pieceTold at most; false: the head has to place it.
func (d *desk) create(c *workConn, m *fb.GroupCreateT) bool {
	s := &d.stake
	switch {
	case !small(m) || d.core == nil || d.over != "" || len(d.pieces)+len(d.creates) >= maxPieces || d.knows(taskOf(m.Group)):
	case d.cut(c, m):
		return true
	case s.coming():
		d.creates = append(d.creates, &piece{group: taskOf(m.Group), conn: c, m: m, since: d.l.now()})
		return true
	case m.Bundles[0].Resources[0].Name == placement.CPU && s.could(amounts(m.Bundles[0].Resources)):
		s.wish = m.Bundles[0].Resources // for those that come next
	}
	s.wanted = true
	return false
}

// knows tells whether a process here has made a group, or is about to.
func (d *desk) knows(group id.Task) bool {
	return d.groups[group] != nil || slices.ContainsFunc(d.creates, func(x *piece) bool { return x.group == group })
}

// coming tells whether more of the node may be this agent's in a moment.
func (s *stake) coming() bool {
	return s.eager || s.asking || s.wish != nil || slices.ContainsFunc(s.parts, func(p *part) bool { return p.bundle == nil && !p.gone && !p.line })
}

// cut makes a group of a part of the stake; false: there is no such part.
func (d *desk) cut(c *workConn, m *fb.GroupCreateT) bool {
	want := m.Bundles[0].Resources[0]
	p := d.stake.partFor(want, d.core.Wants())
	if p == nil {
		return false
	}
	p.take(want, -1)
	p.cutAt, d.stake.changed = d.l.now(), true
	x := &piece{group: taskOf(m.Group), part: p, conn: c, m: m, since: d.l.now()}
	d.pieces = append(d.pieces, x)
	d.groups[x.group] = &made{group: x.group}
	bundle := []*fb.BundlePlaceT{{Resources: m.Bundles[0].Resources}}
	d.grantGroup(&fb.GroupUpdateT{Group: m.Group, Phase: fb.GroupPhaseCreated, Places: []*fb.RecPlaceT{{Agent: d.agent, Bundles: bundle}}}, bundle)
	d.send(c, &fb.GroupUpdateT{Group: m.Group, Phase: fb.GroupPhaseCreated, Incarnation: 1}, 0, nil)
	return true
}

// partFor finds the smallest part that has an amount which no task uses; nil: there is none.
func (s *stake) partFor(want *fb.ResourceT, w *work.Wants) (best *part) {
	free := -amountIn(w.Used, want.Name)
	for _, p := range s.parts {
		if p.bundle == nil || p.gone || p.how == fb.LeaseRecallNow {
			continue
		}
		n := amountOf(p.bundle.Resources, want.Name)
		free += n
		if len(p.bundle.Devices) == 0 && n >= want.Amount && (best == nil || n < amountOf(best.bundle.Resources, want.Name)) {
			best = p
		}
	}
	if free < want.Amount {
		return nil
	}
	return best
}

// take adds an amount to what a part has. Its bundle is its own since toldStake.
func (p *part) take(r *fb.ResourceT, sign int64) {
	p.bundle.Resources = add(p.bundle.Resources, r.Name, sign*r.Amount)
}

// endPiece ends a group that the head has not heard of; false: it is none.
func (d *desk) endPiece(group id.Task, why string) bool {
	i := slices.IndexFunc(d.pieces, func(x *piece) bool { return x.group == group })
	if i < 0 {
		return false
	}
	x := d.pieces[i]
	d.pieces = slices.Delete(d.pieces, i, i+1)
	x.part.take(x.m.Bundles[0].Resources[0], 1)
	d.stake.changed = true
	u := &fb.GroupUpdateT{Group: x.m.Group, Phase: fb.GroupPhaseEnded, Incarnation: 1,
		End: &fb.GroupEndT{Code: 143, Cause: "cancelled", Rank: -1, Reason: why, Wall: d.l.now()}}
	d.grantGroup(u, nil)
	if d.conns[x.conn.process] == x.conn {
		d.send(x.conn, u, 0, nil)
	}
	return true
}

// tellPieces has the head hear of the pieces that were made by a time.
func (d *desk) tellPieces(ctx context.Context, by int64) {
	n := 0
	for _, x := range d.pieces {
		if x.since > by {
			break
		}
		m := *x.m
		m.Part = taskT(x.part.group)
		d.knownClient(ctx, x.conn)
		d.ask(ctx, uint32(x.conn.process), &m, 0, nil)
		n++
	}
	d.unsure = append(d.unsure, d.pieces[:n]...)
	d.pieces = slices.Delete(d.pieces, 0, n)
	d.creates = slices.DeleteFunc(d.creates, func(x *piece) bool {
		if x.since <= by {
			d.leaveToHead(ctx, x)
		}
		return x.since <= by
	})
}

// toldPiece takes the head's first word of a piece: it is that group's now, or, if the head had none of it, the part's again.
func (d *desk) toldPiece(u *fb.GroupUpdateT) {
	i := slices.IndexFunc(d.unsure, func(x *piece) bool { return x.group == taskOf(u.Group) })
	if i < 0 || u.Phase == fb.GroupPhasePending {
		return
	}
	x := d.unsure[i]
	d.unsure = slices.Delete(d.unsure, i, i+1)
	if u.Phase == fb.GroupPhaseEnded && u.End != nil && u.End.Cause != "cancelled" {
		x.part.take(x.m.Bundles[0].Resources[0], 1)
		d.stake.changed = true
	}
}

// leaveToHead has the head place what was to be a piece.
func (d *desk) leaveToHead(ctx context.Context, x *piece) {
	d.stake.wanted = true
	d.groups[taskOf(x.m.Group)] = &made{group: taskOf(x.m.Group)}
	d.knownClient(ctx, x.conn)
	d.ask(ctx, uint32(x.conn.process), x.m, 0, nil)
}

// settlePieces makes those that waited for the stake, and tells of those that live on.
func (d *desk) settlePieces(ctx context.Context) int64 {
	if wish := d.stake.wish; wish != nil {
		d.stake.wish = nil
		d.askPart(ctx, inLine(amounts(wish)), pieceWait).cutAt = d.l.now()
	}
	if !d.stake.coming() {
		for _, x := range d.creates {
			if !d.cut(x.conn, x.m) {
				d.leaveToHead(ctx, x)
			}
		}
		d.creates = nil
	}
	d.tellPieces(ctx, d.l.now()-pieceTold)
	next := never
	for _, list := range [][]*piece{d.pieces, d.creates} {
		if len(list) > 0 {
			next = min(next, list[0].since+pieceTold)
		}
	}
	return next
}

// nextParts reads what of files is asked for and there is room for: what has to wait on waits in its place.
func (s *deskStore) nextParts() {
	waiting := s.spill.parts
	s.spill.parts = nil
	for _, next := range waiting {
		next()
	}
}

// partLater asks again, behind those that wait meanwhile, for a piece that can't be had from a file system that nodes share; or, when this agent ends, no more.
func (s *deskStore) partLater(why error, again, no func()) {
	s.sayAway(why)
	s.moves(func() error {
		select {
		case <-s.spill.over:
			return why
		case <-time.After(spillAgain):
			return nil
		}
	}, func(err error) {
		if err != nil {
			no()
			return
		}
		again()
	})
	s.nextParts()
}
