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

// giveBack returns what a submit, call, create or put has spent. It is told in eighths of the grant, so
// that its frames are few.
func (c *Core) giveBack(p *process, bytes uint32) {
	if p.gone || p.id == 0 {
		return
	}
	p.spent.records++
	p.spent.bytes += uint64(bytes)
	if p.spent.records < max(c.cfg.Records/8, 1) && p.spent.bytes < c.cfg.Bytes/8 {
		return
	}
	b := c.start(p, fb.FrameTypeCredit, wire.CreditSize, 0)
	wire.PutCredit(b, &fb.CreditT{Bytes: p.spent.bytes, Records: p.spent.records})
	p.spent = credit{}
}
