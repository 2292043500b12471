package work

import (
	"encoding/binary"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// frame is one frame, cut out of a batch.
type frame struct {
	kind          fb.FrameType
	corr          uint64
	whole         []byte
	body, payload []byte
}

// cut gives the frame that b begins with, and the rest.
func cut(b []byte) (f frame, rest []byte, ok bool) {
	if len(b) < wire.HeaderSize {
		return f, nil, false
	}
	length, body := binary.LittleEndian.Uint32(b[0:]), binary.LittleEndian.Uint32(b[4:])
	if length > wire.MaxMessage || int(length) > len(b)-wire.HeaderSize || body > length || b[11]&^wire.FlagDescriptor != 0 {
		return f, nil, false
	}
	end := wire.HeaderSize + int(length)
	f.kind = fb.FrameType(binary.LittleEndian.Uint16(b[8:]))
	f.corr = binary.LittleEndian.Uint64(b[24:])
	f.whole = b[:end:end]
	f.body = f.whole[wire.HeaderSize : wire.HeaderSize+body]
	f.payload = f.whole[wire.HeaderSize+body:]
	return f, b[end:], true
}

const objectSize = wire.ObjectIDSize

// objectAt reads the object's ID at place i of a list of them.
func objectAt(b []byte, i int) id.Object {
	b = b[i*objectSize:]
	return id.Object{
		Task: id.Task{
			Agent:   id.Agent(binary.LittleEndian.Uint32(b[0:])),
			Process: id.Process(binary.LittleEndian.Uint32(b[4:])),
			Counter: binary.LittleEndian.Uint64(b[8:]),
		},
		Index: binary.LittleEndian.Uint32(b[16:]),
	}
}

func objectOf(o *fb.ObjectIDT) id.Object { return id.Object{Task: taskOf(o.Task), Index: o.Index} }

// room makes room for n bytes at the end of what will be sent to p.
func (c *Core) room(p *process, n int) []byte {
	if !p.dirty {
		p.dirty, p.told = true, c.now
		c.dirty = append(c.dirty, p)
	}
	at := len(p.out)
	p.out = slices.Grow(p.out, n)[:at+n]
	return p.out[at:]
}

// start begins a frame to p with a struct as body, and gives the place for the body and the payload.
func (c *Core) start(p *process, kind fb.FrameType, body, payload int) []byte {
	b := c.room(p, wire.HeaderSize+body+payload)
	wire.PutHeader(b, wire.Header{Length: uint32(body + payload), Body: uint32(body), Type: kind, Class: wire.ClassOf(kind)})
	return b[wire.HeaderSize:]
}

// forward appends bytes that are whole frames. Those that are large and the garbage collector's are not
// copied: they never change.
func (c *Core) forward(p *process, b []byte) {
	if p.gone {
		return
	}
	if cap(b) > largest && len(b) > largest/2 {
		c.room(p, 0)
		c.flush(p)
		c.out = append(c.out, Effect{Do: Append, Process: p.id, Bytes: b})
		return
	}
	copy(c.room(p, len(b)), b)
}

// flush makes an effect of what was appended and has none yet.
func (c *Core) flush(p *process) {
	if len(p.out) > p.mark {
		c.out = append(c.out, Effect{Do: Append, Process: p.id, Bytes: p.out[p.mark:]})
		p.mark = len(p.out)
	}
}

// table sends a message that is seldom.
func (c *Core) table(p *process, m wire.Message, corr uint64, payload []byte) {
	if p == nil || p.gone {
		return
	}
	c.forward(p, c.encode(m, corr, payload))
}

// encode gives the frame of a message in memory of its own.
func (c *Core) encode(m wire.Message, corr uint64, payload []byte) []byte {
	body, err := wire.Marshal(c.builder, m)
	if err != nil { // larger than any message may be: made of texts that are too long
		return nil
	}
	kind := wire.TypeOf(m)
	b := make([]byte, wire.HeaderSize+len(body)+len(payload))
	wire.PutHeader(b, wire.Header{Length: uint32(len(body) + len(payload)), Body: uint32(len(body)), Type: kind, Class: wire.ClassOf(kind), Corr: corr})
	copy(b[wire.HeaderSize:], body)
	copy(b[wire.HeaderSize+len(body):], payload)
	return b
}

// resultFrame makes the Result frame of an object, in the core's memory.
func (c *Core) resultFrame(o id.Object, attempt uint32, flags fb.ResultFlag, format fb.Format, refs uint32, payload []byte) []byte {
	b := c.memory.take(wire.HeaderSize + wire.ResultSize + len(payload))
	wire.PutHeader(b, wire.Header{Length: uint32(wire.ResultSize + len(payload)), Body: wire.ResultSize, Type: fb.FrameTypeResult, Class: wire.ClassOf(fb.FrameTypeResult)})
	m := c.read.write
	*m = fb.ResultT{Task: m.Task, Index: o.Index, Attempt: attempt, Flags: uint32(flags), Format: format, Refs: refs,
		Size: uint64(len(payload) - int(refs)*objectSize)}
	setTask(m.Task, o.Task)
	wire.PutResult(b[wire.HeaderSize:], m)
	copy(b[wire.HeaderSize+wire.ResultSize:], payload)
	return b
}

// readResult reads the frame of a value that is kept.
func (c *Core) readResult(frame []byte) (*fb.ResultT, []byte) {
	m := c.read.write
	_ = wire.ReadResult(frame[wire.HeaderSize:wire.HeaderSize+wire.ResultSize], m) // it was made or checked here
	return m, frame[wire.HeaderSize+wire.ResultSize:]
}

// failure is the payload of an error that the runtime tells.
func (c *Core) failure(code, text string, t id.Task) []byte {
	body, err := wire.Marshal(c.builder, &fb.FailureT{Code: code, Type: code, Message: text, Node: c.cfg.Node, Task: taskT(t)})
	if err != nil {
		return nil
	}
	return body
}
