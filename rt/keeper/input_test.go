package keeper_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestBadStart(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		doc  func(*bootdoc.Doc)
		code string
		exit int
		text string
	}{
		{"argument", []string{"--head=maybe"}, nil, "USAGE", 64, "yes, no or auto"},
		{"unknown argument", []string{"--secret=x"}, nil, "USAGE", 64, "unknown argument"},
		{"version", nil, func(d *bootdoc.Doc) { d.Version = 9 }, "BOOT_DOC", 78, "use the same maniple"},
		{"secret", nil, func(d *bootdoc.Doc) { d.Secret = nil }, "BOOT_DOC", 78, "secret"},
		{"name with a way out", nil, func(d *bootdoc.Doc) { d.Name = "../x" }, "BOOT_DOC", 78, "directory's name"},
		{"node with a way out", nil, func(d *bootdoc.Doc) { d.Node.Name = ".." }, "BOOT_DOC", 78, "directory's name"},
		{"ports", nil, func(d *bootdoc.Doc) { d.PortRange = [2]int{9, 3} }, "BOOT_DOC", 78, "range of ports"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := boot(t, setup{args: test.args, doc: test.doc})
			ev := n.event("error")
			if ev["code"] != test.code || !strings.Contains(ev["text"].(string), test.text) {
				t.Errorf("error: %v", ev)
			}
			n.ended(test.exit)
			if !strings.Contains(n.stderr.String(), test.text) {
				t.Errorf("stderr: %q", n.stderr)
			}
		})
	}
}

// A keeper that is started by hand says what it is.
func TestNoBootDocument(t *testing.T) {
	n := boot(t, setup{quiet: true})
	n.event("error")
	<-n.over
	if code := n.cmd.ProcessState.ExitCode(); code != 78 {
		t.Errorf("exit code %d", code)
	}
}

func TestHeadAddressArrivesLater(t *testing.T) {
	n := boot(t, setup{args: []string{"--head=no"}})
	select {
	case l := <-n.conns:
		t.Fatalf("%s was started without knowing the head", l.config.Role)
	case <-time.After(100 * time.Millisecond): // it would have been started at once
	}
	n.say(map[string]any{"head": []string{"10.0.0.1:7000", "10.0.0.2:7000"}})
	a := n.agent()
	var doc bootdoc.Doc
	if err := json.Unmarshal([]byte(a.config.Boot), &doc); err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:7000", "10.0.0.2:7000"}
	if !reflect.DeepEqual(doc.Head, want) {
		t.Errorf("the agent was told %v", doc.Head)
	}
	if doc.Check() != nil || doc.Node.Name != "n1" {
		t.Errorf("the agent's document: %+v", doc)
	}
	// The head goes elsewhere: the agent that runs is told, and so is the next one.
	n.say(map[string]any{"head": want})
	n.say(map[string]any{"head": []string{"10.0.0.3:7000"}})
	if again := n.agent(); again != a {
		t.Fatal("another agent was started")
	}
	if err := json.Unmarshal([]byte(a.config.Boot), &doc); err != nil || !reflect.DeepEqual(doc.Head, []string{"10.0.0.3:7000"}) {
		t.Errorf("the agent was told %v %v", doc.Head, err)
	}
	a.kill()
	b := n.agent()
	if err := json.Unmarshal([]byte(b.config.Boot), &doc); err != nil || !reflect.DeepEqual(doc.Head, []string{"10.0.0.3:7000"}) {
		t.Errorf("the next agent was told %v %v", doc.Head, err)
	}
	b.stop()
}

// The node of a head that has a successor goes without a word to anybody: a drain would be that of the whole cluster.
func TestHeadsNodeIsAbandoned(t *testing.T) {
	n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.Owner, d.Journal = "stdin", "/nowhere" }})
	a, h := n.agent(), n.link(fb.RoleHead)
	n.stdin.Close()
	for _, l := range []*link{a, h} {
		if m, ok := <-l.other; ok {
			t.Errorf("%s was told %T", l.config.Role, m.m)
		}
	}
	n.ended(143)
}

// Nor is the cluster drained by a node in whose place another one is started.
func TestReplacedNodeGoesAlone(t *testing.T) {
	for what, goes := range map[string]func(*node){
		"its launcher is gone":  func(n *node) { n.stdin.Close() },
		"it is taken":           func(n *node) { n.cmd.Process.Signal(unix.SIGTERM) },
		"another has its place": func(n *node) { n.say(map[string]any{"abandon": "another has its place"}) },
	} {
		t.Run(what, func(t *testing.T) {
			n := boot(t, setup{args: []string{"--head=no"}, doc: func(d *bootdoc.Doc) { d.Owner, d.Replaced = "stdin", true }})
			n.say(map[string]any{"head": []string{"10.0.0.1:7000"}})
			a := n.agent()
			goes(n)
			for m := range a.other {
				if _, ok := m.m.(*fb.DrainT); ok {
					t.Error("the agent was told to drain")
				}
			}
			n.ended(143)
		})
	}
}

