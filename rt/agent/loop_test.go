package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestGangOnTwoNodes(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	c := nodes[0].connect(t)
	s := shell(t, 2, `echo "rank $RANK of $WORLD_SIZE on node $NODE_RANK"; echo same; echo $MASTER_PORT > port-$RANK`)
	s.Strategy = fb.StrategyStrictSpread
	var out, errs screen
	end := run(t, c, s, gang.IO{Stdout: &out, Stderr: &errs})
	if end.Code != 0 || end.Cause != "ok" || end.Report() != "" {
		t.Errorf("%+v\n%s", end, errs.String())
	}
	for _, want := range []string{"[0] rank 0 of 2 on node 0\n", "[1] rank 1 of 2 on node 1\n", "same\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	a, _ := os.ReadFile(filepath.Join(s.Program.Cwd, "port-0"))
	b, _ := os.ReadFile(filepath.Join(s.Program.Cwd, "port-1"))
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("ports %q and %q", a, b)
	}
}

func TestFailureEndsTheGangAndNamesTheRank(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	s := shell(t, 2, `[ $RANK = 0 ] && exec sleep 600; echo "no such luck" >&2; exit 3`)
	s.Strategy = fb.StrategyStrictSpread
	end := run(t, nodes[0].connect(t), s, gang.IO{})
	if end.Code != 3 || end.Rank != 1 || end.Node != "n2" {
		t.Errorf("%+v", end)
	}
	if want := "rank 1 on n2 exited with code 3 (of 2 ranks); last line: no such luck"; end.Report() != want {
		t.Errorf("%q, want %q", end.Report(), want)
	}
}

func TestInputAndOutputWhole(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	c := nodes[1].connect(t) // rank 0 is on the other node
	big := bytes.Repeat([]byte("0123456789abcdef\n"), 200_000)
	s := shell(t, 1, `sha256sum; head -c 5000000 /dev/zero; sleep 0.1; echo end`)
	var out screen
	end := run(t, c, s, gang.IO{Stdin: bytes.NewReader(big), Stdout: &out})
	sum := sha256.Sum256(big)
	got := out.String()
	if end.Code != 0 || !strings.HasPrefix(got, hex.EncodeToString(sum[:])) || !strings.HasSuffix(got, "\x00end\n") {
		t.Errorf("%+v; %d bytes, begins %.80q", end, len(got), got)
	}
	if n := strings.Count(got, "\x00"); n != 5_000_000 {
		t.Errorf("%d of 5000000 bytes came", n)
	}
}

// counter writes numbered lines, slowly at first, then all at once; its exit code is 5.
const counter = `i=0; while [ $i -lt 200 ]; do echo "line $i"; i=$((i+1)); sleep 0.01; done; seq -f 'line %.0f' 200 20000; exit 5`

func checkCounter(t *testing.T, data string) {
	t.Helper()
	i := 0
	for line := range strings.Lines(data) {
		if line != fmt.Sprintf("line %d\n", i) {
			t.Fatalf("after %d lines: %q", i, line)
		}
		i++
	}
	if i != 20001 {
		t.Errorf("%d lines", i)
	}
}

// kills ends a daemon of each node with SIGKILL, twice while the gang runs; the second time the one
// that came after it carries the output.
func kills(t *testing.T, out *screen, role string, nodes ...*node) {
	for _, line := range []string{"line 20\n", "line 80\n"} {
		out.wait(t, line)
		for _, k := range nodes {
			_ = syscall.Kill(k.daemon(role), syscall.SIGKILL)
		}
	}
}

// A killed agent, that of the client or that of the rank, costs no rank, no byte of output and not the
// exit code; nor does a killed head.
func TestKilledAgentsAndHeads(t *testing.T) {
	for _, tc := range []struct {
		name string
		role string
		at   []int
	}{{"agent of the client", "agent", []int{0}}, {"agent of the rank", "agent", []int{1}}, {"both", "agent", []int{0, 1}}, {"head", "head", []int{0}}} {
		t.Run(tc.name, func(t *testing.T) {
			nodes := cluster(t, "n1", "n2")
			c := nodes[0].connect(t)
			s := shell(t, 2, `[ $NODE_RANK = 0 ] && exec sleep 600; `+counter)
			s.Strategy = fb.StrategyStrictSpread
			var out screen
			var at []*node
			for _, i := range tc.at {
				at = append(at, nodes[i])
			}
			go kills(t, &out, tc.role, at...)
			end := run(t, c, s, gang.IO{Stdout: &out, Prefix: gang.PrefixNever})
			if end.Code != 5 || end.Rank != 1 || end.Restarts != 0 {
				t.Errorf("%+v", end)
			}
			checkCounter(t, out.String())
		})
	}
}

