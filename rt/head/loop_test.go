package head

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/head/journal"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func gang(a *remote, counter uint64, bundles int, restarts int32) *fb.GroupCreateT {
	q := &fb.GroupCreateT{Group: wireTask(id.Task{Agent: 50, Process: 1, Counter: counter}), Name: fmt.Sprintf("gang%d", counter), Strategy: fb.StrategyStrictSpread,
		Program: &fb.ProgramT{Argv: []string{"train"}, Grace: int64(time.Second)}, OwnerAgent: a.number, OwnerProcess: 1, MaxRestarts: restarts}
	for range bundles {
		q.Bundles = append(q.Bundles, &fb.BundleT{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 40_000}}, Ranks: 1})
	}
	return q
}

// runGang has the agents start what the head tells them.
func runGang(agents ...*remote) {
	for _, a := range agents {
		r := hear[*fb.BundleReserveT](a, "BundleReserve", nil)
		held := &fb.BundleReservedT{Group: r.Group, Incarnation: r.Incarnation, Bundles: r.Bundles}
		a.mu.Lock()
		a.held = append(a.held, held)
		a.mu.Unlock()
		a.say(held)
	}
	for _, a := range agents {
		r := hear[*fb.RankStartT](a, "RankStart", nil)
		for _, k := range r.Ranks {
			state := &fb.RankStateT{Group: r.Group, Incarnation: r.Incarnation, Rank: k.Rank, Phase: fb.RankPhaseRunning, Pid: 7}
			a.mu.Lock()
			a.ranks = append(a.ranks, state)
			a.mu.Unlock()
			a.say(state)
		}
	}
}

func endRank(a *remote, code int32) {
	a.mu.Lock()
	k := *a.ranks[0]
	k.Phase, k.Code = fb.RankPhaseEnded, code
	a.ranks[0] = &k
	a.mu.Unlock()
	a.say(&k)
}

func phase(p fb.GroupPhase) func(*fb.GroupUpdateT) bool {
	return func(u *fb.GroupUpdateT) bool { return u.Phase == p }
}

// A gang over TLS: joined, placed, run, ended; the head is killed in the middle of it, and one agent
// loses its connections.
func TestServes(t *testing.T) {
	s := newSite(t, t.TempDir(), nil)
	if m, ok := s.start().(*fb.KeeperReadyT); !ok || m.Role != fb.RoleHead {
		t.Fatalf("the head did not say that it serves: %+v", m)
	}
	a, b := s.agent("n1", false), s.agent("n2", false)
	if r := hear[*fb.RegisteredT](a, "Registered", nil); r.Term != 1 {
		t.Errorf("term %d at the first start", r.Term)
	}
	hear[*fb.RegisteredT](b, "Registered", nil)
	a.say(gang(a, 1, 2, 0))
	runGang(a, b)
	hear(a, "the gang to run", phase(fb.GroupPhaseRunning))

	b.cut() // its session is resumed: nothing is lost and nobody registers again
	b.until("a resumed session", func() bool { return len(b.ups) > 1 && b.ups[1] })

	number := a.number
	s.crash()
	if m, ok := s.start().(*fb.KeeperReadyT); !ok {
		t.Fatalf("the second head does not serve: %+v", m)
	}
	for _, x := range []*remote{a, b} {
		if r := hear[*fb.RegisteredT](x, "Registered by the next head", nil); r.Term != 2 {
			t.Errorf("term %d after a restart", r.Term)
		}
	}
	if a.number != number {
		t.Errorf("number %d became %d", number, a.number)
	}
	endRank(b, 0)
	endRank(a, 4)
	u := hear(a, "the end", phase(fb.GroupPhaseEnded))
	if u.End.Code != 4 || u.End.Node != "n1" {
		t.Errorf("end %+v, want rank's code 4 on n1", u.End)
	}
	// Asked for the state.
	if err := a.link.Send(&fb.StateQueryT{What: "nodes"}, 77, nil); err != nil {
		t.Fatal(err)
	}
	a.until("the answer", func() bool {
		for _, m := range a.heard {
			if _, ok := m.M.(*fb.StateReplyT); ok && m.Corr == 77 && bytes.Contains(m.Payload, []byte(`"name":"n2"`)) {
				return true
			}
		}
		return false
	})
	// An agent that crashes is a node's death after 2 s.
	b.crash()
	if d := hear[*fb.AgentDeadT](a, "the death of n2", nil); d.Name != "n2" {
		t.Errorf("dead: %+v", d)
	}
}

// A keeper that is killed takes its head along, and with it the cluster: the other nodes are told.
func TestEndsWithItsKeeper(t *testing.T) {
	s := newSite(t, t.TempDir(), func(d *bootdoc.Doc) { d.Node.Name = "n1" })
	s.start()
	a := s.agent("n2", false)
	hear[*fb.RegisteredT](a, "Registered", nil)
	if e := s.stop(); e.code != exitKeeperGone || e.err == nil {
		t.Errorf("exit %d, %v", e.code, e.err)
	}
	d := hear(a, "Drain now", func(d *fb.DrainT) bool { return d.Now })
	if d.ExitCode != codeNodeLost || d.Reason != "node n1 died: its keeper was killed" {
		t.Errorf("it is told %+v", d)
	}
}

