package keeper_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// KEEP-2, KEEP-7: programs, their streams and their ends survive an agent.
func TestAgentDies(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	a.send(&fb.KeeperReadyT{Role: fb.RoleAgent, Agent: 5, Text: "two CPUs"})
	if ev := n.event("ready"); ev["agent"] != 5.0 || ev["node"] != "n1" || ev["dir"] != n.dir() || ev["socket"] != filepath.Join(n.dir(), "agent.sock") {
		t.Errorf("ready: %v", ev)
	}
	if log, err := os.ReadFile(filepath.Join(n.dir(), "keeper.log")); !strings.Contains(string(log), `msg=serves daemon=agent agent=5 says="two CPUs"`) {
		t.Errorf("the log does not tell what the agent serves: %s, %v", log, err)
	}
	talker := sh("read x; echo got $x; read y; echo got $y; cat; echo over")
	talker.Stdin = true
	r0 := a.launch(talker)
	quick := sh("read x </dev/null; sleep 0.1; echo unread; exit 9")
	quick.Rank = 1
	r1 := a.launch(quick)
	done := sh("exit 4")
	done.Rank = 2
	r2 := a.launch(done)
	for r2.state.Rank != 2 || r2.state.Phase != fb.RankPhaseEnded {
		r2.next()
	}
	r0.stdin().WriteString("one\n")
	if got := r0.lines(r0.stdout(), 1)[0]; got != "got one" {
		t.Errorf("got %q", got)
	}
	for _, r := range []*rank{r0, r1, r2} {
		for _, f := range r.files {
			f.Close()
		}
	}
	a.kill()
	b := n.agent()
	c := b.config
	if c.Previous != 5 || c.Restarts != 1 || c.NodeKey != a.config.NodeKey || c.NodeDir != n.dir() || len(c.Programs) != 3 {
		t.Fatalf("the new agent was told %+v with %d programs", c, len(c.Programs))
	}
	ranks := make([]*rank, 3)
	for range 3 {
		r := &rank{l: b}
		r.next()
		if r.files == nil {
			t.Fatalf("no descriptors with %+v", r.state)
		}
		r.m = &fb.ProgramLaunchT{Rank: r.state.Rank, Stdin: r.state.Stdin}
		ranks[r.state.Rank] = r
	}
	if s := ranks[0].state; s.Pid != r0.state.Pid || s.Started != r0.state.Started || !s.Stdin {
		t.Errorf("rank 0 was told as %+v", s)
	}
	if s := ranks[2].state; s.Phase != fb.RankPhaseEnded || s.Code != 4 {
		t.Errorf("rank 2 was told as %+v", s)
	}
	ranks[0].stdin().WriteString("two\n")
	if got := ranks[0].lines(ranks[0].stdout(), 1)[0]; got != "got two" {
		t.Errorf("got %q", got)
	}
	if got := ranks[1].lines(ranks[1].stdout(), -1)[0]; got != "unread" {
		t.Errorf("output between two agents: %q", got)
	}
	if end := ranks[1].end(); end.Code != 9 {
		t.Errorf("rank 1 ended as %+v", end)
	}
	b.send(&fb.KeeperReadyT{Role: fb.RoleAgent, Agent: 8})
	if ev := n.event("ready"); ev["agent"] != 8.0 {
		t.Errorf("ready: %v", ev)
	}
	b.stop()
}

func TestHeadDies(t *testing.T) {
	n := boot(t, setup{})
	a, h := n.agent(), n.link(fb.RoleHead)
	h.send(&fb.KeeperReadyT{Role: fb.RoleHead})
	ev := n.event("head")
	if got := ev["addresses"].([]any); len(got) != 1 || !strings.HasPrefix(got[0].(string), "127.0.0.1:") {
		t.Errorf("addresses %v", got)
	}
	r := a.launch(sh("sleep 600"))
	h.kill()
	again := n.link(fb.RoleHead)
	if again.config.Restarts != 1 || again.config.ListenPort != h.config.ListenPort {
		t.Errorf("the new head was told %+v", again.config)
	}
	r.signal(unix.SIGTERM, false, 0)
	if end := r.end(); end.Signal != 15 {
		t.Errorf("ended as %+v", end)
	}
	again.send(&fb.KeeperStopT{Code: 3, Reason: "enough"})
	again.conn.Close()
	a.conn.Close()
	if ev := n.ended(3); ev["reason"] != "enough" {
		t.Errorf("end: %v", ev)
	}
}

