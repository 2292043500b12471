package work

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// A task that is cancelled with its children, of which one is all that keeps another from being a chain that never ends.
func TestCancelOfAChainsLastHope(t *testing.T) {
	w := newWorld(t, Config{})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", one}, {"GPU", one}}, Devices: []string{"g0"}})
	w.attach("d", Driver, 1, 0)
	define := func(p string) {
		w.send(p, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
		w.send(p, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "GPU", Amount: one}}, Bundle: -1}, nil)
		w.send(p, &fb.ShapeT{Number: 2, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1}, nil)
	}
	submit := func(p, name string, parent *fb.TaskIDT, shape uint32) {
		w.send(p, &fb.SubmitT{Task: taskT(w.mint(p, name)), Parent: parent, Function: numberOf("f"), Job: 1, Shape: shape, Returns: 1}, nil)
	}
	define("d")
	submit("d", "other", &fb.TaskIDT{}, 2) // has the CPU
	submit("d", "parent", &fb.TaskIDT{}, 1)
	parent := taskT(w.task("parent"))
	at := w.who[w.core.entries[w.task("parent")].task.worker.process.id]
	define(at)
	submit(at, "stuck", parent, 1)
	submit(at, "hope", parent, 2)
	w.send(at, &fb.BlockedT{Task: parent}, nil)
	w.send("d", &fb.CancelT{Task: parent, Recursive: 1}, nil)
	for _, name := range []string{"stuck", "hope"} {
		if e := w.core.entries[w.task(name)]; e == nil || e.task != nil || e.first.state != objectFailed {
			t.Errorf("%s is not over", name)
		}
	}
}

// What a task is its process is told, which may end the worker of one and not that of a call.
func TestKindsOfTasks(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	actor, _ := p.make(0, 1, "", false)
	call, task := p.invoke(0, 1, actor), p.submit(nil, nil)
	for name, kind := range map[string]string{actor.String(): "actor", call.String(): "call", task.String(): "task", "1.1.99": "", "what": ""} {
		if is := p.cores[0].kindOf(name); is != kind {
			t.Errorf("%s is %q, want %q", name, is, kind)
		}
	}
}
