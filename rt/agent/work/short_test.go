package work

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

const mib = int64(1) << 20

// crowd is a world of eight CPUs in which some lines of a script were done.
func crowd(t *testing.T, lines ...string) *script {
	s := &script{t: t}
	s.do("core CPU:8 auto")
	for _, line := range lines {
		s.do(line)
	}
	return s
}

// short says that memory is nearly used up, and who has it: "w1:500 driver:80".
func (s *script) short(uses string) {
	s.w.log = nil
	ev := Short{Text: "1.9 GiB of 2 GiB (test)"}
	for part := range strings.FieldsSeq(uses) {
		name, size, _ := strings.Cut(part, ":")
		u := Used{Process: s.w.procs[name], Name: name}
		if !strings.HasPrefix(name, "w") {
			u.Process = 0
		}
		_, _ = fmt.Sscan(size, &u.Bytes)
		u.Bytes *= mib
		u.PID = 1000 + int(u.Process)
		ev.Uses = append(ev.Uses, u)
	}
	s.w.step(ev)
}

// said is what came of the last step.
func (s *script) said() string { return strings.Join(s.w.log, "\n") }

const shapes = `driver d
driver e job=2
function d f
function e f
function d C class
methods d C m
shape d 1 CPU:1
shape d 2 CPU:1 retries=0
shape e 1 CPU:1
shape d 3`

// WORK-12: who is ended when memory is short.
func TestVictims(t *testing.T) {
	for _, c := range []struct{ what, begin, uses, want string }{
		{"the newest of those that may be tried again", "submit d a f|submit d b f|submit d c f shape=2", "w1:500 w2:500 w3:500", "w2"},
		{"the submitter that has most goes first", "submit d a f|submit d b f|submit e c f", "w1:500 w2:500 w3:500", "w2"},
		{"who has little is spared", "submit d a f|submit d b f", "w1:900 w2:100", "w1"},
		{"what can't be tried again is last", "submit d a f|submit d b f shape=2", "w1:300 w2:1000", "w1"},
		{"unless all others together have little", "submit d a f|submit d b f shape=2", "w1:100 w2:1000", "w2"},
		{"an actor that comes back is like a task", "create d a C shape=1 restarts=1|result w1 a|submit d b f shape=2", "w1:500 w2:500", "w1"},
		{"an actor that does not is not", "submit d b f|create d a C shape=1|result w2 a", "w1:300 w2:1000", "w1"},
		{"an idle worker is the first", "submit d a f|submit d b f|result w2 b", "w1:300 w2:290", "w2"},
		{"nobody, if all have little beside something else", "submit d a f|submit d b f", "w1:100 w2:100 driver:1000", ""},
	} {
		s := crowd(t, strings.Split(shapes, "\n")...)
		for line := range strings.SplitSeq(c.begin, "|") {
			s.do(line)
		}
		s.short(c.uses)
		killed := ""
		for _, line := range s.w.log {
			if name, found := strings.CutPrefix(strings.TrimSpace(line), "kill "); found {
				killed, _, _ = strings.Cut(name, ":")
			}
		}
		if killed != c.want {
			t.Errorf("%s: %q was ended, not %q:\n%s", c.what, killed, c.want, s.said())
		}
	}
}

// A task whose worker was ended for want of memory is tried again, later each time, a bounded number of times, whatever its retries; then
// it fails, and says who had what.
func TestTriedAgainForMemory(t *testing.T) {
	s := crowd(t, "driver d", "function d f", "shape d 1 CPU:1 retries=1", "submit d a f")
	for try := 1; ; try++ {
		worker := fmt.Sprintf("w%d", try)
		s.short(worker + ":1500 driver:80")
		if !strings.Contains(s.said(), "MEMORY_SHORT") || !strings.Contains(s.said(), "1.5 GiB f (") || !strings.Contains(s.said(), "80 MiB driver") {
			t.Fatalf("try %d: %s", try, s.said())
		}
		s.short(worker + ":1500") // it ends: nobody else is ended meanwhile
		if len(s.w.log) > 0 {
			t.Fatalf("while one ends: %s", s.said())
		}
		s.do("gone " + worker)
		if try > memoryTries {
			break
		}
		wait := time.Second << (try - 1)
		if text := s.w.core.Explain(s.w.ids["a"]); !strings.Contains(text, "the next try in "+wait.String()) {
			t.Fatalf("try %d: %s", try, text)
		}
		s.w.now += int64(wait) - 1
		s.w.step(Tick{})
		if strings.Contains(s.said(), "Submit a") {
			t.Fatalf("try %d came too soon", try+1)
		}
		s.w.now++
		s.w.step(Tick{})
		if !strings.Contains(s.said(), "Submit a") {
			t.Fatalf("try %d did not come: %s", try+1, s.said())
		}
	}
	if said := s.said(); !strings.Contains(said, "OUT_OF_MEMORY") || !strings.Contains(said, "1.9 GiB of 2 GiB (test)") || !strings.Contains(said, "it went 6 times") {
		t.Error(said)
	}
}

