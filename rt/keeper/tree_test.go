package keeper_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// A family is a rank with all the descendants that a kill test must end: one in the rank's session, one
// that left it and ignores TERM, and one that was orphaned and left the session. word marks all of them.
func family(word string) string {
	stubborn := `trap "" TERM INT HUP; while :; do sleep 0.3; done`
	return fmt.Sprintf(`
sh -c 'sleep 600; : %[1]s' &
setsid sh -c '%[2]s; : %[1]s' &
(setsid sh -c '(%[2]s; : %[1]s) & echo orphan; exit' &)
echo up; wait; wait; : %[1]s`, word, stubborn)
}

func unique(t *testing.T) string {
	return fmt.Sprintf("family-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
}

// gone waits for the end of all processes of word; graces that a test must not wait for are much longer.
func gone(t *testing.T, word string) {
	t.Helper()
	until(t, "processes of "+word+" gone", func() bool { return len(alive(t, word)) == 0 })
}

// KEEP-3, for every way in which a tree comes to its end.
func TestTreeIsEnded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		act  func(*rank)
		sig  int32
		code int32
	}{
		{"stop with grace", func(r *rank) { r.signal(unix.SIGTERM, true, 300*time.Millisecond) }, 15, 0},
		{"stop without grace", func(r *rank) { r.signal(unix.SIGTERM, true, 0) }, 9, 0},
		{"kill", func(r *rank) { r.signal(unix.SIGKILL, true, time.Hour) }, 9, 0},
		{"the rank alone dies", func(r *rank) { unix.Kill(int(r.state.Pid), unix.SIGKILL) }, 9, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := boot(t, setup{})
			a := n.agent()
			word := unique(t)
			m := sh(family(word))
			m.Grace = int64(200 * time.Millisecond)
			r := a.launch(m)
			r.lines(r.stdout(), 2)
			if got := len(alive(t, word)); got < 4 {
				t.Fatalf("%d processes in the family", got)
			}
			test.act(r)
			end := r.end()
			if test.name == "stop without grace" { // the TERM before may win
				test.sig = end.Signal
			}
			if end.Signal != test.sig || end.Code != test.code {
				t.Errorf("ended as %+v", end)
			}
			gone(t, word)
			a.stop()
		})
	}
}

// A rank that ends well is not held up by what it left, and what it left is asked before it is killed.
func TestLeftoversAreAskedFirst(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	word := unique(t)
	file := t.TempDir() + "/asked"
	r := a.launch(sh(fmt.Sprintf(`setsid sh -c 'trap "echo asked >%s; exit" TERM; echo up; while :; do sleep 0.02; done; : %s' & read x </proc/self/stat; sleep 0.3; exit 3`, file, word)))
	if end := r.end(); end.Code != 3 {
		t.Errorf("ended as %+v", end)
	}
	gone(t, word)
	if got, err := os.ReadFile(file); err != nil || string(got) != "asked\n" {
		t.Errorf("not asked: %q, %v", got, err)
	}
	a.stop()
}

// A signal without tree reaches the program alone.
func TestSignalForwarded(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	r := a.launch(sh(`trap 'echo usr1' USR1; sh -c 'trap "echo child; exit" USR1; echo up; while :; do sleep 0.02; done' & while :; do wait; done`))
	r.lines(r.stdout(), 1)
	r.signal(unix.SIGUSR1, false, 0)
	if got := r.lines(r.stdout(), 1)[0]; got != "usr1" {
		t.Errorf("got %q", got)
	}
	a.stop()
}

// A stopped program gets its TERM.
func TestStoppedProgramEnds(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	r := a.launch(sh(`trap 'exit 5' TERM; kill -STOP $$; exit 1`))
	until(t, "stopped", func() bool {
		p, err := sweep.Read(int(r.state.Pid))
		return err == nil && p.State == 'T'
	})
	r.signal(unix.SIGTERM, true, patience)
	if end := r.end(); end.Code != 5 {
		t.Errorf("ended as %+v", end)
	}
	a.stop()
}

