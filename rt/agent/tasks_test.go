package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// The test binary is also a template and the workers that it starts, as libs/python has them; functions are
// known by their first byte.
const (
	fnPID   = 'p' // its process
	fnDie   = 'd' // kill -9 of its own, once: the second attempt gives its process
	fnSleep = 's' // for ever
	fnGroup = 'g' // makes a group, "of a task", and gives its process
	fnNap   = 'n' // for 50 ms
	fnWarm  = 'w' // gives what its template had imported
	fnEarly = 'e' // gives whether its worker was sent something before it was made
)

// attach opens a work connection; batches go to take on one goroutine.
func attach(path string, a *fb.AttachT, take func(*work.Conn, work.Frame)) (*work.Conn, *fb.AttachedT, error) {
	conn, err := uds.Dial(context.Background(), path)
	if err != nil {
		return nil, nil, err
	}
	a.Pid = uint32(os.Getpid())
	attached, err := work.Attach(conn, &fb.HelloT{}, a)
	if err != nil {
		return nil, nil, err
	}
	return over(conn, func(c *work.Conn, b work.Batch) {
		for f := range work.Frames(b.Bytes) {
			take(c, f)
		}
	}), attached, nil
}

// over is a work connection that gives its batches to take.
func over(conn net.Conn, take func(*work.Conn, work.Batch)) *work.Conn {
	var c *work.Conn
	ready := make(chan struct{})
	c = work.New(conn, work.Config{OnBatch: func(b work.Batch) {
		<-ready
		take(c, b)
		b.Release()
		c.Flush()
	}})
	close(ready)
	return c
}

// worker runs tasks on the reader's goroutine.
func worker(key string) int {
	n, _ := strconv.ParseUint(key, 10, 64)
	known := make(chan *fb.AttachedT, 1)
	take := func(c *work.Conn, f work.Frame) {
		if f.Type() == fb.FrameTypeCreate {
			m, _ := f.Message()
			answer(c, taskID(m.(*fb.CreateT).Actor), 0, os.Getenv("EARLY"))
			return
		}
		if f.Type() != fb.FrameTypeSubmit {
			return
		}
		s := work.Submit(f)
		switch byte(s.Function()) {
		case fnDie:
			if s.Attempt() == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		case fnSleep:
			fmt.Println("sleeps")
			return
		case fnNap:
			_ = exec.Command("sleep", "0.05").Run()
		case fnGroup:
			at := <-known
			known <- at
			_ = c.Send(oneBundle(at, "of a task", 1), 0, nil)
		}
		text := strconv.Itoa(os.Getpid())
		switch byte(s.Function()) {
		case fnWarm:
			text = os.Getenv("WARM")
		case fnEarly:
			text = os.Getenv("EARLY")
		}
		answer(c, s.Task(), s.Attempt(), text)
	}
	c, at, err := born(take)
	if c == nil {
		c, at, err = attach(os.Getenv("MANIPLE_ADDRESS"), &fb.AttachT{Kind: fb.AttachKindWorker, Worker: n, Language: "python"}, take)
	}
	if err != nil {
		return 1
	}
	known <- at
	<-c.Done()
	return 0
}

// oneBundle is a group of one bundle that a process makes.
func oneBundle(at *fb.AttachedT, name string, cpus int64) *fb.GroupCreateT {
	return &fb.GroupCreateT{Group: &fb.TaskIDT{Agent: at.Agent, Process: at.Process, Counter: 1 << 40}, Name: name,
		Bundles: []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: cpus * 10_000}}}}}
}

// driver is a work connection of the test.
type driver struct {
	t       *testing.T
	conn    *work.Conn
	at      *fb.AttachedT
	next    uint64
	results chan string // the text of each result, errors with "error: " before them
	output  chan string
	replies chan string // the text of each answer to a question
}

func drive(t *testing.T, n *node) *driver {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return driveWith(t, n, self)
}

