package keeper_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// patience is how long a test waits for what should come at once; the machine may be loaded.
const patience = 20 * time.Second

// node is a keeper under test.
type node struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  io.Closer
	stderr  *bytes.Buffer
	base    string
	name    string
	cluster string
	hosts   bool
	events  chan map[string]any
	conns   chan *link
	over    chan struct{}

	mu    sync.Mutex
	lines []string
}

// link is one process of a daemon, seen from the test.
type link struct {
	n      *node
	conn   *uds.FDConn
	config *fb.KeeperConfigT
	pid    int
	states chan told
	other  chan told
}

type told struct {
	m     wire.Message
	files []*os.File
}

// setup is what differs between tests.
type setup struct {
	doc   func(*bootdoc.Doc)
	env   []string
	args  []string
	base  string
	wrap  func(*exec.Cmd)
	quiet bool // no boot document
}

func boot(t *testing.T, s setup) *node {
	t.Helper()
	n := &node{t: t, base: s.base, events: make(chan map[string]any, 64), conns: make(chan *link, 16), over: make(chan struct{}), stderr: new(bytes.Buffer)}
	if n.base == "" {
		n.base = t.TempDir()
	}
	relayPath := filepath.Join(t.TempDir(), "relay")
	l, err := net.Listen("unix", relayPath)
	if err != nil {
		t.Fatal(err)
	}
	for path := relayPath; path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil { // some keepers run as another user
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { l.Close() })
	go n.accept(l)
	doc := &bootdoc.Doc{
		Version: bootdoc.Version, Cluster: hex.EncodeToString(make([]byte, 16)), Secret: bytes.Repeat([]byte{7}, 32),
		Name: "test", Base: n.base, Loopback: true, Node: bootdoc.Node{Name: "n1"},
	}
	if s.doc != nil {
		s.doc(doc)
	}
	if n.name = doc.Node.Name; n.name == ".." {
		n.name = "n1"
	}
	n.cluster = doc.Name
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := s.args
	if args == nil {
		args = []string{"--head=yes"}
	}
	n.hosts = args[0] == "--head=yes"
	n.cmd = exec.Command(exe, append([]string{"keeper"}, args...)...)
	n.cmd.Env = append(append(os.Environ(), relayVariable+"="+relayPath, "GORACE=atexit_sleep_ms=0"), s.env...)
	n.cmd.Stderr = n.stderr
	n.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if s.wrap != nil {
		s.wrap(n.cmd)
	}
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.stdout = out
	go n.readEvents(out)
	t.Cleanup(n.cleanup)
	if s.quiet {
		n.stdin.Close()
	} else {
		n.say(doc)
	}
	return n
}

func (n *node) readEvents(out io.Reader) {
	defer close(n.over)
	in := bufio.NewScanner(out)
	for in.Scan() {
		n.mu.Lock()
		n.lines = append(n.lines, in.Text())
		n.mu.Unlock()
		var ev map[string]any
		if json.Unmarshal(in.Bytes(), &ev) == nil {
			n.events <- ev
		}
	}
	n.cmd.Wait()
	close(n.events)
}

func (n *node) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			return
		}
		raw, _ := c.(*net.UnixConn).SyscallConn()
		pid := 0
		raw.Control(func(fd uintptr) {
			if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				pid = int(cred.Pid)
			}
		})
		c.Close()
		conn, err := uds.NewFDConn(f)
		if err != nil {
			return
		}
		lk := &link{n: n, conn: conn, pid: pid, states: make(chan told, 1024), other: make(chan told, 1024)}
		go lk.read()
	}
}

func (l *link) read() {
	defer close(l.states)
	defer close(l.other)
	for {
		msg, files, err := l.conn.Recv()
		if err != nil {
			return
		}
		switch m := msg.M.(type) {
		case *fb.KeeperConfigT:
			l.config = m
			l.n.conns <- l
		case *fb.ProgramStateT:
			l.states <- told{m, files}
		default:
			l.other <- told{m, files}
		}
	}
}

// cleanup ends the keeper if the test did not, and shows what it said if the test failed.
func (n *node) cleanup() {
	n.stdin.Close()
	if n.cmd.ProcessState == nil {
		n.cmd.Process.Kill()
	}
	select {
	case <-n.over:
	case <-time.After(patience):
	}
	if n.t.Failed() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.t.Logf("stdout:\n%s\nstderr:\n%s", strings.Join(n.lines, "\n"), n.stderr)
		if log, err := os.ReadFile(filepath.Join(n.dir(), "keeper.log")); err == nil {
			n.t.Logf("keeper.log:\n%s", log)
		}
	}
}

func (n *node) dir() string { return filepath.Join(n.base, n.cluster, n.name) }

func (n *node) say(line any) {
	n.t.Helper()
	data, err := json.Marshal(line)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.stdin.Write(append(data, '\n')); err != nil && !errors.Is(err, unix.EPIPE) {
		n.t.Fatal(err)
	}
}

// link waits for the next process of a role.
func (n *node) link(role fb.Role) *link {
	n.t.Helper()
	var others []*link
	defer func() {
		for _, l := range others {
			n.conns <- l
		}
	}()
	deadline := time.After(patience)
	for {
		select {
		case l := <-n.conns:
			if l.config.Role == role {
				return l
			}
			others = append(others, l)
		case <-deadline:
			n.t.Fatalf("no %s was started", role)
		}
	}
}

func (n *node) agent() *link { n.t.Helper(); return n.link(fb.RoleAgent) }

