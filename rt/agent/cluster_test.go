package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/rt/head"
	"github.com/maniple-hpc/maniple/rt/keeper"
	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport/wire"
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
			os.Exit(agent.Main(os.Args[2:], "test", nil))
		case "head":
			os.Exit(head.Main(os.Args[2:], "test"))
		case "-m": // maniple._template
			os.Exit(template())
		case strconv.Itoa(wire.Version): // maniple-native
			os.Exit(native.Serve(os.Args[1:], func(q native.Question, reply func([]byte, error)) { reply(json.Marshal(q.What + " " + q.ID)) }))
		case "worker":
			os.Exit(worker(os.Args[2]))
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
	others map[string]map[string]any // that came while another was waited for: the agent may be ready before the head says so
	base   string
	dir    string
	socket string
	done   chan struct{}
}

var secret = bytes.Repeat([]byte{7}, 32)

const clusterID = "00112233445566778899aabbccddeeff"

// cluster starts a keeper with the head and, with more than one name, others beside it.
func cluster(t *testing.T, names ...string) []*node {
	t.Helper()
	return clusterWith(t, func(*bootdoc.Doc) {}, names...)
}

// clusterWith is cluster of nodes with other boot documents.
func clusterWith(t *testing.T, change func(*bootdoc.Doc), names ...string) []*node {
	t.Helper()
	var nodes []*node
	var bases []string // of each, as two may have one name
	var headAt []string
	for i, name := range names {
		base := t.TempDir()
		bases = append(bases, base)
		doc := bootdoc.Doc{
			Version: 1, Cluster: clusterID, Secret: secret, Name: "test", Base: base, Loopback: true, Expect: names, Owner: "stdin",
			Head: headAt, Node: bootdoc.Node{Name: name, Fake: true, CPUs: 8, Memory: 1 << 30},
		}
		change(&doc)
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
		if logs := nodes[0].logs(); strings.Contains(logs, "DATA RACE") { // in a daemon, which is this binary
			t.Error(logs)
		}
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
		for _, base := range bases {
			if left, _ := os.ReadDir(base); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
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
	n := &node{t: t, base: doc.Base, in: w, events: make(chan map[string]any, 100), others: map[string]map[string]any{}, done: make(chan struct{})}
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
	if ev := n.others[kind]; ev != nil {
		delete(n.others, kind)
		return ev
	}
	limit := time.After(time.Minute) // two nodes are up in 10 s under the race detector at load 27
	for {
		select {
		case ev := <-n.events:
			if ev["event"] == kind {
				return ev
			}
			if ev["event"] == "error" || ev["event"] == "end" {
				n.t.Fatalf("keeper: %v, before %s; its daemons say:\n%s", ev, kind, n.logs())
			}
			n.others[ev["event"].(string)] = ev
		case <-limit:
			n.t.Fatalf("no %s from the keeper; its daemons say:\n%s", kind, n.logs())
		}
	}
}

// logs is what the daemons of all nodes of the cluster wrote, for a test that failed.
func (n *node) logs() string {
	var b strings.Builder
	found, _ := filepath.Glob(filepath.Join(n.base, "*", "*", "*.log"))
	for _, path := range found {
		data, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "-- %s\n%s", path, data)
	}
	return b.String()
}

// daemon gives the pid of the keeper's agent or head.
func (n *node) daemon(role string) int {
	n.t.Helper()
	pid := 0
	until(n.t, "there is an "+role, func() bool {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.cmd.Process.Pid, n.cmd.Process.Pid))
		for _, f := range strings.Fields(string(data)) {
			line, _ := os.ReadFile("/proc/" + f + "/cmdline")
			if strings.HasPrefix(string(line), "maniple\x00"+role) {
				pid, _ = strconv.Atoi(f)
			}
		}
		return pid != 0
	})
	return pid
}

// until polls for what other processes do.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("after 30 s it is not true that %s", what)
		}
	}
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
	until(t, fmt.Sprintf("the screen shows %q", text), func() bool { return strings.Contains(s.String(), text) })
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