// driveWith drives with an executable of its own in place of Python.
func driveWith(t *testing.T, n *node, executable string, preload ...string) *driver {
	t.Helper()
	env := map[string]string{}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	config, _ := json.Marshal(map[string]any{"executable": executable, "cwd": t.TempDir(), "env": env, "preload": preload})
	d := &driver{t: t, results: make(chan string, 10_000), output: make(chan string, 100), replies: make(chan string, 1)}
	var err error
	d.conn, d.at, err = attach(n.socket, &fb.AttachT{Name: "test", Kind: fb.AttachKindDriver, Language: "python", JobConfig: string(config)}, func(_ *work.Conn, f work.Frame) {
		switch f.Type() {
		case fb.FrameTypeResult:
			text := string(f.Payload())
			if work.Result(f).Flags()&uint32(fb.ResultFlagError) != 0 {
				var failure fb.FailureT
				fb.GetRootAsFailure(f.Payload(), 0).UnPackTo(&failure)
				text = "error: " + failure.Code + " " + failure.Message
			}
			d.results <- text
		case fb.FrameTypeRankOutput:
			d.output <- string(f.Payload())
		case fb.FrameTypeStateReply:
			d.replies <- string(f.Payload())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.conn.Cut)
	for _, fn := range []byte{fnPID, fnDie, fnSleep, fnGroup, fnNap, fnWarm, fnEarly} {
		hash := make([]byte, 32)
		hash[0] = fn
		d.send(&fb.FunctionT{Hash: hash, Name: string(fn), Language: "python"})
	}
	d.send(&fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Retries: 2, Bundle: -1})
	d.send(&fb.ShapeT{Number: 2, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Bundle: -1})
	d.send(&fb.ShapeT{Number: 99, Bundle: -1})
	return d
}

func (d *driver) send(m wire.Message) {
	d.t.Helper()
	if err := d.conn.Send(m, 0, nil); err != nil {
		d.t.Fatal(err)
	}
}

func (d *driver) submit(fn byte, shape uint32) {
	d.t.Helper()
	d.next++
	_, f := work.Extend(nil, fb.FrameTypeSubmit, 0)
	s := work.Submit(f)
	s.SetTask(id.Task{Agent: id.Agent(d.at.Agent), Process: id.Process(d.at.Process), Counter: d.next})
	s.SetFunction(uint64(fn))
	s.SetJob(d.at.Job)
	s.SetShape(shape)
	s.SetReturns(1)
	if err := d.conn.Append(f); err != nil {
		d.t.Fatal(err)
	}
	d.conn.Flush()
}

// create makes an actor.
func (d *driver) create(shape uint32) {
	d.t.Helper()
	d.next++
	d.send(&fb.CreateT{Actor: &fb.TaskIDT{Agent: d.at.Agent, Process: d.at.Process, Counter: d.next}, Function: fnPID, Shape: shape, Job: d.at.Job, Concurrency: 1})
}

func (d *driver) result() string {
	d.t.Helper()
	select {
	case r := <-d.results:
		return r
	case <-time.After(30 * time.Second):
		d.t.Fatal("no result came")
		return ""
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// AGENT-10: real processes, real connections. Tasks spread over workers; one that dies is told from its
// signal, and its task runs again elsewhere if it may; with the driver all of them end.
func TestTasksInWorkers(t *testing.T) {
	n := cluster(t, "n1")[0]
	d := drive(t, n)
	for range 2000 {
		d.submit(fnPID, 1)
	}
	pids := map[int]bool{}
	for range 2000 {
		pid, err := strconv.Atoi(d.result())
		if err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	if len(pids) > 8 {
		t.Errorf("%d workers on 8 CPUs", len(pids))
	}
	d.submit(fnDie, 1)
	if pid, err := strconv.Atoi(d.result()); err != nil || pid == 0 {
		t.Errorf("tried again: %v", err)
	} else {
		pids[pid] = true
	}
	d.submit(fnDie, 2)
	if r := d.result(); !strings.HasPrefix(r, "error: WORKER_DIED") || !strings.Contains(r, "signal 9") {
		t.Errorf("not to be tried again: %s", r)
	}
	d.submit(fnSleep, 1)
	for out := ""; !strings.Contains(out, "sleeps"); {
		select {
		case text := <-d.output:
			out += text
		case <-time.After(30 * time.Second):
			t.Fatalf("what workers print: %q", out)
		}
	}
	_ = d.conn.Close()
	until(t, "all workers are gone", func() bool {
		for pid := range pids {
			if !gone(pid) {
				return false
			}
		}
		return true
	})
}

// AGENT-11
func TestKilledAgentTakesItsWorkersAlong(t *testing.T) {
	n := cluster(t, "n1")[0]
	d := drive(t, n)
	d.submit(fnPID, 1)
	pid, err := strconv.Atoi(d.result())
	if err != nil {
		t.Fatal(err)
	}
	old := n.daemon("agent")
	_ = syscall.Kill(old, syscall.SIGKILL)
	<-d.conn.Done()
	until(t, "its worker is gone", func() bool { return gone(pid) })
	until(t, "there is another agent", func() bool { return n.daemon("agent") != old })
	began := time.Now()
	e := drive(t, n)
	e.submit(fnPID, 1)
	if other, err := strconv.Atoi(e.result()); err != nil || other == pid {
		t.Errorf("under the next agent: process %d, %v", other, err)
	}
	if took := time.Since(began); took > 8*time.Second { // the head would give the CPUs back after 10 s
		t.Errorf("the first task under the next agent took %v", took)
	}
}

// What a process may not say ends its connection, with the reason, and nobody else's.
func TestHostileProcess(t *testing.T) {
	n := cluster(t, "n1")[0]
	good := drive(t, n)
	bad := drive(t, n)
	bad.next = 1 << 40
	bad.at.Process = good.at.Process // in another's name
	bad.submit(fnPID, 1)
	<-bad.conn.Done()
	for _, a := range []*fb.AttachT{{Kind: fb.AttachKindWorker, Worker: 77}, {Kind: fb.AttachKindTemplate, Worker: 77}, {Kind: fb.AttachKindDriver, Language: "python", JobConfig: "{"}, {Kind: fb.AttachKindDriver, JobConfig: `{"job":99}`}} {
		var refused *work.RefusedError
		if _, _, err := attach(n.socket, a, func(*work.Conn, work.Frame) {}); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	open := func() int {
		list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.daemon("agent")))
		return len(list)
	}
	before := open()
	for i := range uint32(200) { // descriptors that nobody asked for
		frame, err := work.AppendMessage(nil, &fb.ShapeT{Number: 100 + i, Bundle: -1}, 0, nil)
		if err == nil {
			err = good.conn.AppendFile(os.Stdin, frame)
		}
		if err != nil {
			t.Fatal(err)
		}
		good.conn.Flush()
	}
	conn, err := uds.Dial(t.Context(), n.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, strings.Repeat("nonsense", 100))
	good.submit(fnPID, 1)
	if _, err := strconv.Atoi(good.result()); err != nil {
		t.Error(err)
	}
	if after := open(); after > before+50 {
		t.Errorf("the agent has %d descriptors open, and had %d", after, before)
	}
}

// phases asks the head for its groups: phases by their names.
func (d *driver) phases() map[string]string {
	d.t.Helper()
	d.send(&fb.StateQueryT{What: "groups"})
	var reply struct {
		Groups []struct{ Name, Phase string }
	}
	select {
	case text := <-d.replies:
		if err := json.Unmarshal([]byte(text), &reply); err != nil {
			d.t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		d.t.Fatal("no answer came")
	}
	out := map[string]string{}
	for _, g := range reply.Groups {
		out[g.Name] = g.Phase
	}
	return out
}

// What is to run in a group that is over fails: if it never was, if it went with its maker; and what a task
// made goes with its driver.
func TestGroupsEndWithTheirMakers(t *testing.T) {
	n := cluster(t, "n1")[0]
	watcher, d := drive(t, n), drive(t, n)
	g := oneBundle(d.at, "too large", 99)
	d.send(g)
	d.send(&fb.ShapeT{Number: 3, Group: g.Group, Bundle: -1})
	d.submit(fnPID, 3)
	if r := d.result(); !strings.HasPrefix(r, "error: TASK_GROUP_REMOVED") {
		t.Errorf("in a group that can't be: %s", r)
	}
	g = oneBundle(d.at, "of a driver", 1)
	g.Group.Counter++
	d.send(g)
	watcher.send(&fb.ShapeT{Number: 4, Group: g.Group, Bundle: -1, Resources: g.Bundles[0].Resources})
	watcher.submit(fnPID, 4)
	if r := watcher.result(); strings.HasPrefix(r, "error") {
		t.Errorf("in another driver's group: %s", r)
	}
	d.submit(fnGroup, 1)
	pid, err := strconv.Atoi(d.result())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "its group is there", func() bool { return watcher.phases()["of a task"] == "created" })
	_ = syscall.Kill(pid, syscall.SIGKILL)
	until(t, "the worker is gone", func() bool { return gone(pid) })
	d.submit(fnPID, 1)
	if r := d.result(); strings.HasPrefix(r, "error") || watcher.phases()["of a task"] != "created" {
		t.Errorf("a task's group, without its worker: %v, then %s", watcher.phases(), r)
	}
	_ = d.conn.Close()
	until(t, "the groups are over", func() bool {
		p := watcher.phases()
		return p["of a task"] == "ended" && p["of a driver"] == "ended"
	})
	until(t, "nothing runs in them", func() bool {
		watcher.submit(fnPID, 4)
		return strings.HasPrefix(watcher.result(), "error: TASK_GROUP_REMOVED")
	})
}

// What needs nothing of the node starts though gangs have all of it.
func TestTasksWithoutResourcesOnABusyNode(t *testing.T) {
	n := cluster(t, "n1")[0]
	ctx, cancel := context.WithCancel(t.Context())
	over, out := make(chan struct{}), &screen{}
	all := shell(t, 8, "echo up; exec sleep 600")
	for _, b := range all.Bundles {
		b.Resources = append(b.Resources, &fb.ResourceT{Name: "memory", Amount: 1 << 27 * 10_000})
	}
	go func() {
		defer close(over)
		_, _ = gang.Run(ctx, n.connect(t), all, gang.IO{Stdout: out})
	}()
	defer func() { cancel(); <-over }()
	out.wait(t, "up")
	began := time.Now()
	d := drive(t, n)
	d.submit(fnPID, 99)
	if r := d.result(); strings.HasPrefix(r, "error") {
		t.Error(r)
	}
	if took := time.Since(began); took > 8*time.Second { // after 10 s the head would be asked for it
		t.Errorf("it took %v", took)
	}
}

// A node that the head gave another name, because there is one of its own, does its own tasks.
func TestTasksOnANodeThatWasRenamed(t *testing.T) {
	nodes := cluster(t, "n1", "n1")
	d := drive(t, nodes[1])
	if d.at.Node == "n1" { // it came first
		d = drive(t, nodes[0])
	}
	if d.at.Node != "n1~2" {
		t.Errorf("the node calls itself %q", d.at.Node)
	}
	d.submit(fnPID, 1)
	if r := d.result(); strings.HasPrefix(r, "error") {
		t.Error(r)
	}
}

// AGENT-9: a task that needs more than the node has keeps nothing of it from gangs.
func TestAnImpossibleTaskKeepsNothing(t *testing.T) {
	n := cluster(t, "n1")[0]
	d := drive(t, n)
	d.send(&fb.ShapeT{Number: 3, Bundle: -1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 990_000}}})
	d.submit(fnPID, 3)
	if end := run(t, n.connect(t), shell(t, 8, "true"), gang.IO{}); end.Code != 0 {
		t.Errorf("a gang of all CPUs: %+v", end)
	}
}

// A template that ends before it is there: of what passes the tasks see nothing, of what stays they have the reason.
func TestTemplatesThatEnd(t *testing.T) {
	n := cluster(t, "n1")[0]
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "python")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mark := filepath.Join(t.TempDir(), "mark")
	d := driveWith(t, n, script(`echo >> `+mark+`; [ $(wc -l < `+mark+`) -le 2 ] && kill -9 $$; exec `+self+` "$@"`))
	d.submit(fnPID, 2)
	if r := d.result(); strings.HasPrefix(r, "error") {
		t.Errorf("after two that were killed: %s", r)
	}
	d = driveWith(t, n, script(`echo no module; exit 3`))
	d.submit(fnPID, 1)
	if r := d.result(); !strings.HasPrefix(r, "error: ENVIRONMENT") || !strings.Contains(r, "no module") {
		t.Errorf("of one that can't be: %s", r)
	}
}