// What keeps forking is caught: in its group, in a new session each time, with its parents dead.
func TestForkersAreCaught(t *testing.T) {
	t.Parallel()
	python := needPython(t)
	for name, script := range map[string]string{
		"many children": `
import os, time, sys
end = time.monotonic() + 40 # should the test itself be killed
sys.stdout.write("up\n"); sys.stdout.flush()
while time.monotonic() < end:
    if os.fork() == 0:
        time.sleep(60); os._exit(0)
    time.sleep(0.001)
`,
		"one after the other": `
import os, time, sys
end = time.monotonic() + 40 # should the test itself be killed
sys.stdout.write("up\n"); sys.stdout.flush()
if os.fork():
    time.sleep(600)
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    time.sleep(0.002)
`,
		"one after the other in new sessions": `
import os, time, sys
end = time.monotonic() + 40 # should the test itself be killed
sys.stdout.write("up\n"); sys.stdout.flush()
if os.fork():
    time.sleep(600)
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.002)
`,
	} {
		t.Run(name, func(t *testing.T) {
			n := boot(t, setup{})
			a := n.agent()
			word := unique(t)
			r := a.launch(&fb.ProgramLaunchT{Argv: []string{python, "-c", script, word}})
			r.lines(r.stdout(), 1)
			r.signal(unix.SIGTERM, true, 50*time.Millisecond)
			r.end()
			gone(t, word)
			a.stop()
		})
	}
}

// Two ranks, and a process that belongs to neither: each ends with its own, the stray with the last.
func TestTreesAreToldApart(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{})
	a := n.agent()
	words := []string{unique(t) + "-a", unique(t) + "-b"}
	stray := unique(t) + "-stray"
	var ranks []*rank
	for i, word := range words {
		script, lines := family(word), 2
		if i == 0 { // neither session nor mark nor parent; and one that has only the session
			script = fmt.Sprintf(`(env -i setsid sh -c 'trap "" TERM; echo up; while :; do sleep 0.3; done; : %s' &) ; (env -i sh -c 'echo up; while :; do sleep 0.3; done; : %s' &) ; %s`, stray, word, script)
			lines += 2
		}
		m := sh(script)
		m.Rank = uint32(i)
		r := a.launch(m)
		r.lines(r.stdout(), lines)
		ranks = append(ranks, r)
	}
	ranks[0].signal(unix.SIGKILL, true, 0)
	ranks[0].end()
	gone(t, words[0])
	if len(alive(t, words[1])) < 4 || len(alive(t, stray)) == 0 {
		t.Fatal("processes ended that the rank does not own")
	}
	ranks[0].forget()
	ranks[1].signal(unix.SIGKILL, true, 0)
	ranks[1].end()
	gone(t, words[1])
	gone(t, stray)
	a.stop()
}

// KEEP-3: a process with the mark that is not below the keeper (a job that a rank submitted to the site's
// scheduler, say) is not touched while the keeper lives.
func TestMarkOutsideIsLeftAlone(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	r := a.launch(sh("sleep 600"))
	outside := exec.Command("sleep", "600")
	outside.Env = []string{"MANIPLE_NODE_KEY=" + a.config.NodeKey, "MANIPLE_GROUP=3.1.42", "MANIPLE_INCARNATION=0", "MANIPLE_RANK=0"}
	if err := outside.Start(); err != nil {
		t.Fatal(err)
	}
	defer outside.Process.Kill()
	r.signal(unix.SIGKILL, true, 0)
	r.end()
	a.stop()
	if err := outside.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("it was ended: %v", err)
	}
	if p, err := sweep.Read(outside.Process.Pid); err != nil || p.Dead() {
		t.Errorf("it was ended: %+v, %v", p, err)
	}
}

// The end of the keeper ends all that is below it.
func TestStopEndsEverything(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{})
	a := n.agent()
	word := unique(t)
	for i := range 4 {
		m := sh(family(word))
		m.Rank = uint32(i)
		r := a.launch(m)
		r.lines(r.stdout(), 2)
	}
	a.stop()
	if left := alive(t, word); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func needPython(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	return path
}
