package main

import (
	"errors"
	"strings"
	"testing"
)

// A void run is repeated, but not for ever; one that fails is not.
func TestVoidRunsAreRepeated(t *testing.T) {
	bad := map[string]part{"share": {Part: "share", Error: "Void: fio had 300 MB/s before, and 200 after"}, "spilling": {Part: "spilling"}}
	failed := map[string]part{"share": {Part: "share", Error: "RuntimeError: Void: is not the first word"}}
	for _, c := range []struct {
		what  string
		say   []map[string]part
		err   error
		again int
		void  bool
	}{
		{"good", ran(1), nil, 0, false},
		{"void once", []map[string]part{bad, ran(1)[0]}, nil, 1, false},
		{"void always", []map[string]part{bad, bad, bad, bad}, nil, voidMost, true},
		{"a part failed", []map[string]part{failed, bad}, nil, 0, false},
		{"the program failed", []map[string]part{bad, bad}, errors.New("it did not end"), 0, true},
	} {
		runs := 0
		said, again, err := valid(func() (map[string]part, error) {
			runs++
			return c.say[runs-1], c.err
		})
		if again != c.again || runs != again+1 || void(said) != c.void || !errors.Is(err, c.err) {
			t.Errorf("%s: %d runs, %d repeated, %v, void %v", c.what, runs, again, err, void(said))
		}
	}
	b := atLeast("x", "a", "1/s", perSecond, 2)
	if r := b.result(runs{ours: ran(1, 1, 1, 1, 1, 1, 1), void: 3}, true); !strings.Contains(r.Note, "3 runs of ours were void") {
		t.Errorf("the row does not say it: %+v", r)
	}
}