// A head that ends well has ended the cluster.
func TestHeadLeaves(t *testing.T) {
	n := boot(t, setup{})
	a, h := n.agent(), n.link(fb.RoleHead)
	h.conn.Close() // the relay exits with 0
	drain := a.recv("Drain").m.(*fb.DrainT)
	if !drain.Now {
		t.Errorf("drain %+v", drain)
	}
	a.send(&fb.KeeperStopT{Reason: "head has left"})
	a.conn.Close()
	n.ended(0)
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	start := time.Now()
	n := boot(t, setup{env: []string{"KEEPER_TEST_AGENT=crash"}, args: []string{"--head=no"}, doc: func(d *bootdoc.Doc) { d.Head = []string{"127.0.0.1:1"} }})
	ev := n.event("error")
	if ev["code"] != "AGENT_CRASH_LOOP" || !strings.Contains(ev["text"].(string), "exit status 2, saying: panic: out of ideas") {
		t.Errorf("error: %v", ev)
	}
	n.ended(70)
	if took := time.Since(start); took > 18*time.Second {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(n.stderr.String(), "out of ideas") {
		t.Errorf("stderr %q", n.stderr)
	}
}

// In a folder that somebody has removed no agent can be started. A head that has a successor is not told, as that would be the end of the cluster.
func TestCrashLoopWhereNothingIsLeft(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{env: []string{"KEEPER_TEST_AGENT=crash"}, doc: func(d *bootdoc.Doc) { d.Owner, d.Journal = "stdin", "/nowhere" }})
	h := n.link(fb.RoleHead)
	if err := os.RemoveAll(n.dir()); err != nil {
		t.Fatal(err)
	}
	n.event("error")
	if m, ok := <-h.other; ok {
		t.Errorf("the head was told %T", m.m)
	}
	n.ended(143)
}

// Where no agent can be started, the head is told by its keeper: the other nodes wait for it.
func TestCrashLoopBesideTheHead(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{env: []string{"KEEPER_TEST_AGENT=crash"}})
	h := n.link(fb.RoleHead)
	log, err := os.Open(filepath.Join(n.dir(), "keeper.log")) // it can be read when it is removed, too
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	n.event("error")
	d := h.recv("Drain").m.(*fb.DrainT)
	if !d.Now || d.ExitCode != 70 || !strings.Contains(d.Reason, "out of ideas") {
		t.Errorf("told %+v", d)
	}
	h.conn.Close()
	n.ended(70)
	said, err := io.ReadAll(log)
	if err != nil || !regexp.MustCompile(`msg=ended daemon=head pid=\d+ how="exit status 0"`).Match(said) {
		t.Errorf("the head was not left to leave by itself: %v\n%s", err, said)
	}
}

// KEEP-1: kill -9 of a keeper, with an agent that sweeps and without.
func TestKeeperKilled(t *testing.T) {
	word := unique(t)
	m := sh(family(word))
	m.Group, m.Env, m.Cwd = group, os.Environ(), "/"
	body, err := wire.Marshal(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	file, report := filepath.Join(t.TempDir(), "launch"), filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	n := boot(t, setup{env: []string{"KEEPER_TEST_AGENT=sweep", "KEEPER_TEST_LAUNCH=" + file, "KEEPER_TEST_SWEPT=" + report}})
	n.event("ready")
	until(t, "family is up", func() bool { return len(alive(t, word)) >= 4 })
	n.cmd.Process.Kill()
	<-n.over
	gone(t, word)
	until(t, "directory gone", func() bool {
		_, err := os.Lstat(n.dir())
		return errors.Is(err, os.ErrNotExist)
	})
	var said []byte
	until(t, "the sweep is reported", func() bool {
		said, err = os.ReadFile(report)
		return err == nil && len(said) > 0
	})
	if !bytes.HasSuffix(said, []byte("<nil>")) {
		t.Errorf("sweep: %s", said)
	}
}

// The next keeper ends what a dead one and its agent left, and takes the directory.
func TestKeeperAfterKilled(t *testing.T) {
	word := unique(t)
	n := boot(t, setup{})
	a := n.agent()
	r := a.launch(sh(family(word)))
	r.lines(r.stdout(), 2)
	n.cmd.Process.Kill()
	<-n.over // the relay exits without sweeping
	until(t, "the rank dies with its keeper", func() bool {
		p, err := sweep.Read(int(r.state.Pid))
		return err != nil || p.Dead()
	})
	if len(alive(t, word)) == 0 {
		t.Fatal("nothing to sweep")
	}
	if err := os.WriteFile(filepath.Join(n.dir(), "litter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next := boot(t, setup{base: n.base})
	b := next.agent()
	if left := alive(t, word); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Lstat(filepath.Join(n.dir(), "litter")); err == nil {
		t.Error("the directory was not cleared")
	}
	b.stop()
}

func TestSecondKeeperOfANode(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{})
	a := n.agent()
	second := boot(t, setup{base: n.base})
	ev := second.event("error")
	if ev["code"] != "CLUSTER_UP" || !strings.Contains(ev["text"].(string), "is kept by process") {
		t.Errorf("error: %v", ev)
	}
	<-second.over
	if code := second.cmd.ProcessState.ExitCode(); code != 73 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(n.dir()); err != nil {
		t.Errorf("the first one's directory: %v", err)
	}
	a.stop()
}
