package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// sliceAsk is a range of another node's value that somebody wants here, before it is known where that lies. The agent by which the reference came is asked: it has the
// value, or owns it and knows who has. What the value is, the agent says that has it. The range comes as values do, from that one alone.
type sliceAsk struct {
	errand  *errand
	asked   uint32 // the agent
	object  id.Object
	part    *work.Part
	size    int64 // 0: what the value is
	urgency work.Urgency
	due     int64
}

const sliceAsked = int64(5 * time.Second) // so long an agent may take to say where a value lies

// slice begins to bring a range, or ends that.
func (d *desk) slice(ctx context.Context, e *work.Effect) {
	if e.Do == work.Unslice {
		d.unslice(e.Object)
		return
	}
	x := sliceAsk{errand: d.errandBy(e.Process), object: e.Object, part: e.Part, size: int64(e.Key), urgency: e.Urgency}
	if x.errand == nil {
		return // it is over, and the core is told so
	}
	d.askWhere(ctx, x, x.errand.peer)
}

// unslice brings a range no more.
func (d *desk) unslice(object id.Object) {
	b := d.store.bulk
	b.slices = slices.DeleteFunc(b.slices, func(x sliceAsk) bool { return x.object == object })
	d.endFetchesOf(func(f *fetch) bool { return f.part != nil && f.object == object })
	d.stir()
}

func (d *desk) askWhere(ctx context.Context, x sliceAsk, agent uint32) {
	x.asked, x.due = agent, d.l.now()+sliceAsked
	b := d.store.bulk
	b.slices = append(b.slices, x)
	d.stir() // this turn may have looked at them
	d.tellPeer(ctx, agent, &fb.SourceAskT{Task: taskT(x.part.Of.Task), Index: x.part.Of.Index, Ranges: true}, nil)
}

// tellWhere tells another agent where a value lies of which it wants ranges.
func (d *desk) tellWhere(ctx context.Context, peer uint32, m *fb.SourceAskT) {
	s := &fb.SourceT{Task: m.Task, Index: m.Index, Ranges: true}
	if d.core != nil {
		of := id.Object{Task: taskOf(m.Task), Index: m.Index}
		agent, size, format := d.core.Lies(of)
		s.Agent, s.Size, s.Format = uint32(agent), size, format
		if info, ok := d.store.store.Lookup(of); ok && s.Agent == d.agent {
			s.Version = info.Version
		}
	}
	d.tellPeer(ctx, peer, s, nil)
}

// whereIs takes in where a value lies. The same question has the same answer, for whatever it was asked.
func (d *desk) whereIs(ctx context.Context, peer uint32, m *fb.SourceT) {
	of := id.Object{Task: taskOf(m.Task), Index: m.Index}
	b := d.store.bulk
	i := slices.IndexFunc(b.slices, func(x sliceAsk) bool { return x.asked == peer && x.part.Of == of })
	if i < 0 {
		return // it came too late
	}
	x := b.slices[i]
	b.slices = slices.Delete(b.slices, i, i+1)
	switch {
	case m.Size == 0 || m.Size > 1<<62:
		d.noSlice(x, "where it lies is not known")
	case m.Agent == d.agent:
		d.noSlice(x, "it lies here")
	case x.size == 0 && m.Agent != peer && x.asked == x.errand.peer:
		d.askWhere(ctx, x, m.Agent)
	case x.size == 0 && (m.Agent != peer || m.Version == 0):
		d.noSlice(x, "it lies nowhere for long")
	case x.size == 0:
		d.brings(work.Measured{Object: x.object, Size: m.Size, Format: m.Format, Version: m.Version})
	case x.part.Offset > int64(m.Size) || x.size > int64(m.Size)-x.part.Offset:
		d.noSlice(x, fmt.Sprintf("it has %d bytes, of which %d at %d are wanted", m.Size, x.size, x.part.Offset))
	default:
		d.lineUp(&fetch{errand: x.errand, object: x.object, size: x.size, part: x.part, from: m.Agent, urgency: x.urgency})
		d.stir()
	}
}

func (d *desk) noSlice(x sliceAsk, why string) {
	d.brings(work.Fetched{Process: x.errand.process, Object: x.object, Why: why})
}

// settleSlices gives up questions that nobody answers, and tells when the next is due.
func (d *desk) settleSlices() int64 {
	b, now := d.store.bulk, d.l.now()
	for len(b.slices) > 0 && b.slices[0].due <= now {
		d.noSlice(b.slices[0], fmt.Sprintf("agent %d did not say where it lies", b.slices[0].asked))
		b.slices = slices.Delete(b.slices, 0, 1)
	}
	if len(b.slices) == 0 {
		return never
	}
	return b.slices[0].due
}

// ofVersion is the version of what a fetch has brought: of a copy that of its value.
func (f *fetch) ofVersion() uint32 {
	if f.part != nil {
		return 0 // it has a name of its own
	}
	return f.version
}
