//go:build e2e

package local

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stubborn is a rank with a grandchild that left its session and ignores TERM: every kill test uses it.
// It says "up" when the grandchild lives, and then does what its argument says.
const stubborn = `
import os, signal, subprocess, sys, time
if os.environ.get("RANK", "0") == os.environ.get("STUBBORN_RANK", os.environ.get("RANK", "0")):
    subprocess.Popen([sys.executable, "-c", "import os,signal,time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN); open('grandchild-%d' % os.getpid(), 'w'); time.sleep(600)"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while not any(f.startswith("grandchild-") for f in os.listdir(".")):
    time.sleep(0.01)
print("up", flush=True)
what = sys.argv[1] if len(sys.argv) > 1 else "sleep"
if what == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what.startswith("exit") and os.environ["RANK"] == "1":
    time.sleep(0.2)
    print("rank 1 gives up", file=sys.stderr, flush=True)
    sys.exit(int(what[4:]))
if what.startswith("signal") and os.environ["RANK"] == "1":
    os.kill(os.getpid(), int(what[6:]))
if what == "finish":
    signal.signal(signal.SIGTERM, lambda *a: (print("saved", flush=True), os._exit(0)))
if what == "until":
    while not os.path.exists("go"):
        time.sleep(0.02)
    print("done", flush=True)
    sys.exit(0)
time.sleep(600)
`

// up starts a gang of two stubborn ranks and waits until both say so.
func (w *world) up(what string, flags ...string) *process {
	w.t.Helper()
	program := w.file("stubborn.py", stubborn)
	args := append([]string{"run", "-n", "2"}, flags...)
	p := w.start("", append(args, "--", "python3", program, what)...)
	w.wait(20*time.Second, "both ranks up", func() bool {
		return strings.Contains(p.out.String(), "[0-1] up") || strings.Count(p.out.String(), "up") >= 2 ||
			strings.Contains(p.out.String(), "[x2") || exited(p)
	})
	return p
}

func exited(p *process) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func TestFirstFailureEndsTheGang(t *testing.T) {
	for _, c := range []struct {
		what string
		code int
		says []string
	}{
		{"exit3", 3, []string{"rank 1", "3", "rank 1 gives up"}},
		{"signal9", 137, []string{"rank 1", "signal 9"}},
		{"signal11", 139, []string{"rank 1", "signal 11"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t)
			p := w.up(c.what)
			if code := p.code(10 * time.Second); code != c.code { // 2 s is the bar, which ci/bench measures
				t.Errorf("exit code %d, want %d\n%s\n%s", code, c.code, p.err.String(), w.logs())
			}
			for _, words := range c.says {
				if !strings.Contains(p.err.String(), words) {
					t.Errorf("stderr does not say %q:\n%s", words, p.err.String())
				}
			}
		})
	}
}

func TestInterruptOnceDrains(t *testing.T) {
	w := newWorld(t)
	p := w.up("finish")
	p.cmd.Process.Signal(syscall.SIGINT)
	if code := p.code(15 * time.Second); code != 0 {
		t.Errorf("exit code %d of ranks that ended with 0 when asked\n%s", code, p.err.String())
	}
	if !strings.Contains(p.out.String(), "saved") {
		t.Errorf("the ranks were not given time:\n%s", p.out.String())
	}
}

func TestInterruptTwiceStops(t *testing.T) {
	w := newWorld(t)
	p := w.up("ignore")
	p.cmd.Process.Signal(syscall.SIGINT)
	w.wait(5*time.Second, "a word about draining", func() bool { return strings.Contains(p.err.String(), "again") })
	p.cmd.Process.Signal(syscall.SIGINT)
	if code := p.code(10 * time.Second); code != 130 {
		t.Errorf("exit code %d, want 130\n%s", code, p.err.String())
	}
}

func TestTermEndsEverything(t *testing.T) {
	w := newWorld(t)
	p := w.up("sleep")
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code := p.code(15 * time.Second); code != 143 {
		t.Errorf("exit code %d, want 143\n%s", code, p.err.String())
	}
}

func TestKilledCommandTakesItsClusterAlong(t *testing.T) {
	w := newWorld(t)
	p := w.up("sleep")
	p.cmd.Process.Kill()
	<-p.done
	w.wait(15*time.Second, "nothing marked is left", func() bool { return len(w.marked()) == 0 })
}