func TestClientThatDiesTakesItsGangAlong(t *testing.T) {
	nodes := cluster(t, "n1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := gang.Connect(ctx, gang.Endpoint{Socket: nodes[0].socket})
	if err != nil {
		t.Fatal(err)
	}
	s := shell(t, 1, `echo $$ > pid; echo up; sleep 600`)
	var out screen
	over := make(chan error, 1)
	go func() {
		_, err := gang.Run(t.Context(), c, s, gang.IO{Stdout: &out})
		over <- err
	}()
	out.wait(t, "up")
	data, _ := os.ReadFile(filepath.Join(s.Program.Cwd, "pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	_ = c.Close()
	if err := <-over; err == nil {
		t.Error("Run went on without its client")
	}
	until(t, "the program has ended", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestInterrupts(t *testing.T) {
	nodes := cluster(t, "n1")
	c := nodes[0].connect(t)
	for _, tc := range []struct {
		name, script string
		what         []gang.Interrupt
		code         int
	}{
		{"a program that saves its work", `trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done`, []gang.Interrupt{gang.Interrupted}, 0},
		{"a program that dies of it", `echo up; exec sleep 600`, []gang.Interrupt{gang.Interrupted}, 130},
		{"a program that ignores it, twice", `trap '' TERM; echo up; while :; do sleep 0.05; done`, []gang.Interrupt{gang.Interrupted, gang.Interrupted}, 130},
		{"TERM", `echo up; exec sleep 600`, []gang.Interrupt{gang.Terminated}, 143},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs screen
			ints := make(chan gang.Interrupt)
			go func() {
				out.wait(t, "up")
				for _, w := range tc.what {
					ints <- w
				}
			}()
			deaf := `setsid sh -c 'trap "" TERM INT; while :; do sleep 1; done' & echo deaf $!; `
			end := run(t, c, shell(t, 1, deaf+tc.script), gang.IO{Stdout: &out, Stderr: &errs, Interrupts: ints})
			if end.Code != tc.code || end.Cause != "cancelled" {
				t.Errorf("%+v\n%s", end, errs.String())
			}
			if tc.code == 0 && !strings.Contains(out.String(), "saved") {
				t.Errorf("%q", out.String())
			}
			var pid int
			_, text, _ := strings.Cut(out.String(), "deaf ")
			if _, err := fmt.Sscan(text, &pid); err != nil {
				t.Fatal(err)
			}
			until(t, "the end of a process that left its rank's session", func() bool { return gone(pid) })
		})
	}
}

func TestTerminal(t *testing.T) {
	nodes := cluster(t, "n1")
	c := nodes[0].connect(t)
	s := shell(t, 1, `tty >/dev/null && echo is a terminal; stty size; read x; echo "got $x"; exit 4`)
	s.Program.Pty, s.Program.Rows, s.Program.Cols = true, 33, 99
	var out screen
	end := run(t, c, s, gang.IO{Stdin: strings.NewReader("hello\n"), Stdout: &out})
	for _, want := range []string{"is a terminal", "33 99", "got hello"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
	if end.Code != 4 {
		t.Errorf("%+v", end)
	}
}

func TestQueryWatchCancelOverTCP(t *testing.T) {
	nodes := cluster(t, "n1")
	c := nodes[0].connect(t)
	authority, err := tcp.NewAuthority(clusterID, secret)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := authority.Credential(fb.RoleClient)
	if err != nil {
		t.Fatal(err)
	}
	ca, cert, key, err := cred.PEM()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.Query(t.Context(), "nodes", "")
	if err != nil || !strings.Contains(string(raw), "n1") {
		t.Fatalf("%s, %v", raw, err)
	}
	port := keeperPort(t, nodes[0])
	far, err := gang.Connect(t.Context(), gang.Endpoint{Addresses: []string{"127.0.0.1:" + port}, CA: ca, Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var out screen
	over := make(chan gang.End, 1)
	started := make(chan *fb.GroupUpdateT, 1)
	go func() {
		over <- run(t, c, shell(t, 1, "echo up; sleep 600"), gang.IO{Stdout: &out, Started: func(u *fb.GroupUpdateT) { started <- u }})
	}()
	u := <-started
	id := groupOf(u)
	seen := make(chan gang.End, 1)
	go func() {
		end, err := far.Watch(t.Context(), id, nil)
		if err != nil {
			t.Error(err)
		}
		seen <- end
	}()
	if err := far.Cancel(t.Context(), id, fb.GroupCancelT{Mode: fb.CancelModeStop, Reason: "because", ExitCode: 77}); err != nil {
		t.Error(err)
	}
	mine, theirs := <-over, <-seen
	if mine.Code != 77 || theirs.Code != 77 || mine.Cause != "cancelled" {
		t.Errorf("%+v and %+v", mine, theirs)
	}
	if _, err := far.Query(t.Context(), "nonsense", ""); err == nil {
		t.Error("nonsense has an answer")
	}
}

func TestDrainEndsEverything(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	c := nodes[1].connect(t)
	s := shell(t, 2, `trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	s.Strategy = fb.StrategyStrictSpread
	var out screen
	over := make(chan gang.End, 1)
	go func() { over <- run(t, c, s, gang.IO{Stdout: &out}) }()
	out.wait(t, "up")
	other := nodes[0].connect(t)
	if err := other.Drain(t.Context(), "the test is over", time.Now().Add(10*time.Second), 0, false); err != nil {
		t.Error(err)
	}
	end := <-over
	if end.Code != 0 || end.Cause != "drained" || !strings.Contains(out.String(), "saved") {
		t.Errorf("%+v\n%s", end, out.String())
	}
	for _, n := range nodes {
		if e := n.event("end"); e["code"] != float64(0) {
			t.Errorf("%v", e)
		}
	}
}

// A connection that means another agent, as that of a peer which does not know yet that this agent's
// predecessor is dead, is refused before it counts as anything.
func TestHelloForAnother(t *testing.T) {
	nodes := cluster(t, "n1")
	authority, err := tcp.NewAuthority(clusterID, secret)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := authority.Credential(fb.RoleAgent)
	if err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + keeperPort(t, nodes[0])
	const live = 1 // the first agent's number
	for _, tc := range []struct {
		to   uint32
		code fb.RefuseCode
	}{{live, fb.RefuseCodeNone}, {0, fb.RefuseCodeNone}, {live + 1, fb.RefuseCodeIdentity}} {
		conn, err := tcp.Dial(t.Context(), addr, cred, transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeControl})
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		w, err := transport.Greet(conn, &fb.HelloT{Cluster: clusterID, Role: fb.RoleAgent, Agent: 99, NodeKey: "somebody", To: tc.to})
		_ = conn.Close()
		var refused *transport.RefusedError
		switch {
		case tc.code == fb.RefuseCodeNone && (err != nil || w.Agent != live):
			t.Errorf("meant %d: %+v, %v", tc.to, w, err)
		case tc.code != fb.RefuseCodeNone && (!errors.As(err, &refused) || refused.Code != tc.code || !strings.Contains(refused.Text, "agent 1 answers here")):
			t.Errorf("meant %d: %v", tc.to, err)
		}
	}
}

// A keeper that is killed is a node's death; its agent leaves nothing behind.
func TestKilledKeeper(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	c := nodes[0].connect(t)
	s := shell(t, 2, `echo $$ > pid-$NODE_RANK; echo up; (trap '' TERM; exec setsid sleep 601) & sleep 600`)
	s.Strategy = fb.StrategyStrictSpread
	var out screen
	over := make(chan gang.End, 1)
	go func() { over <- run(t, c, s, gang.IO{Stdout: &out}) }()
	until(t, "both ranks are up", func() bool {
		shown := out.String() // folded or not, as the machine's load has it
		return strings.Contains(shown, "[0-1] up") || strings.Contains(shown, "[0] up") && strings.Contains(shown, "[1] up")
	})
	began := time.Now()
	agentPID := nodes[1].daemon("agent")
	_ = nodes[1].cmd.Process.Kill()
	end := <-over
	if end.Code != 137 || end.Cause != "node" || end.Node != "n2" {
		t.Errorf("%+v", end)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	until(t, fmt.Sprintf("agent %d has ended and %s is gone", agentPID, nodes[1].dir), func() bool {
		_, err := os.Stat(nodes[1].dir)
		return os.IsNotExist(err) && syscall.Kill(agentPID, 0) != nil
	})
}

// An idle agent is small and leaks nothing over many gangs.
func TestManyGangsLeaveNothing(t *testing.T) {
	nodes := cluster(t, "n1")
	c := nodes[0].connect(t)
	pid := nodes[0].daemon("agent")
	count := func() int {
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return len(fds)
	}
	run(t, c, shell(t, 2, "true"), gang.IO{})
	before := count()
	for range 15 {
		if end := run(t, c, shell(t, 2, "echo hello; echo there >&2"), gang.IO{}); end.Code != 0 {
			t.Fatalf("%+v", end)
		}
	}
	until(t, fmt.Sprintf("no spool is left and there are %d descriptors again", before), func() bool {
		spools, _ := filepath.Glob(filepath.Join(nodes[0].dir, "spool-*"))
		return len(spools) == 0 && count() <= before
	})
}
