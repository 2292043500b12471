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
