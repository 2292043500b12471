package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Calls to one group of methods never keep those to another from going to the actor: neither by the
// method's own group nor by one that the call has chosen.
func TestGroupsHaveRoomOfTheirOwn(t *testing.T) {
	s := &script{t: t}
	for _, line := range []string{"core CPU:1 auto", "driver d", "function d C class", "methods d C slow get", "shape d 2", "create d a C groups=io:1:get", "result w1 a"} {
		s.do(line)
	}
	for i := range callsAhead + 10 {
		s.do(fmt.Sprintf("call d c%d a 0", i))
	}
	given := func() int { return strings.Count(strings.Join(s.w.log, "\n"), "<- Call ") }
	if n := given(); n != callsAhead+1 {
		t.Fatalf("%d calls of 73 were given to the actor, want %d", n, callsAhead+1)
	}
	s.do("call d own a 1")
	s.do(fmt.Sprintf("call d chosen a %d", 1<<groupShift))
	s.do("call d waits a 0")
	if n := given(); n != callsAhead+3 {
		t.Errorf("%d calls were given to the actor, want those to the group, too: %d", n, callsAhead+3)
	}
	s.w.send("w1", &fb.ResultT{Task: taskT(s.w.task("c0")), Flags: 1}, nil)
	if n := given(); n != callsAhead+4 {
		t.Errorf("%d calls were given to the actor, want one more after a result: %d", n, callsAhead+4)
	}
}

// A call that comes late takes its turn, and calls that wait for each other are explained and no more.
func TestCallsTakeTheirTurn(t *testing.T) {
	w := newWorld(t, Config{})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", 20_000}}})
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.send("d", &fb.MethodsT{Function: numberOf("f"), Names: []string{"m"}}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Bundle: -1}, nil)
	a := w.mint("d", "a")
	w.send("d", &fb.CreateT{Actor: taskT(a), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, MaxPending: -1}, nil)
	var calls []*task
	for i, name := range []string{"first", "second", "third"} {
		m := &fb.CallT{Task: taskT(w.mint("d", name)), Parent: &fb.TaskIDT{}, Actor: taskT(a), Job: 1, Shape: 1, Returns: 1}
		var args []byte
		if i == 1 {
			m.Deps, args = 1, objectBytes(w.object("first"))
		}
		w.send("d", m, args)
		calls = append(calls, w.core.entries[w.ids[name]].task)
	}
	lane := &calls[0].lane.queue
	lane.remove(calls[0])
	lane.push(calls[0]) // behind who waits for it
	calls[0].actor.phase = fb.ActorPhaseAlive
	if text := w.core.explainTask(calls[0]); !strings.Contains(text, "an earlier call of the same process") {
		t.Errorf("the first waits for %s", text)
	}
	lane.remove(calls[0])
	lane.pushInTurn(calls[0])
	for i, k := 0, lane.head; i < len(calls); i, k = i+1, k.listed {
		if k != calls[i] {
			t.Fatalf("call %d is %v", i, k.id())
		}
	}
	calls[0].actor.phase = fb.ActorPhasePending
}
