package cli

import "testing"

func TestGrantsAreFolded(t *testing.T) {
	node := func(name, grant string) stateNode { return stateNode{Name: name, State: "up", Grant: grant} }
	for _, tt := range []struct {
		nodes []stateNode
		want  string
	}{
		{nil, ""},
		{[]stateNode{node("a1", "4 cores"), node("a2", "4 cores"), node("b", "8 cores")}, "a[1-2]: 4 cores; b: 8 cores"},
		{[]stateNode{node("a1", "4 cores"), {Name: "a2", State: "dead", Grant: "4 cores"}, node("a3", "")}, "a1: 4 cores"},
		{[]stateNode{node("a1", "1"), node("a2", "2"), node("a3", "3"), node("a4", "4"), node("a5", "5"), node("a6", "6"), node("a7", "1")},
			"a[1,7]: 1; a2: 2; a3: 3; a4: 4; 2 others: see `maniple nodes`"},
	} {
		if got := foldGrants(tt.nodes); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
