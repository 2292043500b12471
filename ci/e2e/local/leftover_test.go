//go:build e2e

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Keeper and agent of a node are killed at one moment, under ranks with grandchildren that left their
// session: nobody is there to sweep. The next start of the same user does, and a cluster that lives beside
// it is not touched.
func TestLeftoversAreSweptByTheNextStart(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "beside")
	defer w.run("down", "--cluster", "beside")
	living := w.nodeDirOf("beside")
	p := w.up("sleep")
	var dead string
	for _, path := range w.keepers() {
		if dir := filepath.Dir(path); dir != living {
			dead = dir
		}
	}
	var agents []int
	for _, pid := range w.find("maniple agent") {
		if owner := parent(pid); owner == w.keeperOf(dead) {
			agents = append(agents, pid)
		}
	}
	if len(agents) != 1 {
		t.Fatalf("%d agents of %s", len(agents), dead)
	}
	for _, s := range []struct {
		pid    int
		signal syscall.Signal
	}{{agents[0], syscall.SIGSTOP}, {w.keeperOf(dead), syscall.SIGKILL}, {agents[0], syscall.SIGKILL}} {
		if err := syscall.Kill(s.pid, s.signal); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.code(30 * time.Second); code != 137 {
		t.Errorf("exit code %d, want 137\n%s", code, p.err.String())
	}
	if len(w.find("os.setsid")) == 0 {
		t.Fatal("no process was left: the test shows nothing")
	}
	if _, err := os.Stat(dead); err != nil {
		t.Fatalf("no directory was left: the test shows nothing: %v", err)
	}
	if out := w.must("run", "-n", "1", "--", "echo", "works"); !strings.Contains(out, "works") {
		t.Errorf("the next start: %s", out)
	}
	w.wait(10*time.Second, "all of the dead node gone", func() bool {
		_, err := os.Stat(dead)
		return os.IsNotExist(err) && len(w.find("os.setsid")) == 0
	})
	if out := w.must("run", "--cluster", "beside", "-n", "1", "--", "echo", "lives"); !strings.Contains(out, "lives") {
		t.Errorf("the cluster beside it: %s", out)
	}
	if now := w.nodeDirOf("beside"); now != living {
		t.Errorf("it is in %s, and was in %s", now, living)
	}
	w.must("down", "--cluster", "beside")
	w.nothingLeft()
}

// keepers are the keeper.json of all nodes.
func (w *world) keepers() []string {
	found, _ := filepath.Glob(filepath.Join(w.tmp, "maniple-*", "*", "*", "keeper.json")) // the pattern is valid
	return found
}

func (w *world) nodeDirOf(cluster string) string {
	w.t.Helper()
	return filepath.Dir(w.glob("maniple-*", cluster, "*", "keeper.json"))
}

func parent(pid int) (ppid int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	fmt.Sscanf(rest, "%1s %d", new(string), &ppid)
	return ppid
}

// An agent that is there and says nothing, as on a node with too much to do: that is said, and it is waited for.
func TestAnAgentThatIsBusy(t *testing.T) {
	w := newWorld(t)
	w.must("up")
	agent := w.one("maniple agent")
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p := w.start("", "status")
	w.wait(20*time.Second, "a word about the wait", func() bool {
		return strings.Contains(p.err.String(), "the agent of cluster default is there and has not answered for 5s")
	})
	if err := syscall.Kill(agent, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := p.code(30 * time.Second); code != 0 {
		t.Errorf("exit code %d when it went on\n%s", code, p.err.String())
	}
	w.must("down")
	w.nothingLeft()
}
