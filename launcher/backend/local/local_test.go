package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/backendtest"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

func TestMain(m *testing.M) {
	backendtest.Main()
	if os.Getenv(starterMark) != "" {
		starter()
	}
	os.Exit(m.Run())
}

func request(t *testing.T, owner string, scripts ...string) backend.Request {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	return demand(owner, scripts...)
}

func demand(owner string, scripts ...string) backend.Request {
	id, secret := make([]byte, 16), make([]byte, 32)
	rand.Read(id)
	rand.Read(secret)
	req := backend.Request{Head: true, Doc: &bootdoc.Doc{Version: bootdoc.Version, Cluster: hex.EncodeToString(id), Secret: secret, Name: "t", Owner: owner}}
	for i, s := range scripts {
		req.Nodes = append(req.Nodes, bootdoc.Node{Name: fmt.Sprintf("n%d", i+1), Labels: map[string]string{"script": s}})
	}
	return req
}

// next is the next event that is not text.
func next(t *testing.T, s backend.Session) backend.Event {
	t.Helper()
	select {
	case ev := <-s.Events():
		return ev
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return backend.Event{}
	}
}

func TestSession(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Nodes(), " "); got != "n1 n2" {
		t.Errorf("nodes %s", got)
	}
	head := next(t, s)
	if head.Kind != backend.KindHead || head.Node != "n1" || len(head.Addresses) != 1 {
		t.Fatalf("%+v", head)
	}
	if err := s.Send(backend.HeadLine(head.Addresses)); err != nil {
		t.Fatal(err)
	}
	ready := map[string]bool{}
	for len(ready) < 2 {
		ev := next(t, s)
		if ev.Kind != backend.KindReady || ev.Socket == "" || ev.Dir == "" {
			t.Fatalf("%+v", ev)
		}
		ready[ev.Node] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	if _, open := <-s.Events(); open {
		t.Error("events go on after the end")
	}
}

// BACK-1: the secret is in no argument and no environment.
func TestSecretIsOnStandardInputOnly(t *testing.T) {
	req := request(t, "stdin", "")
	b, err := (&Backend{}).Start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	next(t, b)
	pid := b.(*session).keepers[0].cmd.Process.Pid
	for _, file := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{string(req.Doc.Secret), base64.StdEncoding.EncodeToString(req.Doc.Secret), hex.EncodeToString(req.Doc.Secret)} {
			if bytes.Contains(data, []byte(form)) {
				t.Errorf("the secret is in %s", file)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b.Stop(ctx)
}

// A keeper that dies without a word is told as lost, with what it had printed.
func TestLost(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "crash"))
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s); ev.Kind != backend.KindLost || ev.Node != "n1" || !strings.Contains(ev.Text, "out of ideas") {
		t.Errorf("%+v", ev)
	}
	if err := s.Wait(); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("Wait: %v", err)
	}
}

// Keepers that do not drain are killed when the time is over.
func TestStopKills(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "stubborn"))
	if err != nil {
		t.Fatal(err)
	}
	next(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err == nil {
		t.Error("it ended by itself")
	}
	if err := s.Wait(); err == nil {
		t.Error("Wait knows nothing of it")
	}
}

// A released session goes on without us.
func TestRelease(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	next(t, s)
	k := s.(*session).keepers[0]
	pid := k.cmd.Process.Pid
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if err := k.send([]byte("x")); err == nil {
		t.Error("its standard input is open")
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(os.Kill); err != nil {
		t.Errorf("it did not live on: %v", err)
	}
	p.Wait()
}

// starterMark says in the environment that this process is the starter of TestStarterIsKilled.
const starterMark = "LOCAL_TEST_STARTER"

// starter starts a keeper with an owner and one without, prints their pids and waits to be killed.
func starter() {
	for _, owner := range []string{"stdin", ""} {
		s, err := (&Backend{}).Start(context.Background(), demand(owner, ""))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		<-s.Events() // the keeper is up and has nothing more to say
		fmt.Println(s.(*session).keepers[0].cmd.Process.Pid)
	}
	select {}
}

// alive tells whether a process runs: one that is dead but not reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" Z"))
}

