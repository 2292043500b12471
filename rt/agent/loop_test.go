package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/rt/head"
	"github.com/maniple-hpc/maniple/rt/keeper"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// The test binary is also the keeper and its daemons: real processes, real sockets, real programs.

func init() {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "keeper":
			os.Exit(keeper.Main(os.Args[2:]))
		case "agent":
			os.Exit(agent.Main(os.Args[2:], "test"))
		case "head":
			os.Exit(head.Main(os.Args[2:], "test"))
		}
	}
	os.Exit(m.Run())
}

// node is a keeper that the test started.
type node struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     *os.File
	events chan map[string]any
	dir    string
	socket string
	done   chan struct{}
}

var secret = bytes.Repeat([]byte{7}, 32)

const clusterID = "00112233445566778899aabbccddeeff"

// cluster starts a keeper with the head and, with more than one name, others beside it.
func cluster(t *testing.T, names ...string) []*node {
	t.Helper()
	base := t.TempDir()
	var nodes []*node
	var headAt []string
	for i, name := range names {
		doc := bootdoc.Doc{
			Version: 1, Cluster: clusterID, Secret: secret, Name: "test", Base: base, Loopback: true, Expect: names, Owner: "stdin",
			Head: headAt, Node: bootdoc.Node{Name: name, Fake: true, CPUs: 8, Memory: 1 << 30},
		}
		n := startNode(t, &doc, i == 0)
		nodes = append(nodes, n)
		if i == 0 {
			for _, a := range n.event("head")["addresses"].([]any) {
				headAt = append(headAt, a.(string))
			}
		}
	}
	for _, n := range nodes {
		ready := n.event("ready")
		n.dir, n.socket = ready["dir"].(string), ready["socket"].(string)
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			_ = n.in.Close()
		}
		for _, n := range nodes {
			select {
			case <-n.done:
			case <-time.After(20 * time.Second):
				t.Error("a keeper does not end")
				_ = n.cmd.Process.Kill()
			}
		}
		if left, _ := os.ReadDir(base); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return nodes
}

func startNode(t *testing.T, doc *bootdoc.Doc, hosts bool) *node {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	mode := "--head=no"
	if hosts {
		mode = "--head=yes"
	}
	n := &node{t: t, in: w, events: make(chan map[string]any, 100), done: make(chan struct{})}
	n.cmd = exec.Command("/proc/self/exe", "keeper", mode)
	n.cmd.Stdin, n.cmd.Stderr = r, os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	line, _ := json.Marshal(doc)
	if _, err := w.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(n.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			var ev map[string]any
			if json.Unmarshal(s.Bytes(), &ev) == nil {
				n.events <- ev
			}
		}
		_ = n.cmd.Wait()
	}()
	return n
}

// event waits for a keeper's line of that kind.
func (n *node) event(kind string) map[string]any {
	n.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case ev := <-n.events:
			if ev["event"] == kind {
				return ev
			}
			if ev["event"] == "error" {
				n.t.Fatalf("keeper: %v", ev)
			}
		case <-limit:
			n.t.Fatalf("no %s from the keeper", kind)
		}
	}
}

// daemon gives the pid of the keeper's agent or head.
func (n *node) daemon(role string) int {
	n.t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.cmd.Process.Pid, n.cmd.Process.Pid))
		for _, f := range strings.Fields(string(data)) {
			line, _ := os.ReadFile("/proc/" + f + "/cmdline")
			if strings.HasPrefix(string(line), "maniple\x00"+role) {
				pid, _ := strconv.Atoi(f)
				return pid
			}
		}
	}
	n.t.Fatalf("no %s", role)
	return 0
}

func (n *node) connect(t *testing.T) *gang.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := gang.Connect(ctx, gang.Endpoint{Socket: n.socket, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// screen is a writer that can be looked at meanwhile.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *screen) wait(t *testing.T, text string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !strings.Contains(s.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("no %q in %q", text, s.String())
		}
	}
}

func shell(t *testing.T, ranks int, script string) gang.Spec {
	s := gang.Spec{Name: "t", Program: &fb.ProgramT{
		Argv: []string{"sh", "-c", script}, Env: os.Environ(), Cwd: t.TempDir(), Stdin: fb.StdinToRankZero, MasterPort: true, Grace: int64(5 * time.Second),
	}}
	for range ranks {
		s.Bundles = append(s.Bundles, &fb.BundleT{Ranks: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10000}}})
	}
	return s
}

func run(t *testing.T, c *gang.Client, s gang.Spec, io gang.IO) gang.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	end, err := gang.Run(ctx, c, s, io)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

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

// kills ends a daemon of each node n times with SIGKILL while the gang runs.
func kills(t *testing.T, out *screen, n int, role string, nodes ...*node) {
	out.wait(t, "line 20")
	for range n {
		for _, k := range nodes {
			_ = syscall.Kill(k.daemon(role), syscall.SIGKILL)
		}
		time.Sleep(300 * time.Millisecond) // the next one has begun its work, or is about to
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
			go kills(t, &out, 2, tc.role, at...)
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
	for limit := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the program lives on")
		}
	}
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
			end := run(t, c, shell(t, 1, tc.script), gang.IO{Stdout: &out, Stderr: &errs, Interrupts: ints})
			if end.Code != tc.code || end.Cause != "cancelled" {
				t.Errorf("%+v\n%s", end, errs.String())
			}
			if tc.code == 0 && !strings.Contains(out.String(), "saved") {
				t.Errorf("%q", out.String())
			}
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
	if far.Node() != "n1" || far.Cluster() != clusterID {
		t.Errorf("attached to %s of %s", far.Node(), far.Cluster())
	}
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

// A keeper that is killed is a node's death; its agent leaves nothing behind.
func TestKilledKeeper(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	c := nodes[0].connect(t)
	s := shell(t, 2, `echo $$ > pid-$NODE_RANK; echo up; (trap '' TERM; exec setsid sleep 601) & sleep 600`)
	s.Strategy = fb.StrategyStrictSpread
	var out screen
	over := make(chan gang.End, 1)
	go func() { over <- run(t, c, s, gang.IO{Stdout: &out}) }()
	out.wait(t, "[0-1] up")
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
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(nodes[1].dir)
		if os.IsNotExist(err) && syscall.Kill(agentPID, 0) != nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("agent %d or %s is left", agentPID, nodes[1].dir)
		}
	}
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
	for limit := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		spools, _ := filepath.Glob(filepath.Join(nodes[0].dir, "spool-*"))
		if len(spools) == 0 && count() <= before {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d descriptors, %d before; spools %v", count(), before, spools)
		}
	}
}

func keeperPort(t *testing.T, n *node) string {
	data, err := os.ReadFile(filepath.Join(n.dir, bootdoc.KeeperName))
	var k struct{ Port int }
	if err != nil || json.Unmarshal(data, &k) != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(k.Port)
}

func groupOf(u *fb.GroupUpdateT) id.Task {
	return id.Task{Agent: id.Agent(u.Group.Agent), Process: id.Process(u.Group.Process), Counter: u.Group.Counter}
}
