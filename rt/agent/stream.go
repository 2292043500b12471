package agent

import (
	"bytes"
	"slices"

	programs "github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Tails: what RankState tells of a program's last words.
const (
	tailBytes = 4 << 10
	tailLines = 20
)

// stream is the output of a program on its way from the pipe to the sink.
//
//	base          sent            end
//	|-- unacked --|-- not sent ---|      [base, end) is kept in segs
//
// The end itself counts as one more byte: an ack of end+1 says that the sink saw it.
type stream struct {
	segs            [][]byte // the bytes from base on; sent is always at the start of one
	unsent          int      // index of the first segment that was not sent
	base, sent, end uint64
	attached        bool // its descriptor is with the shell
	reading         bool // a ReadMore is out
	eof             bool // nothing more will come from the pipe
	eofSent         bool
	eofAcked        bool
	tail            []byte // the last tailBytes
}

func (s *stream) start(offset uint64) { s.base, s.sent, s.end = offset, offset, offset }

// done: the sink has everything.
func (s *stream) done() bool { return s.eof && s.eofAcked && s.base == s.end }

// attach begins to read a program's output, whose descriptors have come.
func (c *Core) attach(k *rank) {
	for i := range k.streams {
		k.streams[i].attached = true
		if i == 1 && k.pty { // a terminal has one stream
			k.streams[i].eof = true
			c.sendEOF(k, i)
		}
		c.read(k, i)
	}
}

// read permits a read while the window has room (AGENT-3).
func (c *Core) read(k *rank, i int) {
	s := &k.streams[i]
	if !s.attached || s.reading || s.eof {
		return
	}
	room := k.gang.window - int(s.end-s.base)
	if room <= 0 {
		return
	}
	s.reading = true
	c.emit(ReadMore{Key: k.key, Stream: uint8(i) + 1, Offset: s.end, Max: min(room, ReadSize), Window: k.gang.window})
}

func (c *Core) onOutput(ev Output) {
	k := c.gangs.ranks[ev.Key]
	if k == nil || ev.Stream < Stdout || ev.Stream > Stderr {
		return
	}
	s := &k.streams[ev.Stream-1]
	s.reading = false
	if len(ev.Data) > 0 && !s.eof {
		s.append(ev.Data)
		c.send(k, int(ev.Stream)-1)
	}
	c.read(k, int(ev.Stream)-1)
}

func (s *stream) append(data []byte) {
	s.segs = append(s.segs, data)
	s.end += uint64(len(data))
	s.remember(data)
}

func (s *stream) remember(data []byte) {
	if len(data) >= tailBytes {
		s.tail = append(s.tail[:0], data[len(data)-tailBytes:]...)
		return
	}
	if cut := len(s.tail) + len(data) - 2*tailBytes; cut > 0 {
		keep := s.tail[len(s.tail)-(tailBytes-min(len(data), tailBytes)):]
		s.tail = append(s.tail[:0], keep...)
	}
	s.tail = append(s.tail, data...)
}

func (c *Core) onOutputEOF(ev OutputEOF) {
	k := c.gangs.ranks[ev.Key]
	if k == nil || ev.Stream < Stdout || ev.Stream > Stderr {
		return
	}
	s := &k.streams[ev.Stream-1]
	s.reading, s.eof = false, true
	c.sendEOF(k, int(ev.Stream)-1)
	c.tellEnd(k)
	c.dropRank(k)
}

// cut ends streams that somebody who outlived the program holds open.
func (c *Core) cut(k *rank) {
	for i := range k.streams {
		if !k.streams[i].eof {
			k.streams[i].eof = true
			c.emit(StopRead{Key: k.key, Stream: uint8(i) + 1})
			c.sendEOF(k, i)
		}
	}
	c.tellEnd(k)
	c.dropRank(k)
}

// send gives the sink what it has not been sent, as far as the window to its agent allows.
func (c *Core) send(k *rank, i int) {
	s, to := &k.streams[i], k.gang.sink
	if !to.known {
		return
	}
	if to.agent == 0 { // nobody wants it
		s.drop(s.end)
		c.emit(Acked{Key: k.key, Stream: uint8(i) + 1, Offset: s.end})
		return
	}
	p := c.route(to.agent)
	for ; s.unsent < len(s.segs); s.unsent++ {
		if p != nil && (!p.ready() || p.outstanding >= sinkWindow) {
			p.held = p.ready()
			return
		}
		seg := s.segs[s.unsent]
		c.deliver(to, k, i, s.sent, false, seg)
		if p != nil {
			p.outstanding += len(seg)
		}
		s.sent += uint64(len(seg))
	}
	c.sendEOF(k, i)
}

// sendEOF tells the sink that the stream is over, once it was sent all of it.
func (c *Core) sendEOF(k *rank, i int) {
	s, to := &k.streams[i], k.gang.sink
	if !s.eof || s.eofSent || s.sent != s.end || !to.known {
		return
	}
	if to.agent == 0 {
		s.eofSent, s.eofAcked = true, true
		return
	}
	if p := c.route(to.agent); p != nil && !p.ready() {
		return
	}
	s.eofSent = true
	c.deliver(to, k, i, s.end, true, nil)
}

func (c *Core) sendEOFs(k *rank) {
	for i := range k.streams {
		c.sendEOF(k, i)
	}
}

// deliver puts bytes on their way to the sink's client.
func (c *Core) deliver(to sink, k *rank, i int, offset uint64, eof bool, data []byte) {
	m := &fb.RankOutputT{
		Group: taskT(k.key.Group), Incarnation: k.key.Incarnation, Rank: k.key.Rank,
		Stream: uint8(i) + 1, Offset: offset, Eof: eof, Process: to.process,
	}
	if to.agent == c.agent {
		c.emit(ToClient{Process: to.process, M: m, Payload: data})
		return
	}
	c.emit(ToPeer{Peer: to.agent, M: m, Payload: data})
}

// onOutputAck: the client of the sink has everything before offset (AGENT-4).
func (c *Core) onOutputAck(from uint32, m *fb.RankOutputAckT) {
	k := c.gangs.ranks[Key{taskOf(m.Group), m.Incarnation, m.Rank}]
	if k == nil || m.Stream < Stdout || m.Stream > Stderr || from != k.gang.sink.agent {
		return
	}
	i := int(m.Stream) - 1
	s := &k.streams[i]
	offset := m.Offset
	if s.eofSent && offset == s.end+1 {
		s.eofAcked = true
		offset = s.end
	}
	if offset > s.base && offset <= s.sent {
		freed := int(offset - s.base)
		s.drop(offset)
		c.emit(Acked{Key: k.key, Stream: m.Stream, Offset: offset})
		if p := c.route(from); p != nil {
			p.outstanding = max(0, p.outstanding-freed)
			c.unhold(p)
		}
	}
	c.read(k, i)
	c.dropRank(k)
}

// drop frees the bytes before offset.
func (s *stream) drop(offset uint64) {
	n := 0
	for n < len(s.segs) && s.base+uint64(len(s.segs[n])) <= offset {
		s.base += uint64(len(s.segs[n]))
		s.segs[n] = nil
		n++
	}
	s.segs, s.unsent = s.segs[n:], max(0, s.unsent-n)
	if len(s.segs) == 0 {
		s.segs = nil
	} else if offset > s.base {
		s.segs[0] = s.segs[0][offset-s.base:]
		s.base = offset
	}
	s.sent = max(s.sent, s.base)
}

// rewind makes everything unacknowledged be sent again.
func (c *Core) rewind(k *rank, i int) {
	s := &k.streams[i]
	if p := c.route(k.gang.sink.agent); p != nil {
		p.outstanding = max(0, p.outstanding-int(s.sent-s.base))
	}
	s.sent, s.unsent, s.eofSent, s.eofAcked = s.base, 0, false, false
}

// onSink: the gang's output goes to another client, or to the same one again, which has what it marks.
func (c *Core) onSink(m *fb.RankSinkT) {
	group := taskOf(m.Group)
	c.learn(m.Sink)
	for _, g := range slices.Clone(c.gangs.order) { // what is done with goes from it
		if g.key.group != group {
			continue
		}
		for _, k := range g.ranks {
			for i := range k.streams {
				c.rewind(k, i)
			}
		}
		for _, mark := range m.Received {
			k := c.gangs.ranks[Key{group, g.key.incarnation, mark.Rank}]
			if k == nil || mark.Stream < Stdout || mark.Stream > Stderr {
				continue
			}
			s := &k.streams[mark.Stream-1]
			offset := mark.Offset
			if s.eof && offset == s.end+1 {
				s.eofSent, s.eofAcked = true, true
				offset = s.end
			}
			if offset > s.base && offset <= s.end {
				s.drop(offset)
				c.emit(Acked{Key: k.key, Stream: mark.Stream, Offset: offset})
			}
		}
		g.sink = sink{known: true, agent: m.SinkAgent, process: m.SinkProcess}
		for _, k := range g.ranks {
			c.remember(k)
		}
		c.pumpGang(g)
		c.dropDone(g)
	}
}

// setSink is the sink that a RankStart names: where one is known, only another one changes anything.
func (c *Core) setSink(g *gang, agent, process uint32) {
	to := sink{known: true, agent: agent, process: process}
	if g.sink == to {
		return
	}
	for _, k := range g.ranks {
		for i := range k.streams {
			c.rewind(k, i)
		}
	}
	g.sink = to
	for _, k := range g.ranks {
		c.remember(k)
	}
}

// remember leaves word of the sink to the agent after this one.
func (c *Core) remember(k *rank) {
	if k.launched && k.gang.sink.known {
		c.emit(Remember{Key: k.key, Agent: k.gang.sink.agent, Process: k.gang.sink.process, World: k.gang.world})
	}
}

// pumpGang sends and reads what the state of the gang allows.
func (c *Core) pumpGang(g *gang) {
	if g.sink.known && g.sink.agent != 0 {
		c.reachPeer(g.sink.agent)
	}
	for _, k := range g.ranks {
		for i := range k.streams {
			c.send(k, i)
			c.read(k, i)
		}
	}
}

// onRestored takes over what the agent before this one had read.
func (c *Core) onRestored(ev Restored) {
	k := c.gangs.ranks[ev.Key]
	if k == nil || ev.Stream < Stdout || ev.Stream > Stderr || ev.Offset < OffsetBase(ev.Key.Incarnation) {
		return
	}
	s := &k.streams[ev.Stream-1]
	s.start(ev.Offset)
	s.remember(ev.Tail)
	if len(ev.Data) > 0 {
		s.append(ev.Data)
	}
	k.input.restore(ev.Input)
	if g := k.gang; ev.Known && !g.sink.known && (ev.Sink.Agent == 0 || ev.Sink.Agent != c.cfg.Previous) {
		// A client of this agent's predecessor comes back with another number, and claims the gang then.
		g.world, g.window = ev.Sink.World, programs.WindowOf(ev.Sink.World)
		g.sink = sink{known: true, agent: ev.Sink.Agent, process: ev.Sink.Process}
	}
}

// note puts a line of ours into a rank's stderr, before anything of its own.
func (c *Core) note(k *rank, text string) {
	k.streams[1].append([]byte("maniple: " + text + "\n"))
}

// tail is the last lines of stderr, or of stdout where stderr is silent.
func (k *rank) tail() string {
	for _, s := range []*stream{&k.streams[1], &k.streams[0]} {
		t := bytes.TrimRight(s.tail, "\r\n\t ")
		if len(t) > tailBytes {
			t = t[len(t)-tailBytes:]
		}
		if len(bytes.TrimSpace(t)) == 0 {
			continue
		}
		lines := bytes.Split(t, []byte("\n"))
		if len(lines) > tailLines {
			lines = lines[len(lines)-tailLines:]
		}
		return string(bytes.ToValidUTF8(bytes.Join(lines, []byte("\n")), []byte("?")))
	}
	return ""
}

// drained takes a rank that is forgotten out of its peer's account.
func (c *Core) drained(k *rank) {
	p := c.route(k.gang.sink.agent)
	if p == nil {
		return
	}
	for i := range k.streams {
		p.outstanding = max(0, p.outstanding-int(k.streams[i].sent-k.streams[i].base))
	}
	c.unhold(p)
}