// A killed agent or head is started again, no rank notices, output and exit code are right.
func TestDaemonKilledUnderAGang(t *testing.T) {
	for _, role := range []string{"agent", "head"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			p := w.up("until")
			ranks := w.ranks("until")
			if len(ranks) != 2 {
				t.Fatalf("%d ranks run", len(ranks))
			}
			old := w.one("maniple " + role)
			syscall.Kill(old, syscall.SIGKILL)
			w.wait(10*time.Second, "a new "+role, func() bool {
				now := w.find("maniple " + role)
				return len(now) == 1 && now[0] != old
			})
			for _, pid := range ranks {
				if syscall.Kill(pid, 0) != nil {
					t.Errorf("rank with pid %d died with the %s", pid, role)
				}
			}
			w.file("go", "")
			if code := p.code(20 * time.Second); code != 0 {
				t.Errorf("exit code %d\n%s\n%s", code, p.err.String(), w.logs())
			}
			if !strings.Contains(p.out.String(), "[0-1] done") && strings.Count(p.out.String(), "done") != 2 {
				t.Errorf("output after the kill is missing:\n%s", p.out.String())
			}
		})
	}
}

// A killed keeper is a node's death, whichever node it is: the exit code and the word of it are the same
// on the node of the command, on that of the head, and on any other.
func TestKeeperKilledIsANodesDeath(t *testing.T) {
	for _, c := range []struct {
		name   string
		up     bool   // on a cluster of two nodes; else in one of its own
		client string // the node of the command
		dies   string
	}{
		{"of a cluster of its own", false, "", ""},
		{"another node", true, "n1", "n2"},
		{"own node", true, "n2", "n2"},
		{"own node, with the head", true, "n1", "n1"},
		{"the head's node", true, "n2", "n1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			program := w.file("stubborn.py", stubborn)
			shape := []string{"-n", "2"}
			if c.up {
				shape = []string{"-N", "2", "--ntasks-per-node", "1"}
				w.must("up", "--fake-nodes", "2")
				defer w.run("down", "--cluster", "default") // by name: not the node that died
				w.env = append(w.env, "MANIPLE_ADDRESS="+w.nodeDir(c.client)+"/agent.sock")
			}
			p := w.start("", append(append([]string{"run"}, shape...), "--", "python3", program, "sleep")...)
			w.wait(20*time.Second, "both ranks up", func() bool {
				return strings.Contains(p.out.String(), "up") && len(w.ranks("sleep")) == 2 || exited(p)
			})
			name := c.dies
			if name == "" {
				name = filepath.Base(filepath.Dir(w.glob("maniple-*", "*", "*", "keeper.json")))
			}
			syscall.Kill(w.keeper(name), syscall.SIGKILL)
			if code := p.code(20 * time.Second); code != 137 {
				t.Errorf("exit code %d, want 137\n%s", code, w.logs())
			}
			if want := name + " died: its keeper was killed"; !strings.Contains(p.err.String(), want) {
				t.Errorf("stderr does not say %q:\n%s", want, p.err.String())
			}
			if !c.up || c.dies == "n1" { // the cluster is over: nobody has to be asked to end it
				w.nothingLeft()
			}
		})
	}
}

// nodeDir is the directory of a node of the one cluster that is up.
func (w *world) nodeDir(name string) string {
	w.t.Helper()
	return filepath.Dir(w.glob("maniple-*", "*", name, "keeper.json"))
}

// glob is the one file under the cluster's temporary directory that fits.
func (w *world) glob(parts ...string) string {
	w.t.Helper()
	found, _ := filepath.Glob(filepath.Join(append([]string{w.tmp}, parts...)...))
	if len(found) != 1 {
		w.t.Fatalf("%d files fit %v: %v", len(found), parts, found)
	}
	return found[0]
}

// keeper is the process that keeps a node.
func (w *world) keeper(name string) int {
	w.t.Helper()
	return w.keeperOf(w.nodeDir(name))
}

// keeperOf is the process that keeps the node in dir.
func (w *world) keeperOf(dir string) int {
	w.t.Helper()
	var k struct{ PID int }
	data, err := os.ReadFile(filepath.Join(dir, "keeper.json"))
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil || k.PID == 0 {
		w.t.Fatalf("who keeps %s: %v: %s", dir, err, data)
	}
	return k.PID
}

// ranks are the processes of the stubborn program itself.
func (w *world) ranks(what string) []int {
	return slices.DeleteFunc(w.find("stubborn.py", what), func(pid int) bool { return strings.HasPrefix(command(pid), binary) })
}
