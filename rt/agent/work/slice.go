package work

import (
	"encoding/binary"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A process may want a range of a value and not all of it. If the value lies with another agent the range alone is brought, and is an object of this node that
// the process holds, as what it puts is; nothing makes it again. If the value lies here, or anything goes wrong, the answer is nothing: then the process gets all
// of the value, by which it is looked at where it lies, waited for, made again, or lost with a reason.

// slice is a range on its way here.
type slice struct {
	object, of id.Object
	from       *process // which sent the reference: it knows where the value lies
}

// onSlice has a range of a value become an object.
func (c *Core) onSlice(p *process, f frame) {
	m := c.read.slice
	if len(f.body) != wire.SliceSize || wire.ReadSlice(f.body, m) != nil || m.Offset > 1<<62 || m.Size > 1<<62 {
		c.refuse(p, "sent a Slice that can't be read")
		return
	}
	name, of := objectOf(m.Object), objectOf(m.Of)
	if !c.minted(p, name.Task) || name.Index != 0 {
		c.refuse(p, "wants a range under an ID that is not its own, or is used")
		return
	}
	o := c.lookup(of)
	if o == nil || c.holderOf(p, o) == nil {
		c.refuse(p, "wants a range of an object that it has no reference to")
		return
	}
	made := c.newObject(c.newEntry(name.Task), 0)
	c.hold(p, made).made = true
	home := c.home(o)
	switch {
	case home == nil || home.gone || home.closing || c.cfg.Store == nil || o.here() || !c.exists(o) || home.fetching(of) != nil:
		c.unsliced(made)
	default:
		o.pins++
		c.slices = append(c.slices, slice{name, of, home})
		c.out = append(c.out, Effect{Do: Slice, Process: home.id, Object: name, Key: m.Size, Urgency: Awaited, Part: &Part{of, int64(m.Offset), m.Version}})
	}
}

// unsliced: all of the value is to be got.
func (c *Core) unsliced(o *object) {
	c.keep(o, fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatRaw, 0, nil)
}

// endSlice takes a range from those on their way. What it is to be may be nobody's any more; false: it is none of them.
func (c *Core) endSlice(name id.Object) (o *object, is bool) {
	i := slices.IndexFunc(c.slices, func(s slice) bool { return s.object == name })
	if i < 0 {
		return nil, false
	}
	s := c.slices[i]
	c.slices = slices.Delete(c.slices, i, i+1)
	c.unpin(c.lookup(s.of))
	return c.lookup(name), true
}

// unslice ends a range's way here, which is wanted no more.
func (c *Core) unslice(name id.Object) {
	if _, is := c.endSlice(name); is {
		c.out = append(c.out, Effect{Do: Unslice, Object: name})
	}
}

// onSliced takes in that a range is here, or can't be had. false: it is something else that was fetched.
func (c *Core) onSliced(ev Fetched) bool {
	o, is := c.endSlice(ev.Object)
	switch {
	case !is:
	case ev.Why != "" && o != nil:
		c.unsliced(o)
	case ev.Why != "":
	case o == nil:
		c.cfg.Store.Free(ev.Object)
	default:
		c.settle(o, c.locatedFrame(ev.Object, 0, fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatRaw, 0, nil, ev.Arena, ev.Offset, ev.Size))
	}
	return is
}

// onMeasured takes in what is to be sliced.
func (c *Core) onMeasured(ev Measured) {
	if o, _ := c.endSlice(ev.Object); o != nil {
		b := binary.LittleEndian.AppendUint64(nil, ev.Size)
		b = binary.LittleEndian.AppendUint32(b, uint32(ev.Format))
		b = binary.LittleEndian.AppendUint32(b, ev.Version)
		c.keep(o, fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatRaw, 0, b)
	}
}

// forgetSlices: an agent is lost, and with it who knew where values lie.
func (c *Core) forgetSlices(p *process) {
	for i := len(c.slices) - 1; i >= 0; i-- {
		if s := c.slices[i]; s.from == p {
			if o, _ := c.endSlice(s.object); o != nil {
				c.unsliced(o)
			}
		}
	}
}

// Lies tells which agent has the value of an object, how many bytes that are, and of which format; 0: of none is that known.
func (c *Core) Lies(name id.Object) (agent id.Agent, size uint64, format fb.Format) {
	o := c.lookup(name)
	switch {
	case o == nil || o.value == nil || o.state == objectFailed:
		return 0, 0, 0
	case o.placed:
		agent = c.cfg.Agent
	case o.state == objectAway:
		agent = c.home(o).agent
	default:
		return 0, 0, 0
	}
	m, _ := c.readResult(o.value)
	return agent, m.Size, m.Format
}
