package work

import (
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// credit is what a process may have on its way, or what it gets back.
type credit struct {
	records uint32
	bytes   uint64
}

// spend takes one record and so many bytes of what p was granted; if it had not so much left, its
// connection ends. A message of more than seven eighths of the grant may go when so much is there.
func (c *Core) spend(p *process, bytes uint32) bool {
	if p.remote() {
		return true // it was spent there
	}
	if !c.affords(p, bytes) {
		c.refuse(p, "spent more than its credit")
		return false
	}
	p.owed.records++
	p.owed.bytes += uint64(bytes)
	return true
}

// affords tells whether p has so much left.
func (c *Core) affords(p *process, bytes uint32) bool {
	left := int64(c.cfg.Bytes) - int64(p.owed.bytes)
	return p.owed.records < c.cfg.Records && left >= int64(min(uint64(bytes), c.cfg.Bytes-c.cfg.Bytes/8))
}

// giveBack returns what a submit, call, create or put has spent. It is told in eighths of the grant, so
// that its frames are few.
func (c *Core) giveBack(p *process, bytes uint32) {
	if p.gone || p.id == 0 || p.remote() {
		return
	}
	p.spent.records++
	p.spent.bytes += uint64(bytes)
	if p.spent.records < max(c.cfg.Records/8, 1) && p.spent.bytes < c.cfg.Bytes/8 {
		return
	}
	b := c.start(p, fb.FrameTypeCredit, wire.CreditSize, 0)
	wire.PutCredit(b, &fb.CreditT{Bytes: p.spent.bytes, Records: p.spent.records})
	p.owed.records -= p.spent.records
	p.owed.bytes -= p.spent.bytes
	p.spent = credit{}
}
