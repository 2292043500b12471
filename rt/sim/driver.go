package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Driver is a program that submits tasks, creates actors, puts, gets, waits, kills, cancels and makes groups. Whatever it
// asks for it is told, a value or an error, as long as its node's agent lives.
type Driver struct {
	*proc
	Submitted int
	Codes     []string // of the errors that it was told of
	actors    []id.Task
	groups    []*drivenGroup
}

type drivenGroup struct {
	id    id.Task
	shape uint32
	ended bool
}

// Drive starts a driver on a node whose agent is up.
func (c *Cluster) Drive(n *Node) *Driver {
	d := &Driver{proc: &proc{}}
	d.hears = d.take
	n.attach(fb.AttachKindDriver, 0, d.proc)
	c.drivers = append(c.drivers, d)
	return d
}

// driving counts the drivers that are there.
func (c *Cluster) driving() (n int) {
	for _, d := range c.drivers {
		if d.Here() {
			n++
		}
	}
	return n
}

// Here tells whether the driver is attached, and its agent lives.
func (d *Driver) Here() bool { return d.at != nil && !d.gone && !d.closed && !d.agent.gone }

func (d *Driver) take(m wire.Message, _ uint64, payload []byte) {
	switch m := m.(type) {
	case *fb.ResultT:
		if f, err := wire.Unmarshal(fb.FrameTypeFailure, payload[min(int(m.Refs)*objectSize, len(payload)):]); err == nil && m.Flags&uint32(fb.ResultFlagError) != 0 {
			d.Codes = append(d.Codes, f.(*fb.FailureT).Code+": "+f.(*fb.FailureT).Message)
		}
		for _, o := range d.took(m, payload) {
			if d.c.rng.IntN(2) == 0 {
				d.drop(o)
			}
		}
	case *fb.ReadyT:
		if r := d.held[id.Object{Task: task(m.Object.Task), Index: m.Object.Index}]; r != nil {
			r.asked = max(r.asked-1, 0)
		}
	case *fb.GroupUpdateT:
		for _, g := range d.groups {
			g.ended = g.ended || g.id == task(m.Group) && m.Phase == fb.GroupPhaseEnded
		}
	case *fb.GoodbyeT:
		d.end(0, 0)
	}
}

// Act does one thing, at random.
func (d *Driver) Act(r *rand.Rand) {
	switch k := r.IntN(100); {
	case k < 4:
		d.Plant(tree{uint8(1 + r.IntN(4)), uint8(1 + r.IntN(3))}, steady)
	case k < 50:
		shape := uint32(1 + r.IntN(firstGPU-2))
		if d.c.cfg.GPUs > 0 && r.IntN(3) == 0 {
			shape = uint32(firstGPU + r.IntN(len(shapes)-firstGPU+1))
		}
		d.submit(r, shape)
	case k < 55:
		t := d.mint()
		d.send(&fb.PutT{Object: objectT(id.Object{Task: t})}, []byte("value"))
		d.reference(id.Object{Task: t}).n, d.held[id.Object{Task: t}].own = 1, true
	case k < 65:
		for _, o := range d.some(r, 1) {
			d.send(&fb.GetT{Object: objectT(o), Want: fb.Want(1 + r.IntN(3))}, nil)
			d.held[o].asked++
		}
	case k < 68 && len(d.actors) < 3:
		d.create(r)
	case k < 80 && len(d.actors) > 0:
		d.call(d.actors[r.IntN(len(d.actors))])
	case k < 84:
		for _, o := range d.some(r, 1) {
			if d.held[o].own {
				d.send(&fb.CancelT{Task: taskT(o.Task), Force: uint32(r.IntN(2)), Recursive: uint32(r.IntN(2))}, nil)
			}
		}
	case k < 86 && len(d.groups) < 4:
		d.group(r)
	case k < 90 && len(d.groups) > 0:
		g := d.groups[r.IntN(len(d.groups))]
		if r.IntN(4) == 0 {
			d.send(&fb.GroupCancelT{Group: taskT(g.id), Mode: fb.CancelModeStop, Reason: "its maker removed it"}, nil)
		} else {
			d.submit(r, g.shape)
		}
	default:
		for _, o := range d.some(r, 2) {
			if !slices.Contains(d.actors, o.Task) || r.IntN(4) == 0 {
				d.forget(o)
			}
		}
	}
}

// some gives up to n of what the driver holds.
func (d *Driver) some(r *rand.Rand, n int) (list []id.Object) {
	for range r.IntN(n + 1) {
		if len(d.keys) > 0 {
			if o := d.keys[r.IntN(len(d.keys))]; !slices.Contains(list, o) {
				list = append(list, o)
			}
		}
	}
	return list
}

func (d *Driver) forget(o id.Object) {
	d.actors = slices.DeleteFunc(d.actors, func(t id.Task) bool { return t == o.Task })
	for d.held[o] != nil {
		d.drop(o)
	}
}

func (d *Driver) submit(r *rand.Rand, shape uint32) {
	define(d.proc)
	deps, refs := d.some(r, 2), d.some(r, 1)
	t, returns := d.mint(), uint32(1)
	if r.IntN(8) == 0 {
		returns = uint32(r.IntN(4))
	}
	d.send(&fb.SubmitT{Task: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: d.at.Job, Shape: shape, Returns: returns, Deps: uint32(len(deps)), Refs: uint32(len(refs))},
		objectBytes(append(deps, refs...)...))
	d.expect(t, returns)
	d.Submitted++
}