func TestSignalsDrain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sig  unix.Signal
		code int32
	}{{unix.SIGTERM, 143}, {unix.SIGINT, 130}, {unix.SIGUSR1, 75}} {
		t.Run(unix.SignalName(test.sig), func(t *testing.T) {
			n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.Grace = 10 * time.Second }})
			a := n.agent()
			before := time.Now()
			n.cmd.Process.Signal(test.sig)
			d := a.recv("Drain").m.(*fb.DrainT)
			left := time.Unix(0, d.Deadline).Sub(before)
			if d.ExitCode != test.code || d.Now || !strings.Contains(d.Reason, unix.SignalName(test.sig)) || left < 9*time.Second || left > 11*time.Second {
				t.Errorf("drain %+v, %v left", d, left)
			}
			// The agent that is started now is told as well.
			a.kill()
			b := n.agent()
			if d := b.recv("Drain").m.(*fb.DrainT); d.ExitCode != test.code || d.Now {
				t.Errorf("drain %+v", d)
			}
			b.send(&fb.KeeperStopT{Code: test.code, Reason: "drained"})
			b.conn.Close()
			n.link(fb.RoleHead).conn.Close()
			n.ended(int(test.code))
		})
	}
}

// The early warning of sbatch --signal=USR1@300 leaves programs all the time until the walltime, where that
// is known: from Slurm's environment, or from the launcher, who hears when it is moved. A TERM may still
// come before.
func TestEarlyWarningLastsUntilTheWalltime(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(5 * time.Minute).Truncate(time.Second)
	environ := []string{fmt.Sprintf("SLURM_JOB_END_TIME=%d", end.Unix())}
	inJob := func(d *bootdoc.Doc) { d.Job, d.Grace = "12", time.Second }
	drain := func(n *node, a *link, sig unix.Signal) *fb.DrainT {
		n.cmd.Process.Signal(sig)
		return a.recv("Drain").m.(*fb.DrainT)
	}

	n := boot(t, setup{doc: inJob, env: environ})
	a := n.agent()
	if d := drain(n, a, unix.SIGUSR1); d.Deadline != end.UnixNano() || d.Now || d.ExitCode != 75 || !strings.Contains(d.Reason, "walltime") {
		t.Errorf("drain %+v, the walltime ends at %d", d, end.UnixNano())
	}
	if d := drain(n, a, unix.SIGTERM); d.Deadline >= end.UnixNano() {
		t.Errorf("drain %+v: KILL follows TERM before the walltime", d)
	}

	moved := end.Add(time.Minute)
	n = boot(t, setup{doc: inJob, env: environ, args: []string{"--head=no"}})
	n.say(map[string]any{"end_ns": moved.UnixNano()})
	n.say(map[string]any{"head": []string{"10.0.0.1:7000"}})
	if d := drain(n, n.agent(), unix.SIGUSR1); d.Deadline != moved.UnixNano() {
		t.Errorf("drain %+v, the walltime was moved to %d", d, moved.UnixNano())
	}
}

func TestSecondTermStops(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	word := unique(t)
	r := a.launch(sh(family(word)))
	r.lines(r.stdout(), 2)
	n.cmd.Process.Signal(unix.SIGTERM)
	a.recv("Drain")
	start := time.Now()
	n.cmd.Process.Signal(unix.SIGTERM)
	ev := n.ended(143) // though neither daemon leaves
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(ev["reason"].(string), "second SIGTERM") {
		t.Errorf("end: %v", ev)
	}
	if left := alive(t, word); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestInputEnds(t *testing.T) {
	t.Parallel()
	t.Run("owner", func(t *testing.T) {
		n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.Owner = "stdin" }})
		a := n.agent()
		word := unique(t)
		r := a.launch(sh(family(word)))
		r.lines(r.stdout(), 2)
		start := time.Now()
		n.stdin.Close()
		if d := a.recv("Drain").m.(*fb.DrainT); !d.Now {
			t.Errorf("drain %+v", d)
		}
		// An agent that does not do its part does not keep the node.
		n.link(fb.RoleHead).conn.Close()
		n.ended(143)
		if took := time.Since(start); took > 18*time.Second {
			t.Errorf("it took %v", took)
		}
		if left := alive(t, word); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		n := boot(t, setup{})
		a := n.agent()
		n.stdin.Close()
		if end := a.launch(sh("exit 6")).end(); end.Code != 6 {
			t.Errorf("ended as %+v", end)
		}
		a.stop()
	})
	t.Run("before the head is known", func(t *testing.T) {
		n := boot(t, setup{args: []string{"--head=no"}, doc: func(d *bootdoc.Doc) { d.Owner = "stdin" }})
		n.stdin.Close()
		n.ended(143)
	})
}

