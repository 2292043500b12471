package gang

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestInterruptsAreCancels(t *testing.T) {
	a := newAgent(t)
	ints := make(chan Interrupt)
	s := ranks(1)
	s.Program.Grace = 5e9
	g, done := begin(t, a, attachTo(t, a), s, IO{Interrupts: ints})
	a.running(g, 1, 1)
	ints <- Interrupted
	if m := next[*fb.GroupCancelT](a); m.Mode != fb.CancelModeDrain || m.ExitCode != 130 || m.Grace != 5e9 {
		t.Errorf("%+v", m)
	}
	a.crash(true) // the new agent is told too
	if m := next[*fb.GroupCancelT](a); m.Mode != fb.CancelModeDrain {
		t.Errorf("%+v", m)
	}
	ints <- Terminated
	if m := next[*fb.GroupCancelT](a); m.Mode != fb.CancelModeStop || m.ExitCode != 143 || m.Grace != 0 {
		t.Errorf("%+v", m)
	}
	ints <- Interrupted
	if r := <-done; r.err != nil || r.end.Code != 130 || r.end.Cause != "cancelled" {
		t.Errorf("%+v", r)
	}
}

// Each signal is named as itself, and gives its own exit code; Ctrl-\ asks for nothing.
func TestInterruptsAreNamed(t *testing.T) {
	for _, c := range []struct {
		what   Interrupt
		mode   fb.CancelMode
		reason string
		code   int32
	}{
		{Interrupted, fb.CancelModeDrain, "Ctrl-C", 130},
		{Terminated, fb.CancelModeDrain, "TERM", 143},
		{HungUp, fb.CancelModeDrain, "HUP", 129},
		{Warned, fb.CancelModeDrain, "USR1", 143},
		{Quit, fb.CancelModeStop, `Ctrl-\`, 131},
	} {
		a := newAgent(t)
		ints := make(chan Interrupt)
		g, done := begin(t, a, attachTo(t, a), ranks(1), IO{Interrupts: ints})
		a.running(g, 1, 1)
		ints <- c.what
		if m := next[*fb.GroupCancelT](a); m.Mode != c.mode || m.Reason != c.reason || m.ExitCode != c.code {
			t.Errorf("%v: %+v", c.what, m)
		}
		a.ended(g, &fb.GroupEndT{Cause: "ok", Rank: -1})
		a.eofs(g, 1, nil)
		<-done
	}
}