// event waits for an event of a kind; others before it are passed over.
func (n *node) event(kind string) map[string]any {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case ev, ok := <-n.events:
			if !ok {
				n.t.Fatalf("the keeper ended without %q", kind)
			}
			if ev["event"] == kind {
				return ev
			}
		case <-deadline:
			n.t.Fatalf("no event %q", kind)
		}
	}
}

// ended waits for the keeper's end and checks that nothing is left of it (KEEP-6).
func (n *node) ended(code int) map[string]any {
	n.t.Helper()
	ev := n.event("end")
	select {
	case <-n.over:
	case <-time.After(patience):
		n.t.Fatal("the keeper printed its end and runs on")
	}
	if got := n.cmd.ProcessState.ExitCode(); got != code {
		n.t.Errorf("exit code %d, not %d", got, code)
	}
	if _, err := os.Lstat(n.dir()); !errors.Is(err, os.ErrNotExist) {
		n.t.Errorf("directory left: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.lines[len(n.lines)-1]; !strings.Contains(last, `"end"`) {
		n.t.Errorf("the last line is not the end: %s", last)
	}
	return ev
}

func (l *link) send(m wire.Message) {
	l.n.t.Helper()
	if err := l.conn.Send(m, 0, nil); err != nil {
		l.n.t.Fatal(err)
	}
}

func (l *link) kill() {
	unix.Kill(l.pid, unix.SIGKILL)
}

// stop ends the node as an agent does, and waits for the end.
func (l *link) stop() {
	l.n.t.Helper()
	l.send(&fb.KeeperStopT{Reason: "test over"})
	l.conn.Close()
	if l.config.Role == fb.RoleAgent && l.n.hosts {
		l.n.link(fb.RoleHead).conn.Close()
	}
	l.n.ended(0)
}

func (l *link) recv(what string) told {
	l.n.t.Helper()
	select {
	case m, ok := <-l.other:
		if !ok {
			l.n.t.Fatalf("connection closed, waiting for %s", what)
		}
		return m
	case <-time.After(patience):
		l.n.t.Fatalf("no %s", what)
	}
	panic("unreachable")
}

var group = &fb.TaskIDT{Agent: 3, Process: 1, Counter: 42}

// rank is a program seen by its agent.
type rank struct {
	l     *link
	m     *fb.ProgramLaunchT
	state *fb.ProgramStateT
	files []*os.File
}

func (l *link) launch(m *fb.ProgramLaunchT) *rank {
	l.n.t.Helper()
	m.Group = group
	if m.Env == nil {
		m.Env = os.Environ()
	}
	if m.Cwd == "" {
		m.Cwd = "/"
	}
	l.send(m)
	r := &rank{l: l, m: m}
	r.next()
	return r
}

func sh(script string) *fb.ProgramLaunchT {
	return &fb.ProgramLaunchT{Argv: []string{"sh", "-c", script}}
}

// next takes the next state of the rank.
func (r *rank) next() *fb.ProgramStateT {
	r.l.n.t.Helper()
	select {
	case s, ok := <-r.l.states:
		if !ok {
			r.l.n.t.Fatal("connection closed, waiting for a program's state")
		}
		r.state = s.m.(*fb.ProgramStateT)
		if len(s.files) > 0 {
			r.files = s.files
		}
	case <-time.After(patience):
		r.l.n.t.Fatal("no state of the program")
	}
	return r.state
}

func (r *rank) end() *fb.ProgramStateT {
	r.l.n.t.Helper()
	if r.state.Phase != fb.RankPhaseEnded {
		r.next()
	}
	if r.state.Phase != fb.RankPhaseEnded {
		r.l.n.t.Fatalf("phase %s, not ended", r.state.Phase)
	}
	return r.state
}

func (r *rank) stdin() *os.File { return r.files[0] }
func (r *rank) stdout() *os.File {
	if r.state.Pty || !r.m.Stdin {
		return r.files[0]
	}
	return r.files[1]
}
func (r *rank) stderr() *os.File { return r.files[len(r.files)-1] }

// lines reads output until it has n lines (n < 0: to the end).
func (r *rank) lines(f *os.File, n int) []string {
	r.l.n.t.Helper()
	unix.SetNonblock(int(f.Fd()), true)
	var data []byte
	buf := make([]byte, 64<<10)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		k, err := unix.Read(int(f.Fd()), buf)
		if k > 0 {
			data = append(data, buf[:k]...)
		}
		if (k == 0 && err == nil) || err == unix.EIO || (n >= 0 && bytes.Count(data, []byte("\n")) >= n) {
			return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		}
		if err == unix.EAGAIN {
			unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, 100)
		}
	}
	r.l.n.t.Fatalf("output: got %q", data)
	return nil
}

func (r *rank) signal(sig unix.Signal, tree bool, grace time.Duration) {
	r.l.n.t.Helper()
	r.l.send(&fb.ProgramSignalT{Group: group, Incarnation: r.m.Incarnation, Rank: r.m.Rank, Signal: int32(sig), Tree: tree, Grace: int64(grace)})
}

func (r *rank) forget() {
	r.l.n.t.Helper()
	r.l.send(&fb.ProgramForgetT{Group: group, Incarnation: r.m.Incarnation, Rank: r.m.Rank})
}

// until waits for a condition that other processes bring about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// alive lists the processes with a word in their arguments; words are unique to a test.
func alive(t *testing.T, word string) (pids []int) {
	t.Helper()
	var table sweep.Table
	all, err := table.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err == nil && !p.Dead() && bytes.Contains(line, []byte(word)) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}
