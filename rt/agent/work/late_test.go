package work

import (
	"strings"
	"testing"
)

// A task that comes from another agent when its group's bundle has gone already is not left waiting: where the group is now is asked
// again, as it was before the first of its kind came; then it is tried elsewhere, or fails.
func TestTaskThatComesAfterItsBundle(t *testing.T) {
	p := newPair(t)
	p.result(p.submit(nil, nil), nil, "the first")
	watches := 0
	for _, e := range p.cores[1].Step(p.now, Grant{Group: groupOfPair}, nil) {
		if e.Do == Watch && e.Group == groupOfPair {
			watches++
		}
	}
	if watches != 1 {
		t.Fatalf("what became of the group is asked %d times", watches)
	}
	late := p.submit(nil, nil) // its agent does not know yet
	if v := p.told("a 1", of(late)); v != "" {
		t.Fatalf("the driver is told %q", v)
	}
	p.step(0, Place{Group: groupOfPair, Gone: true})
	p.step(0, Grant{Group: groupOfPair, Gone: true})
	p.step(1, Grant{Group: groupOfPair, Gone: true}) // the answer
	if v := p.told("a 1", of(late)); !strings.HasPrefix(v, "TASK_GROUP_REMOVED: ") {
		t.Errorf("the driver is told %q", v)
	}
}
