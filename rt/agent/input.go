package agent

import "github.com/maniple-hpc/maniple/transport/wire/fb"

// input is what a client types, on its way to one program. Offsets begin at 0 in each incarnation.
type input struct {
	queue   [][]byte
	end     uint64 // bytes taken in
	written uint64 // bytes that the program's pipe took
	eof     bool   // close when the queue is empty
	closed  bool   // nobody reads any more; what comes counts as written
	writing bool   // a WriteInput is out
	from    uint32 // agent that is told
}

func (in *input) restore(written uint64) { in.end, in.written = written, written }

// close: the program is gone or does not read.
func (in *input) close() {
	in.closed, in.queue = true, nil
	in.written = in.end
}

// onRankInput takes input for the programs of a gang that read it, and sizes of the terminal.
func (c *Core) onRankInput(from uint32, m *fb.RankInputT, data []byte) {
	g := c.gangs.byKey[gangKey{taskOf(m.Group), m.Incarnation}]
	if g == nil {
		return
	}
	for _, k := range g.ranks {
		if !k.stdin {
			continue
		}
		if m.Rows != 0 && m.Cols != 0 && k.pty {
			c.toKeeper(&fb.ProgramResizeT{Group: m.Group, Incarnation: m.Incarnation, Rank: k.key.Rank, Rows: m.Rows, Cols: m.Cols})
		}
		c.takeInput(k, from, m, data)
	}
}

func (c *Core) takeInput(k *rank, from uint32, m *fb.RankInputT, data []byte) {
	in := &k.input
	in.from = from
	fresh := data
	switch {
	case m.Offset > in.end:
		return // a gap: the client sends it again from its mark
	case m.Offset+uint64(len(data)) <= in.end:
		fresh = nil
	default:
		fresh = data[in.end-m.Offset:]
	}
	if int(in.end-in.written)+len(fresh) > inputWindow {
		return // the client broke its window
	}
	in.end += uint64(len(fresh))
	if m.Eof && m.Offset+uint64(len(data)) == in.end {
		in.eof = true
	}
	if in.closed {
		in.written = in.end
		c.ackInput(k.gang)
		return
	}
	if len(fresh) > 0 {
		in.queue = append(in.queue, fresh)
	}
	if len(data) > 0 && len(fresh) == 0 {
		c.ackInput(k.gang) // a repetition: the ack was lost
	}
	c.pumpInput(k)
}

// pumpInput writes the next piece.
func (c *Core) pumpInput(k *rank) {
	in := &k.input
	if in.writing || in.closed || !k.stdin || k.state.Phase != fb.RankPhaseRunning || !k.streams[0].attached {
		return
	}
	if len(in.queue) > 0 {
		in.writing = true
		c.emit(WriteInput{Key: k.key, Data: in.queue[0]})
		return
	}
	if in.eof {
		in.closed = true
		c.emit(CloseInput{Key: k.key})
	}
}

func (c *Core) onInputWritten(ev InputWritten) {
	k := c.gangs.ranks[ev.Key]
	if k == nil {
		return
	}
	in := &k.input
	in.writing = false
	if in.closed {
		return
	}
	if ev.Gone {
		in.close()
		c.emit(CloseInput{Key: k.key})
		c.ackInput(k.gang)
		return
	}
	n := ev.N
	for n > 0 && len(in.queue) > 0 {
		take := min(n, len(in.queue[0]))
		in.written += uint64(take)
		n -= take
		if take == len(in.queue[0]) {
			in.queue[0] = nil
			in.queue = in.queue[1:]
		} else {
			in.queue[0] = in.queue[0][take:]
		}
	}
	c.ackInput(k.gang)
	c.pumpInput(k)
}

// ackInput tells the client how much all of the gang's programs here have taken.
func (c *Core) ackInput(g *gang) {
	least, from := uint64(never), uint32(0)
	for _, k := range g.ranks {
		if k.stdin && k.input.from != 0 {
			least, from = min(least, k.input.written), k.input.from
			if k.input.closed {
				least = min(least, k.input.end)
			}
		}
	}
	if from == 0 {
		return
	}
	m := &fb.RankInputAckT{Group: taskT(g.key.group), Incarnation: g.key.incarnation, Offset: least}
	if from == c.agent {
		c.inputAcked(c.agent, m)
		return
	}
	if p := c.route(from); p != nil && p.ready() {
		c.emit(ToPeer{Peer: from, M: m})
	}
}

// ackGoneInput lets the client go on after a program that read no more ended.
func (c *Core) ackGoneInput(k *rank) {
	if k.stdin && k.input.from != 0 {
		c.ackInput(k.gang)
	}
}