func TestDrains(t *testing.T) {
	s := newSite(t, t.TempDir(), nil)
	s.start()
	a := s.agent("n1", false)
	hear[*fb.RegisteredT](a, "Registered", nil)
	a.say(gang(a, 1, 1, 0))
	runGang(a)
	hear(a, "the gang to run", phase(fb.GroupPhaseRunning))
	s.mu.Lock()
	_ = s.keeper.Send(&fb.DrainT{Reason: "walltime", ExitCode: 75, Deadline: time.Now().Add(time.Minute).UnixNano()}, 0, nil)
	s.mu.Unlock()
	hear[*fb.RankStopT](a, "RankStop", nil)
	endRank(a, 0)
	if u := hear(a, "the end", phase(fb.GroupPhaseEnded)); u.End.Code != 0 {
		t.Errorf("all ranks ended with 0 on TERM, and the code is %d", u.End.Code)
	}
	hear(a, "Drain now", func(d *fb.DrainT) bool { return d.Now })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = a.link.Close(ctx, "drained")
	if m, ok := s.next().(*fb.KeeperStopT); !ok || m.Code != 75 || m.Reason != "walltime" {
		t.Errorf("the keeper was told %+v", m)
	}
	if e := s.wait(s.ended); e.code != exitOver {
		t.Errorf("exit %d, %v", e.code, e.err)
	}
}

// Whoever is no agent of this cluster gets no further than TLS or the handshake, and costs nothing.
func TestStrangers(t *testing.T) {
	s := newSite(t, t.TempDir(), nil)
	s.start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to := s.listen.Addr().String()
	control := transport.Preamble{Role: fb.RoleHead, Purpose: fb.PurposeControl}

	nc, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	_ = transport.WritePreamble(nc, control)
	_, _ = nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	if _, err := nc.Read(make([]byte, 100)); err == nil {
		// an alert of TLS may come; then the connection is closed
		if _, err = nc.Read(make([]byte, 100)); err == nil {
			t.Error("a stranger without TLS was answered")
		}
	}
	_ = nc.Close()

	other, err := tcp.NewAuthority(s.doc.Cluster, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := other.Credential(fb.RoleAgent); err != nil {
		t.Fatal(err)
	} else if conn, err := tcp.Dial(ctx, to, c, control); err == nil {
		if _, err := transport.Greet(conn, &fb.HelloT{Cluster: s.doc.Cluster, Role: fb.RoleAgent, NodeKey: "x"}); err == nil {
			t.Error("a certificate of another authority was let in")
		}
		_ = conn.Close()
	}

	for _, c := range []struct {
		role  fb.Role
		hello fb.HelloT
		want  fb.RefuseCode
	}{
		{fb.RoleClient, fb.HelloT{Cluster: s.doc.Cluster, Role: fb.RoleAgent, NodeKey: "x"}, fb.RefuseCodeIdentity},
		{fb.RoleAgent, fb.HelloT{Cluster: "other", Role: fb.RoleAgent, NodeKey: "x"}, fb.RefuseCodeCluster},
		{fb.RoleAgent, fb.HelloT{Cluster: s.doc.Cluster, Role: fb.RoleAgent, NodeKey: "x", Agent: 5}, fb.RefuseCodeDead},
	} {
		cred, err := s.auth.Credential(c.role)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tcp.Dial(ctx, to, cred, control)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		var refused *transport.RefusedError
		if _, err := transport.Greet(conn, &c.hello); !errors.As(err, &refused) || refused.Code != c.want {
			t.Errorf("role %v, hello %+v: %v, want %v", c.role, c.hello, err, c.want)
		}
		_ = conn.Close()
	}
	a := s.agent("n1", false) // it still serves
	hear[*fb.RegisteredT](a, "Registered", nil)
}

// An agent that proves nothing is dead after 5 s, though its connection stands; its number is refused.
func TestSilentAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, t.TempDir(), nil)
	s.start()
	a, b := s.agent("n1", false), s.agent("n2", true)
	hear[*fb.RegisteredT](a, "Registered", nil)
	hear[*fb.RegisteredT](b, "Registered", nil)
	if d := hear[*fb.AgentDeadT](a, "the death of n2", nil); d.Name != "n2" || !strings.Contains(d.Reason, "silent") {
		t.Errorf("dead: %+v", d)
	}
	b.until("its number to be refused", func() bool {
		var refused *transport.RefusedError
		return errors.As(b.dialed, &refused) && refused.Code == fb.RefuseCodeDead
	})
}

