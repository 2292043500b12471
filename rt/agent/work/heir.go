package work

import "github.com/maniple-hpc/maniple/transport/wire/id"

// What an agent has written to a directory that nodes share outlives it. Those whose values lay there inherit them: before the shell tells the core
// that the agent is gone it looks which of its values it finds there, takes them into its Store, and tells of them by Inherited.

// Inherited: the value of an object that stayed away at another agent, Process, which is about to be gone, lies in the Store's files now.
type Inherited struct {
	Process id.Process
	Object  id.Object
}

func (Inherited) event() {}

// Estate is a value that stayed away.
type Estate struct {
	Object id.Object
	Size   uint64
	Job    uint32
}

// Estates are the values of this agent that stayed away at another one.
func (c *Core) Estates(at id.Process) (list []Estate) {
	p := c.byProcess[at]
	if p == nil {
		return nil
	}
	for _, o := range p.lends {
		if o.state == objectAway {
			m, _ := c.readResult(o.value)
			list = append(list, Estate{o.id(), m.Size, p.job.number})
		}
	}
	return list
}

func (c *Core) onInherited(ev Inherited) {
	p, o := c.byProcess[ev.Process], c.lookup(ev.Object)
	if p == nil || o == nil || o.state != objectAway || c.home(o) != p { // it is not wanted any more, or came
		if o == nil || !o.placed {
			c.cfg.Store.Free(ev.Object)
		}
		return
	}
	c.arriveHome(o, c.fetched(&fetch{object: ev.Object, frame: o.value}, Fetched{Process: ev.Process, Object: ev.Object}))
}
