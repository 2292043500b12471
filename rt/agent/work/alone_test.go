package work

import (
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// watch has a process told, of some of what it puts, when it alone has that (REF-7; the invariant is recounted in check).
func (p *peer) watch(t id.Task) {
	if t.Counter%3 == 0 && !p.h.calm {
		o := id.Object{Task: t}
		p.ref(o).watches++
		p.send(&fb.GetT{Object: objectT(o), Want: fb.WantAlone}, nil)
	}
}

// ready takes in that an object is there, or that nobody else has it.
func (p *peer) ready(m *fb.ReadyT) {
	r := p.held[objectOf(m.Object)]
	switch {
	case r == nil:
	case m.State == fb.ObjectStateAlone:
		if r.watches--; r.watches < 0 {
			p.h.t.Fatalf("seed %d: REF-7: process %d was told twice that it alone has %v", p.h.seed, p.id, objectOf(m.Object))
		}
	default:
		r.readies++
		r.unsettled = r.unsettled && !answers(r.want, m.State)
		if r.readies > r.gets {
			p.h.t.Fatalf("seed %d: process %d: more Ready than was asked", p.h.seed, p.id)
		}
	}
}

// The group of methods that an SDK's own are in leaves the user's calls in their order, also while an argument is missing, and goes on beside them.
func TestOwnGroupKeepsTheOrder(t *testing.T) {
	for group, want := range map[string]string{beside: "w1 <- Call own of a#1", "io": "w1 <- Call second of a#1\nw1 <- Call own of a#1"} {
		s := &script{t: t}
		for _, line := range []string{
			"core CPU:1 auto", "driver d", "function d C class", "function d f", "methods d C slow get", "shape d 2", "shape d 1 CPU:1", "create d a C groups=" + group + ":1:get",
			"result w1 a", "submit d missing f", "call d first a 0 deps=missing",
		} {
			s.do(line)
		}
		s.w.log = nil
		s.do("call d second a 0")
		s.do("call d own a 1")
		calls := slices.DeleteFunc(s.w.log, func(line string) bool { return !strings.Contains(line, " <- Call ") })
		if got := strings.ReplaceAll(strings.Join(calls, "\n"), "  ", ""); got != want {
			t.Errorf("with the group %s the actor was given\n%s\nwant\n%s", group, got, want)
		}
	}
}