// BACK-2: kill -9 of whoever called Start ends the keeper that has an owner, and no other.
func TestStarterIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), starterMark+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var owned, free int
	if _, err := fmt.Fscan(out, &owned, &free); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		for _, pid := range []int{owned, free} {
			if pid > 0 && alive(pid) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	if !alive(owned) || !alive(free) {
		t.Error("not both keepers run")
	}
	cmd.Process.Kill()
	cmd.Wait()
	for end := time.Now().Add(10 * time.Second); alive(owned); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the keeper outlived its owner")
		}
	}
	if free == 0 || !alive(free) {
		t.Error("the keeper without an owner died with the process that started it")
	}
}

// BACK-3: a keeper comes up without a shell, a PATH, a home or a user's name.
func TestBareEnvironment(t *testing.T) {
	req := request(t, "stdin", "", "")
	req.Env = []string{"TMPDIR=" + os.Getenv("TMPDIR")}
	s, err := (&Backend{}).Start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s); ev.Kind != backend.KindHead {
		t.Errorf("%+v", ev)
	}
	for _, k := range s.(*session).keepers {
		pid := k.cmd.Process.Pid
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || string(env) != req.Env[0]+"\x00" {
			t.Errorf("environment %q, %v", env, err)
		}
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if self, _ := os.Executable(); err != nil || program != self {
			t.Errorf("started %q, %v: not the program itself", program, err)
		}
	}
	stop(t, s)
}

func stop(t *testing.T, s backend.Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// BACK-4: the events go on while one keeper is left, and are over when none is.
func TestEventsEndAfterTheLastKeeper(t *testing.T) {
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "", "crash", "silent"))
	if err != nil {
		t.Fatal(err)
	}
	for lost := false; !lost; {
		lost = next(t, s).Kind == backend.KindLost
	}
	select {
	case ev, open := <-s.Events(): // the head's line may come after the loss
		if !open || ev.Kind != backend.KindHead {
			t.Errorf("open %v: %+v", open, ev)
		}
	default:
	}
	keepers := s.(*session).keepers
	for _, k := range keepers {
		k.closeInput()
	}
	for {
		if ev := next(t, s); ev.Kind == "" {
			break // closed
		}
	}
	for _, k := range keepers {
		if k.cmd.ProcessState == nil || alive(k.cmd.Process.Pid) {
			t.Errorf("the keeper of %s still runs after the last event", k.node)
		}
	}
}

// LOCAL-2: of what this process opened, the other keepers' streams among it, a keeper has its own three.
func TestKeeperHoldsItsStreamsOnly(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, err := (&Backend{}).Start(t.Context(), request(t, "stdin", "", "silent", "silent"))
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s); ev.Kind != backend.KindHead { // all have started
		t.Errorf("%+v", ev)
	}
	ours := map[string]bool{}
	for fd, target := range descriptors(t, os.Getpid()) {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 && (target == file.Name() || strings.HasPrefix(target, "pipe:")) {
			ours[target] = true
		}
	}
	if !ours[file.Name()] || len(ours) < 4 { // and a pipe for each keeper
		t.Errorf("this process has only %v open", ours)
	}
	for _, k := range s.(*session).keepers {
		for fd, target := range descriptors(t, k.cmd.Process.Pid) {
			if ours[target] && fd > 2 {
				t.Errorf("the keeper of %s holds %s as %d", k.node, target, fd)
			}
		}
	}
	stop(t, s)
}

func descriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			found[fd] = target
		}
	}
	return found
}

// LOCAL-1: a node whose keeper can't be started leaves no other one running.
func TestStartLeavesNothing(t *testing.T) {
	req := request(t, "", "", "")
	req.Nodes[1].Resources = map[string]float64{"x": math.NaN()} // no JSON
	if _, err := (&Backend{}).Start(t.Context(), req); err == nil {
		t.Fatal("it started")
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range procs {
		if env, err := os.ReadFile(p); err == nil && bytes.Contains(env, []byte("TMPDIR="+os.Getenv("TMPDIR")+"\x00")) && !strings.HasPrefix(p, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			t.Errorf("left: %s", p)
		}
	}
}

func TestStartFails(t *testing.T) {
	req := request(t, "stdin", "", "")
	req.Binary = "/nonexistent/maniple"
	if _, err := (&Backend{}).Start(t.Context(), req); err == nil || !strings.Contains(err.Error(), "start the keeper of n1") {
		t.Errorf("%v", err)
	}
}
