//go:build e2e

package yarn

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// heard is what a command printed so far.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// A master that is killed is followed by another one: the programs do not notice, their output goes on where it was, and the
// application ends as they do. They count until they are told that the next master is there.
func TestMasterIsKilled(t *testing.T) {
	g := gatewayOf(t)
	enough := filepath.Join(g.home, "enough")
	g.write("count.sh", "echo begin $RANK\ni=0\nuntil [ -e $1 ]; do i=$((i+1)); echo line $RANK $i; sleep 0.25; done\nfor j in 1 2 3; do i=$((i+1)); echo line $RANK $i; done\necho last $RANK $i\n")
	id := g.submit(append(small, "-N", "2", "--ntasks-per-node", "1", "--", "bash", "count.sh", enough)...)
	e2e.Until(t, limit, "both ranks count", func() bool {
		return strings.Contains(g.logs(id), "line 0 3") && strings.Contains(g.logs(id), "line 1 3")
	})
	follow := g.command(within(t), "logs", "-f", id)
	var out, messages heard
	follow.Stdout, follow.Stderr = &out, &messages
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	e2e.Until(t, limit, "somebody follows", func() bool { return out.String() != "" })
	kill(t, id, "yarn-master")
	e2e.Until(t, limit, "the next master is followed", func() bool { return strings.Contains(messages.String(), "another master now (attempt 2)") })
	if err := os.WriteFile(enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := follow.Wait(); err != nil || !strings.Contains(out.String(), "last 1 ") {
		t.Errorf("%v\n%s\n%s", err, out.String(), messages.String())
	}
	if r := g.over(id); r.Final != yarn.Succeeded || r.Diagnostics != "exit code 0" || r.Attempt.Number != 2 {
		t.Errorf("%+v", r)
	}
	e2e.Until(t, limit, "nothing of it is left", func() bool { return len(processes(id)) == 0 })
	text := g.logs(id)
	for rank := range 2 {
		if n := strings.Count(text, fmt.Sprintf("begin %d\n", rank)); n != 1 {
			t.Errorf("rank %d began %d times", rank, n)
		}
		_, after, _ := strings.Cut(text, fmt.Sprintf("last %d ", rank))
		last, err := strconv.Atoi(strings.SplitN(after, "\n", 2)[0])
		if err != nil || last < 6 {
			t.Errorf("rank %d came to %d, %v", rank, last, err)
		}
		for i := range last {
			if n := strings.Count(text, fmt.Sprintf("line %d %d\n", rank, i+1)); n != 1 {
				t.Errorf("line %d of rank %d is there %d times", i+1, rank, n)
			}
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// YARN knows of the end before anybody has the rest of the output: a master that dies then is followed by none that runs the program again.
func TestMasterIsKilledAtTheEnd(t *testing.T) {
	g := gatewayOf(t)
	id := g.submit(append(small, "-N", "1", "-n", "1", "--", "sh", "-c", "echo begin; sleep 2; yes | head -c 16000000; exit 3")...)
	e2e.Until(t, limit, "it runs", func() bool { return strings.Contains(g.logs(id), "begin") })
	follow := g.command(within(t), "logs", "-f", id)
	pipe, err := follow.StdoutPipe() // which nobody reads: the master waits for its followers
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	if r := g.over(id); r.Final != yarn.Failed || r.Attempt.Number != 1 {
		t.Errorf("%+v", r)
	}
	kill(t, id, "yarn-master")
	pipe.Close()
	_ = follow.Wait() // it says that it can't write, or that the rest did not come
	e2e.Until(t, limit, "nothing of it is left", func() bool { return len(processes(id)) == 0 })
	if r := g.over(id); r.Final != yarn.Failed || !strings.HasPrefix(r.Diagnostics, "exit code 3") || r.Attempt.Number != 1 {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(g.logs(id), "begin"); n != 1 {
		t.Errorf("it began %d times", n)
	}
}

// A driver, its tasks and its actor go on when their master is killed.
func TestDriverOutlivesItsMaster(t *testing.T) {
	g := gatewayOf(t)
	python, top := devPython(t)
	g.write("main.py", `
import os, time, maniple

maniple.init()

@maniple.remote
def slow(i):
    time.sleep(0.4)
    return i

@maniple.remote
class Count:
    def __init__(self):
        self.n = 0
    def add(self, i):
        self.n += i
        return self.n

count = Count.remote()
for i in range(12):
    got = maniple.get([slow.remote(j) for j in range(4)])
    n = maniple.get(count.add.remote(sum(got)))
    print("round", i, n, flush=True)
`)
	id := g.submit("--mem=256M", "--am-memory=512M", "-N", "2", "-c", "2", "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py")
	e2e.Until(t, limit, "the driver counts", func() bool { return strings.Contains(g.logs(id), "round 1 ") })
	kill(t, id, "yarn-master")
	if r := g.over(id); r.Final != yarn.Succeeded || r.Attempt.Number != 2 {
		t.Errorf("%+v", r)
	}
	text := g.logs(id)
	for i := range 12 {
		if want := fmt.Sprintf("round %d %d\n", i, 6*(i+1)); strings.Count(text, want) != 1 {
			t.Errorf("%q is not there once in\n%s", want, text)
		}
	}
}

// logs is what the application's masters printed.
func (g *gateway) logs(application string) string { return g.written(application, "stdout") }

// written is what an application's containers wrote. A NodeManager that has forgotten a container renames its folder, and would remove it in ten minutes.
func (g *gateway) written(application, where string) (text string) {
	for _, folder := range []string{application, application + "_DEL_*"} {
		files, _ := filepath.Glob(filepath.Join(g.b.dir, "nm*", "logs", folder, "*", where))
		for _, file := range files {
			data, _ := os.ReadFile(file)
			text += string(data)
		}
	}
	return text
}

// processes are those of an application, by what they were started with.
func processes(application string) map[string]string {
	found := map[string]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if bytes.Contains(env, []byte("/"+application+"/")) && len(line) > 0 {
			found[filepath.Base(dir)] = string(line)
		}
	}
	return found
}

// kill ends an application's processes of one kind, as nothing but the kernel can.
func kill(t *testing.T, application, kind string) {
	t.Helper()
	if killed(t, application, kind) == 0 {
		t.Fatalf("%s has no %s", application, kind)
	}
}

// killed does so, and tells how many there were.
func killed(t *testing.T, application, kind string) (n int) {
	t.Helper()
	for pid, line := range processes(application) {
		if strings.HasSuffix(line, "\x00"+kind+"\x00") {
			n++
			if out, err := exec.Command("kill", "-KILL", pid).CombinedOutput(); err != nil {
				t.Log(string(out))
			}
		}
	}
	return n
}