// A journal that something has damaged is not used, and the keeper is told why: it would only find the
// same again.
func TestDamagedJournal(t *testing.T) {
	s := newSite(t, t.TempDir(), nil)
	s.start()
	a := s.agent("n1", false)
	hear[*fb.RegisteredT](a, "Registered", nil)
	a.crash()
	s.crash()
	path := s.path(bootdoc.JournalName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[40] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	m, ok := s.start().(*fb.KeeperStopT)
	if !ok || m.Code != exitBug || !strings.Contains(m.Reason, "damaged") || !strings.Contains(m.Reason, path) {
		t.Errorf("the keeper was told %+v", m)
	}
}

// readJournal gives the records of a journal as bytes.
func readJournal(t *testing.T, path string) (types []wire.Type, bodies [][]byte) {
	t.Helper()
	j, err := journal.Open(path, journal.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := j.Replay(func(typ uint16, body []byte) error {
		types, bodies = append(types, wire.Type(typ)), append(bodies, bytes.Clone(body))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return types, bodies
}

// The ring holds what the core was told: told again, it makes the same records.
func TestRingReplays(t *testing.T) {
	s := newSite(t, t.TempDir(), nil)
	s.start()
	a := s.agent("n1", false)
	hear[*fb.RegisteredT](a, "Registered", nil)
	a.say(gang(a, 1, 1, 1))
	runGang(a)
	hear(a, "the gang to run", phase(fb.GroupPhaseRunning))
	endRank(a, 1)
	hear(a, "the restart", func(u *fb.GroupUpdateT) bool { return u.Incarnation == 2 })
	s.crash()
	types, bodies := readJournal(t, s.path(bootdoc.JournalName))
	term, err := wire.Unmarshal(types[0], bodies[0])
	if err != nil {
		t.Fatal(err)
	}
	core := New(ConfigOf(&s.doc, "test"))
	out, err := core.Open(term.(*fb.RecTermT).Wall, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.path(RingName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ReadEvents(f, func(now int64, ev Event) error {
		out = core.Step(now, ev, out)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range out {
		rec, ok := e.(Append)
		if !ok {
			continue
		}
		body, err := wire.Marshal(nil, rec.Rec)
		if err != nil {
			t.Fatal(err)
		}
		if n >= len(bodies) || !bytes.Equal(body, bodies[n]) {
			t.Fatalf("record %d: %s, which the journal does not have there", n, show(rec.Rec))
		}
		n++
	}
	if n != len(bodies) {
		t.Errorf("%d of %d records", n, len(bodies))
	}
}

// TestFullDisk: on a disk without room what runs goes on and its end is kept; new gangs are refused
// with 73 and the reason, until there is room again.
func TestFullDisk(t *testing.T) {
	const inside = "MANIPLE_TEST_SMALL_DISK"
	if dir := os.Getenv(inside); dir != "" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
			t.Fatalf("mount: %v", err)
		}
		fullDisk(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("no user namespaces here, so no small disk: %v", err)
	}
	if strings.Contains(string(out), "mount: operation not permitted") {
		t.Skip("no mounts in user namespaces here, so no small disk")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, dir string) {
	s := newSite(t, dir, nil)
	s.start()
	a := s.agent("n1", false)
	hear[*fb.RegisteredT](a, "Registered", nil)
	a.say(gang(a, 1, 1, 0))
	runGang(a)
	hear(a, "the gang to run", phase(fb.GroupPhaseRunning))
	ballast := s.path("ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	// Records of groups that can't be had: the reserve is used up to its half.
	n := uint64(100)
	for low := false; !low; n++ {
		q := gang(a, n, 1, 0)
		q.Bundles[0].Resources[0].Amount = 990_000
		q.Program.Env = []string{"X=" + strings.Repeat("x", 20_000)}
		a.say(q)
		u := hear(a, "an answer", func(u *fb.GroupUpdateT) bool { return *u.Group == *q.Group && u.Phase == fb.GroupPhaseEnded })
		low = u.End.Code == codeCannotCreate && strings.Contains(u.End.Reason, "no room")
		if n > 1000 {
			t.Fatal("the disk is full and nothing is refused")
		}
	}
	a.noticed("JOURNAL_SHORT")
	endRank(a, 6)
	if u := hear(a, "the end", phase(fb.GroupPhaseEnded)); u.End.Code != 6 {
		t.Errorf("end %+v, want code 6", u.End)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	a.noticed("JOURNAL_ROOM")
	a.say(gang(a, 2, 1, 0))
	hear(a, "a gang with room again", func(u *fb.GroupUpdateT) bool { return u.Phase == fb.GroupPhaseReserving })
	s.crash()
	types, _ := readJournal(t, s.path(bootdoc.JournalName))
	ends := 0
	for _, typ := range types {
		if typ == fb.FrameTypeRecRankEnd {
			ends++
		}
	}
	if ends != 1 {
		t.Errorf("%d ends of ranks in the journal, want 1", ends)
	}
}
