package work

import (
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A task that gives a stream is held by what its reader has not taken. The worker that runs it counts, as only it knows what it has given; the reader says
// how far it is. Here that is passed on, and kept: another attempt begins at the first item, and has to know what was taken already.

// forReader is Awaits.timed of a task that waits for its reader.
const forReader = 2

// allTaken is the index of a Get of what was taken when nothing is to wait for a reader any more.
const allTaken = 1<<32 - 1

// onTaken takes in how far the reader of a stream is.
func (c *Core) onTaken(p *process, name id.Object) {
	e := c.entries[name.Task]
	if e == nil || e.task == nil || e.task.owner != p || !e.task.streams() { // it has ended meanwhile
		c.strays++
		return
	}
	c.tookTo(e.task, name.Index)
}

// tookTo notes how far a task's reader is.
func (c *Core) tookTo(t *task, index uint32) {
	if index > t.taken {
		t.taken = index
		c.tellTaken(t)
	}
}

// tellTaken tells who runs a task how far its reader is.
func (c *Core) tellTaken(t *task) {
	if t.taken == 0 || t.worker == nil || t.worker.process == nil || t.worker.process.gone {
		return
	}
	b := c.start(t.worker.process, fb.FrameTypeGet, wire.GetSize, 0)
	wire.PutGet(b, &fb.GetT{Object: &fb.ObjectIDT{Task: taskT(t.id()), Index: t.taken}, Want: fb.WantTaken})
}

// explainRunning says what a task waits for that a process here has.
func (c *Core) explainRunning(t *task) string {
	switch {
	case t.blocked && t.waitsOf().reader:
		return fmt.Sprintf("its reader, who had taken %d of its %d results when that was heard last", t.taken, t.items)
	case t.blocked:
		for _, name := range t.waitsOf().objects {
			if why := c.explainCached(name); why != "" {
				return why
			}
		}
		return "objects: it runs and waits in get or wait"
	}
	return fmt.Sprintf("nothing: it runs in process %d", t.worker.process.id)
}
