package bootdoc

import (
	"testing"
	"time"
)

func TestClockIsShiftedByName(t *testing.T) {
	env := func(string) string { return "n2=1h,n3=-10s" }
	for node, want := range map[string]time.Duration{"n1": 0, "n2": time.Hour, "n3": -10 * time.Second} {
		got := time.Duration(Clock(node, env)() - time.Now().UnixNano())
		if d := got - want; d > time.Second || d < -time.Second {
			t.Errorf("the clock of %s is off by %s, want %s", node, got, want)
		}
	}
}