// What waits while workers are ended for want of memory and made again is told that first, and no longer once there is enough.
func TestExplainOfMemory(t *testing.T) {
	s := crowd(t, "driver d", "function d f", "function d C class", "methods d C m", "shape d 1 CPU:1 retries=1", "shape d 2 CPU:8", "shape d 3", "submit d a f", "submit d b f shape=2", "create d x C shape=1 restarts=1", "result w2 x")
	why := func(name string) string { return s.w.core.Explain(s.w.ids[name]) }
	first := "waits for memory: node n1 has nearly used up its memory, 1.9 GiB of 2 GiB (test): 1.5 GiB "
	if text := why("b"); !strings.Contains(text, "waits for 8 CPU: ") {
		t.Errorf("before: %s", text)
	}
	s.short("w1:1500 driver:80")
	if text := why("b"); !strings.Contains(text, first+"f (") || !strings.Contains(text, "; and then 8 CPU: ") {
		t.Errorf("while a worker is ended: %s", text)
	}
	s.do("gone w1")
	if text := why("a"); !strings.Contains(text, first) || !strings.Contains(text, "; and then the next try in 1s") {
		t.Errorf("its task: %s", text)
	}
	if text := why("b"); strings.Contains(text, "memory") {
		t.Errorf("one that waits for CPUs: %s", text)
	}
	s.do("cancel d b")
	s.w.auto = false
	s.w.now += memoryWait
	s.short("w2:1500")
	s.do("gone w2")
	s.do("call d c x 0 shape=3")
	s.do("wait 1s")
	for _, name := range []string{"a", "x"} {
		if text := why(name); !strings.Contains(text, first) || !strings.Contains(text, "; and then its worker, which starts") {
			t.Errorf("%s, whose worker starts: %s", name, text)
		}
	}
	if text := why("c"); !strings.Contains(text, "which is restarting and waits for memory: ") {
		t.Errorf("a call of the actor: %s", text)
	}
	s.do("wait 10s")
	if text := why("a"); strings.Contains(text, "memory") {
		t.Errorf("when there is enough: %s", text)
	}
}

// Of workers that did not start what waits says so.
func TestExplainOfWorkersThatDoNotStart(t *testing.T) {
	s := &script{t: t}
	for _, line := range []string{"core CPU:8", "driver d", "function d f", "shape d 1 CPU:1", "submit d a f", "failed why={fork: no memory}"} {
		s.do(line)
	}
	if text := s.w.core.Explain(s.w.ids["a"]); !strings.Contains(text, "its worker, which starts; 1 before it did not start: fork: no memory") {
		t.Error(text)
	}
}

// What the kernel ended counts like what was ended before it; max_retries=0 means no other try.
func TestKernelEndsOne(t *testing.T) {
	s := crowd(t, "driver d", "function d f", "shape d 1 CPU:1 retries=0", "submit d a f")
	s.w.log = nil
	s.w.step(ProcessGone{Process: s.w.procs["w1"], Why: "the kernel ended it", Memory: true})
	if said := s.said(); !strings.Contains(said, "OUT_OF_MEMORY") || !strings.Contains(said, "max_retries=0") {
		t.Error(said)
	}
}

// Calls of an actor that was ended for want of memory fail with that; one that may come back does, after a while.
func TestActorEndedForMemory(t *testing.T) {
	for restarts, want := range map[int]string{0: "OUT_OF_MEMORY", 1: "ACTOR_UNAVAILABLE"} {
		s := crowd(t, "driver d", "function d C class", "methods d C m", "shape d 1 CPU:1", "shape d 2", "shape d 3 retries=0",
			fmt.Sprintf("create d a C restarts=%d", restarts), "result w1 a", "call d c a 0 shape=3")
		s.short("w1:1500")
		s.do("gone w1")
		if said := s.said(); !strings.Contains(said, want) || !strings.Contains(said, "1.9 GiB of 2 GiB") {
			t.Errorf("%d restarts: %s", restarts, said)
		}
		if s.w.log = nil; restarts == 0 {
			s.do("call d late a 0 shape=3")
			if !strings.Contains(s.said(), want) {
				t.Errorf("a later call: %s", s.said())
			}
		}
		s.w.now += int64(time.Second)
		s.w.step(Tick{})
		if got := strings.Contains(s.said(), "Create a"); got != (restarts > 0) {
			t.Errorf("%d restarts: made again: %v", restarts, got)
		}
		if a := s.w.core.entries[s.w.ids["a"]].actor; restarts == 0 && a.phase != fb.ActorPhaseDead {
			t.Errorf("it is %s", a.phase)
		}
	}
}

// killedBySignal is how workers of random histories end, which the kernel may have done for want of memory.
const killedBySignal = "killed by signal 9"

// short has the memory of a node nearly used up, by its workers or by something else.
func (h *history) short(s *site) {
	ev := Short{Text: "all of it", Uses: []Used{{Name: "driver", Bytes: h.rng.Int64N(100)}, {Process: 1 << 20, Bytes: 7}}}
	for _, p := range h.peers {
		if p.at == s && !p.dead {
			ev.Uses = append(ev.Uses, Used{Process: p.id, Bytes: h.rng.Int64N(1000)})
		}
	}
	h.step(s, ev)
}

// rested lets the time come in which tasks are tried again; false: none waits for that.
func (h *history) rested(s *site) bool {
	next := int64(0)
	for _, p := range s.core.submitters() {
		for t := p.tasks.head; t != nil; t = t.ownedAfter {
			next = max(next, t.rests)
		}
	}
	if next > 0 {
		h.now = max(h.now, next)
		h.step(s, Tick{})
	}
	return next > 0
}