func (d *Driver) create(r *rand.Rand) {
	define(d.proc)
	t := d.mint()
	d.send(&fb.CreateT{Actor: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("C"), Job: d.at.Job, Shape: d.actorShape(r), MaxRestarts: int32(r.IntN(3) - 1), MaxTaskRetries: int32(r.IntN(2)), MaxPending: -1}, nil)
	d.expect(t, 1)
	d.actors = append(d.actors, t)
}

// actorShape is of an actor that needs a CPU, nothing, half a CPU or, where there are some, half a GPU.
func (d *Driver) actorShape(r *rand.Rand) uint32 {
	return []uint32{1, 5, 6, firstGPU + 1}[r.IntN(3+min(d.c.cfg.GPUs, 1))]
}

func (d *Driver) call(actor id.Task) {
	t := d.mint()
	d.send(&fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: d.at.Job, Shape: 5, Returns: 1}, nil)
	d.expect(t, 1)
	d.Submitted++
}

func (d *Driver) group(r *rand.Rand) {
	define(d.proc)
	g := &drivenGroup{id: d.mint(), shape: uint32(100 + len(d.groups))}
	m := &fb.GroupCreateT{Group: taskT(g.id), Name: fmt.Sprintf("driven-%v", g.id), Strategy: fb.Strategy(r.IntN(3))}
	needs := cpus(10_000)
	if d.c.cfg.GPUs > 0 && r.IntN(2) == 0 {
		needs = gpus(10_000, 5_000)
	}
	for range 1 + r.IntN(3) {
		m.Bundles = append(m.Bundles, &fb.BundleT{Resources: needs})
	}
	d.send(m, nil)
	d.send(&fb.ShapeT{Number: g.shape, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Retries: 3, Bundle: -1, Group: taskT(g.id)}, nil)
	d.groups = append(d.groups, g)
}

// LetGo drops all that the driver holds.
func (d *Driver) LetGo() {
	for len(d.keys) > 0 {
		d.forget(d.keys[0])
	}
}

// Free kills the driver's actors and removes its groups, for which tasks may wait.
func (d *Driver) Free() {
	for _, t := range d.actors {
		d.send(&fb.CancelT{Task: taskT(t), Force: 1}, nil)
	}
	for _, g := range d.groups {
		if !g.ended {
			d.send(&fb.GroupCancelT{Group: taskT(g.id), Mode: fb.CancelModeStop, Reason: "its maker is done"}, nil)
		}
	}
}

// Waits says what the driver was to be told of and was not, and why; nothing, if it is gone.
func (d *Driver) Waits() (list []string) {
	if !d.Here() {
		return nil
	}
	for _, o := range d.waits() {
		text := fmt.Sprintf("driver %d on %s was not told of %v: %s", d.pid, d.node.host.name, o, d.agent.shell.Explain(o.Task))
		for _, n := range d.c.nodes {
			if n.agent != nil && n.agent != d.agent {
				text += fmt.Sprintf("; %s: %s", n.host.name, n.agent.shell.Explain(o.Task))
			}
		}
		list = append(list, text)
	}
	return list
}

// Plant submits a task that starts a tree of others, on whichever nodes there are.
func (d *Driver) Plant(of tree, p pace) { d.plant(of, p, 4) }

func (d *Driver) plant(of tree, p pace, shape uint32) id.Object {
	define(d.proc)
	t := d.mint()
	d.send(&fb.SubmitT{Task: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: d.at.Job, Shape: shape, Returns: 1}, of.payload(p))
	d.expect(t, 1)
	d.Submitted++
	return id.Object{Task: t}
}

// shapes are what tasks ask for, by number less one.
var shapes = []*fb.ShapeT{
	{Resources: cpus(10_000), Retries: 3},
	{Resources: cpus(10_000)},
	{Resources: cpus(20_000), Retries: 1, RetryExceptions: true},
	{Resources: cpus(10_000), Retries: 3, Strategy: "spread"},
	{},
	{Resources: cpus(5_000), Retries: 3},
	{Resources: gpus(5_000, 2_500), Retries: 3},
	{Resources: gpus(0, 5_000), Retries: 1},
	{Resources: gpus(10_000, 10_000), Retries: 3},
}

// firstGPU is the first shape that needs GPUs.
const firstGPU = 7

func gpus(cpu, gpu int64) []*fb.ResourceT {
	return append(cpus(cpu), &fb.ResourceT{Name: "GPU", Amount: gpu})
}

func cpus(n int64) []*fb.ResourceT { return []*fb.ResourceT{{Name: "CPU", Amount: n}} }

// define says functions, classes and shapes, once.
func define(p *proc) {
	if p.defined {
		return
	}
	p.defined = true
	for _, name := range []string{"f", "C"} {
		hash := sha256.Sum256([]byte(name))
		p.send(&fb.FunctionT{Hash: hash[:], Name: name, Language: "python", Class_: name == "C"}, []byte("code"))
	}
	p.send(&fb.MethodsT{Function: numberOf("C"), Names: []string{"m"}}, nil)
	for i, s := range shapes {
		m := *s
		m.Number, m.Bundle = uint32(i+1), -1
		p.send(&m, nil)
	}
}

func numberOf(name string) uint64 {
	hash := sha256.Sum256([]byte(name))
	return binary.LittleEndian.Uint64(hash[:])
}
