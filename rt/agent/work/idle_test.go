package work

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// WORK-14 on one node: a driver is told once that only actors which do nothing keep what its task needs, and explain says so as long as that is so.
func TestWhatIdleActorsKeep(t *testing.T) {
	for _, k := range []struct {
		name, has, does string // one a line
		is              bool
	}{
		{"an actor that has done nothing", "lic:1", "", true},
		{"one that has done its call", "lic:1", "call d k x 0 shape=9|result w1 k", true},
		{"one whose call waits for what it keeps", "lic:1", "submit d z f shape=4|call d k x 0 deps={z} shape=9", true},
		{"another one has a name, and outlives its driver", "lic:2", "create d y C shape=4 detached name=it space=s|result w2 y", true},
		{"it does a call", "lic:1", "call d k x 0 shape=9", false},
		{"a task that runs has another", "lic:2", "submit d y f shape=4", false},
		{"one does a call, and has another", "lic:2", "create d y C shape=4|result w2 y|call d k y 0 shape=9", false},
		{"a task that waits for who knows what has another", "lic:2", "submit d y f shape=4|blocked w2 y", false},
	} {
		s := &script{t: t}
		for _, line := range []string{"core CPU:4," + k.has + " auto", "driver d", "function d f", "function d C class", "methods d C m", "shape d 4 lic:1", "shape d 9", "create d x C shape=4", "result w1 x"} {
			s.do(line)
		}
		for line := range strings.SplitSeq(k.does, "|") {
			if line != "" {
				s.do(line)
			}
		}
		s.do("submit d a f shape=4")
		s.do("submit d b f shape=4")
		s.w.log = nil
		s.do("wait 9s")
		if len(s.w.log) > 0 {
			t.Errorf("%s: at once: %s", k.name, s.said())
		}
		s.do("wait 30s")
		said, why := s.said(), s.w.core.Explain(s.w.ids["a"])
		if n := strings.Count(said, "say KEPT_BY_ACTORS"); n != map[bool]int{true: 1, false: 0}[k.is] {
			t.Errorf("%s: it is said %d times: %s", k.name, n, said)
		}
		kept, actor := "1 lic, of which actors that do nothing keep too much: actor C", fmt.Sprintf("C (%v) on node n1", s.w.ids["x"])
		if strings.Contains(why, "waits for "+kept) != k.is || k.is && !(strings.Contains(why, actor) && strings.Contains(said, kept) && strings.Contains(said, actor)) {
			t.Errorf("%s: a waits for %s\n%s", k.name, why, said)
		}
		if s.w.log = nil; strings.Contains(k.does, "deps") {
			continue // nothing comes to it as long as that waits
		}
		s.do("call d late x 0 shape=9")
		s.do("wait 20s")
		if why := s.w.core.Explain(s.w.ids["a"]); strings.Contains(why, "do nothing") || strings.Contains(s.said(), "KEPT") {
			t.Errorf("%s: when it does something: %s", k.name, why)
		}
	}
}

// CPUs are kept by actors that need them, and not by tasks that wait.
func TestCPUsThatIdleActorsKeep(t *testing.T) {
	for _, k := range []struct {
		name, has string
		is        bool
	}{{"two actors", "create d x C shape=1|result w1 x|create d y C shape=1|result w2 y", true},
		{"a task that waits", "create d x C shape=1|result w1 x|submit d y f shape=1|blocked w2 y|submit d z f shape=1", false}} {
		s := &script{t: t}
		for line := range strings.SplitSeq("core CPU:2 auto|driver d|function d f|function d C class|methods d C m|shape d 1 CPU:1|"+k.has+"|submit d a f shape=1|wait 25s", "|") {
			s.do(line)
		}
		if is := strings.Contains(s.said(), "say KEPT_BY_ACTORS: f ("); is != k.is || is && !strings.Contains(s.said(), "for 1 CPU, of which") {
			t.Errorf("%s: %s", k.name, s.said())
		}
	}
}

// Of an actor that has a line nobody knows whether it does anything: its worker ends that first, and may have been called by it until then.
func TestIdleActorWithALine(t *testing.T) {
	x := newLined(t, func(m *fb.CreateT) { m.Shape = 8 })
	x.send("d", &fb.SubmitT{Task: taskT(x.mint("d", "a")), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 8, Returns: 1}, nil)
	wait := func(d time.Duration) string {
		for end := x.now + int64(d); x.now < end; {
			x.now = min(end, max(x.core.NextDeadline(), x.now+1))
			x.step(Tick{})
		}
		return strings.Join(x.log, "\n")
	}
	if got := wait(19 * time.Second); !strings.Contains(got, "w1 <- Line") || strings.Contains(got, "KEPT") {
		t.Errorf("after 19 s: %s", got)
	}
	x.send("w1", &fb.LineT{}, nil)
	if got := wait(2 * time.Second); strings.Contains(got, "KEPT") { // it was looked at meanwhile
		t.Errorf("2 s after the line ended: %s", got)
	}
	if got := wait(10 * time.Second); !strings.Contains(got, "say KEPT_BY_ACTORS") {
		t.Errorf("12 s after the line ended: %s", got)
	}
}

// WORK-14 over nodes: an actor on a lease of another one, which does nothing there.
func TestWhatIdleActorsKeepElsewhere(t *testing.T) {
	for _, k := range []struct {
		name string
		do   func(r *ring, x id.Task)
		is   bool
	}{
		{"it does nothing", func(*ring, id.Task) {}, true},
		{"it does a call", func(r *ring, x id.Task) { r.pair.call(x) }, false},
		{"between the two rounds it did one", func(r *ring, x id.Task) {
			asked := 0
			r.between = func(kind fb.FrameType) {
				if kind == fb.FrameTypeWaitQuery {
					if asked++; asked == 2 {
						r.between = nil
						r.pair.call(x)
					}
				}
			}
		}, false},
	} {
		r := newRing(t)
		all := []Amount{{"CPU", one}, {"lic", one}}
		r.step(0, Grant{Resources: []Amount{{"CPU", 2 * one}}, Node: []Amount{{"CPU", 2 * one}}})
		r.step(0, Nodes{2, [][]Amount{all}})
		r.step(1, Grant{Resources: []Amount{{"CPU", 0}}, Node: all})
		r.step(1, Grant{Group: leaseOfPair, Resources: all})
		r.step(0, Place{Group: leaseOfPair, Agent: 2, Node: "n2", Resources: all, Open: true})
		x := r.mint(0, 1)
		r.say(0, 1, &fb.CreateT{Actor: taskT(x), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, MaxPending: -1}, []byte("args"))
		r.homes[x] = dwelling{1, r.worker(x)}
		r.say(1, r.homes[x].worker, &fb.ResultT{Task: taskT(x), Flags: uint32(fb.ResultFlagLast)}, nil)
		g := r.here(1, 4, id.Task{}, nil, nil)
		r.after(8)
		k.do(r, x)
		r.after(17)
		want := fmt.Sprintf("1 lic, of which actors that do nothing keep too much: actor f (%v) on node n2; an actor gives back", x)
		said := strings.Join(r.said, "\n")
		if is := strings.Contains(said, want); is != k.is || strings.Count(said, "do nothing") > 1 {
			t.Errorf("%s: it is said %q; %v waits for %s", k.name, r.said, g, r.cores[0].explainTask(r.cores[0].entries[g].task))
		}
		if n := len(r.cores[0].searches); n > 0 {
			t.Errorf("%s: %d searches are left", k.name, n)
		}
	}
}
