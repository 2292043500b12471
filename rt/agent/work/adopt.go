package work

import (
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A detached actor with a name and restarts left does not end with its agent: the head keeps what it takes to make it, and has another agent do
// that. It is the same actor, with its ID, in its next life; its job has no driver, as that of any detached actor.

// maxSpec is how large that may be, which the head keeps for as long as the actor lives.
const maxSpec = 48 << 10

// claim asks the head for an actor's name, without which it is not made, or tells it of another life.
func (c *Core) claim(a *actor) {
	c.out = append(c.out, Effect{Do: Claim, Group: a.id(), Name: &Name{Namespace: a.table.Namespace_, Name: a.table.Name, Detached: a.detached,
		Restarts: a.restarts, MaxRestarts: a.table.MaxRestarts, Job: a.job.number, Spec: c.spec(a)}})
}

// spec is what another agent needs to make an actor: the frames that say its class and how to construct it; nil if there is more to it.
func (c *Core) spec(a *actor) []byte {
	t, cl := a.create, a.class
	if !a.detached || a.table.MaxRestarts == 0 || t.deps+t.refs > 0 || cl.packaged() || cl.group != (id.Task{}) || len(a.function.frame)+len(t.frame) > maxSpec {
		return nil
	}
	shape, table := *cl.table, *a.table
	shape.Number, table.Shape, table.Job, table.Parent = 1, 1, 0, &fb.TaskIDT{}
	b := slices.Concat(a.function.frame, a.function.methods, c.encode(&shape, 0, nil), c.encode(&table, 0, t.args()))
	if len(b) > maxSpec {
		return nil
	}
	return b
}

// packaged tells whether tasks of a class need files of their driver's, which go by way of its agent.
func (cl *class) packaged() bool {
	e := cl.table.Environment
	return strings.Contains(e, `"working_dir"`) || strings.Contains(e, `"py_modules"`)
}

// onAdopt makes an actor whose agent is dead.
func (c *Core) onAdopt(ev Adopt) {
	if e := c.entries[ev.Actor]; e != nil && e.actor != nil && !e.actor.proxy && e.actor.phase != fb.ActorPhaseDead {
		return // said twice
	}
	j := c.jobOf(ev.Job)
	j.over = true
	for b := ev.Spec; len(b) > 0; {
		f, rest, ok := cut(b)
		if !ok {
			break
		}
		b = rest
		m, err := wire.Unmarshal(f.kind, f.body)
		if err != nil {
			break
		}
		switch m := m.(type) {
		case *fb.FunctionT:
			c.onFunction(j.home, m, f)
		case *fb.MethodsT:
			c.onMethods(j.home, m, f)
		case *fb.ShapeT:
			c.onShape(j.home, m)
		case *fb.CreateT:
			c.adoptActor(j, m, f, ev)
		}
	}
	if e := c.entries[ev.Actor]; e == nil || e.actor == nil || e.actor.proxy {
		c.out = append(c.out, Effect{Do: Free, Group: ev.Actor})
	}
	c.forget(j)
}

func (c *Core) adoptActor(j *job, m *fb.CreateT, f frame, ev Adopt) {
	fn := j.functions[m.Function]
	if fn == nil || taskOf(m.Actor) != ev.Actor || m.Deps+m.Refs > 0 || !m.Detached || m.Name == "" {
		return
	}
	cl := c.class(j.home, m.Shape, fn.language, unsaid{})
	if cl == nil {
		return
	}
	var old *actor
	if e := c.entries[ev.Actor]; e != nil {
		if e.task != nil {
			return
		}
		if o := e.first; o != nil { // handles of it are here
			c.unlend(o)
			o.set(markLost, false)
		}
		if old = e.actor; old != nil && old.proxy {
			c.endProxy(old)
		}
	}
	t := c.newTask(j.home, f, create, ev.Actor, nil, 0, 0, 1)
	a := c.newActor(t, m, f, fn, cl, uint32(ev.Restarts)+1)
	a.restarts = ev.Restarts
	c.redirectAll(old)
	c.unhold(c.holderOf(j.home, t.entry.first)) // nobody has asked for it
	a.naming = true                             // the head has given it the name: if another one here asks for that, it learns so
	t.missing++
	c.claim(a)
	c.begin(t)
}
