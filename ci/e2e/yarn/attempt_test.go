//go:build e2e

package yarn

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// A master that is killed is followed by another one: the programs do not notice, their output goes on where it was, and the
// application ends as they do.
func TestMasterIsKilled(t *testing.T) {
	g := gatewayOf(t)
	g.write("count.sh", "echo begin $RANK\nfor i in $(seq 30); do echo line $RANK $i; sleep 0.25; done\n")
	id := g.submit(append(small, "-N", "2", "--ntasks-per-node", "1", "--", "bash", "count.sh")...)
	e2e.Until(t, limit, "both ranks count", func() bool {
		return strings.Contains(g.logs(id), "line 0 3") && strings.Contains(g.logs(id), "line 1 3")
	})
	follow := g.command(within(t), "logs", "-f", id)
	var out, messages bytes.Buffer
	follow.Stdout, follow.Stderr = &out, &messages
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	e2e.Until(t, limit, "somebody follows", func() bool { return out.Len() > 0 })
	kill(t, id, "yarn-master")
	if err := follow.Wait(); err != nil || !strings.Contains(out.String(), "line 1 30\n") || !strings.Contains(messages.String(), "another master now (attempt 2)") {
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
		for i := range 30 {
			if n := strings.Count(text, fmt.Sprintf("line %d %d\n", rank, i+1)); n != 1 {
				t.Errorf("line %d of rank %d is there %d times", i+1, rank, n)
			}
		}
	}
	if t.Failed() {
		t.Log(text)
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
	id := g.submit(append(small, "-N", "2", "-c", "2", "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py")...)
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

// logs is what the application's masters wrote.
func (g *gateway) logs(application string) (text string) {
	files, _ := filepath.Glob(filepath.Join(g.b.dir, "nm*", "logs", application, "*", "stdout"))
	for _, file := range files {
		data, _ := os.ReadFile(file)
		text += string(data)
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
	found := 0
	for pid, line := range processes(application) {
		if strings.HasSuffix(line, "\x00"+kind+"\x00") {
			found++
			if out, err := exec.Command("kill", "-KILL", pid).CombinedOutput(); err != nil {
				t.Log(string(out))
			}
		}
	}
	if found == 0 {
		t.Fatalf("%s has no %s", application, kind)
	}
}
