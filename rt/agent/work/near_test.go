package work

import (
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A task whose arguments are large goes to another node only once it has waited for as long as they would take to get there.
func TestLargeArgumentsStay(t *testing.T) {
	p, _ := newNodes(t)
	shape := &fb.ShapeT{Number: 3}
	if at := p.at(p.shaped(shape)); at != "here" {
		t.Fatalf("the first is %s", at)
	}
	var args []id.Object
	for range 3 {
		o := of(p.mint(0, 1))
		p.seal(0, 1, o, 0)
		args = append(args, o)
	}
	large := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(large), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1, Deps: 3}, objectBytes(args...))
	if at := p.at(large); at == "there" {
		t.Error("3 MiB were sent away at once")
	}
	due := p.now + 3*(1<<20)*1e9/moveRate
	if next := p.cores[0].NextDeadline(); next > due {
		t.Errorf("it is looked at again in %d ms", (next-p.now)/1e6)
	}
	p.now = due
	p.step(0, Tick{})
	if at := p.at(large); at != "there" {
		t.Errorf("after 6 ms it waits for %s", at)
	}
}

// unwish lets an agent look at its clock, and says as the head would that no node has what its tasks wish for.
func (h *history) unwish(s *site) (some bool) {
	h.step(s, Tick{})
	for _, k := range slices.Clone(s.core.Wants().Away) {
		if strings.HasPrefix(k.Where, "rather ") {
			h.step(s, Waits{Class: k.Class, Where: k.Where, Why: "no node has it", Never: true})
			some = true
		}
	}
	return some
}