func TestDrainLine(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	deadline := time.Now().Add(time.Minute)
	n.say("garbage")
	n.say(map[string]any{"drain": map[string]any{"deadline_ns": deadline.UnixNano(), "reason": "walltime", "now": false}})
	if d := a.recv("Drain").m.(*fb.DrainT); d.Reason != "walltime" || d.Deadline != deadline.UnixNano() || d.Now {
		t.Errorf("drain %+v", d)
	}
	n.say(map[string]any{"drain": map[string]any{"reason": "enough", "now": true}})
	if d := a.recv("Drain").m.(*fb.DrainT); d.Reason != "enough" || !d.Now {
		t.Errorf("drain %+v", d)
	}
	a.stop()
}

// A launcher that reads nothing, or is gone, does not hold the node up.
func TestOutputIsClosed(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	n.stdout.Close()
	a.send(&fb.KeeperReadyT{Role: fb.RoleAgent, Agent: 1})
	if end := a.launch(sh("exit 6")).end(); end.Code != 6 {
		t.Errorf("ended as %+v", end)
	}
	a.send(&fb.KeeperStopT{Code: 2})
	a.conn.Close()
	n.link(fb.RoleHead).conn.Close()
	<-n.over
	if code := n.cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

// Slurm sends TERM twice at a time limit: inside a job the programs keep the time that the first gave.
func TestSecondTermOfSlurmChangesNothing(t *testing.T) {
	n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.Job, d.Grace = "7", 30*time.Second }})
	a := n.agent()
	r := a.launch(&fb.ProgramLaunchT{Stdin: true, Argv: []string{"cat"}})
	n.cmd.Process.Signal(unix.SIGTERM)
	a.recv("Drain")
	n.cmd.Process.Signal(unix.SIGTERM)
	for i := range uint32(20) { // round trips, in which the keeper could do what it should not
		a.send(&fb.PortHoldT{Group: group, Incarnation: 2 + i})
		a.recv("PortHeld")
	}
	if _, err := r.stdin().Write([]byte("still here\n")); err != nil {
		t.Fatal(err)
	}
	if got := r.lines(r.stdout(), 1); len(got) != 1 || got[0] != "still here" {
		t.Errorf("the program said %q", got)
	}
	a.send(&fb.KeeperStopT{Code: 143, Reason: "drained"})
	a.conn.Close()
	n.link(fb.RoleHead).conn.Close()
	n.ended(143)
}

// The node's addresses are those that --interface names; without any there is no node.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.Loopback, d.Interfaces = false, []string{"lo"} }})
	a, h := n.agent(), n.link(fb.RoleHead)
	h.send(&fb.KeeperReadyT{Role: fb.RoleHead})
	if got := n.event("head")["addresses"].([]any); !strings.HasPrefix(got[0].(string), "127.0.0.1:") {
		t.Errorf("addresses %v", got)
	}
	n.conns <- h
	a.stop()
	n = boot(t, setup{doc: func(d *bootdoc.Doc) { d.Loopback, d.Interfaces = false, []string{"no-such-*"} }})
	if ev := n.event("error"); ev["code"] != "ADDRESS" || !strings.Contains(ev["text"].(string), "no-such-*") {
		t.Errorf("error %v", ev)
	}
	n.ended(78)
}

// What its launcher says of its node's going an agent hears, one that is started later, too, unless that was taken back.
func TestDrainNodeLine(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	n.say(map[string]any{"drain_node": map[string]any{"deadline_ns": 77, "reason": "preemption"}})
	if d := a.recv("NodeDrain").m.(*fb.NodeDrainT); d.Reason != "preemption" || d.Deadline != 77 || !d.Goes || d.Undo {
		t.Errorf("%+v", d)
	}
	n.say(map[string]any{"drain_node": map[string]any{"reason": "not any more", "undo": true}})
	if d := a.recv("NodeDrain").m.(*fb.NodeDrainT); !d.Undo {
		t.Errorf("%+v", d)
	}
	a.stop()
}
