//go:build e2e

package yarn

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// A driver's tasks and actors run in both containers, each in its own container's folder, where the driver's files are.
func TestDriverInPython(t *testing.T) {
	g := gatewayOf(t)
	python, top := devPython(t)
	g.write("main.py", `
import os, time, maniple

maniple.init()

@maniple.remote
def here(i):
    time.sleep(0.3)
    return os.environ["CONTAINER_ID"], os.getcwd(), open("main.py").read() != ""

@maniple.remote(num_cpus=1)
class Place:
    def here(self):
        return os.environ["CONTAINER_ID"]

seen = set(maniple.get([here.remote(i) for i in range(8)]))
print("tasks in", len({c for c, _, _ in seen}), all(c in d and ok for c, d, ok in seen))
pg = maniple.util.placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
maniple.get(pg.ready())
places = [Place.options(placement_group=pg, placement_group_bundle_index=i).remote() for i in range(2)]
print("actors in", len(set(maniple.get([p.here.remote() for p in places]))))
`)
	r := g.run("submit", "--on", "yarn", "--follow", "-N", "2", "-c", "2", "--mem", "512M", "--am-memory", "512M",
		"--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py")
	if r.Code != 0 || r.Stdout[strings.Index(r.Stdout, "\n")+1:] != "tasks in 2 True\nactors in 2\n" {
		t.Errorf("%+v", r)
	}
}

// Values that the nodes have no memory for go to HDFS, as the application's user, and come back.
func TestDriverSpillsToHDFS(t *testing.T) {
	g := gatewayOf(t)
	python, top := devPython(t)
	g.write("main.py", `
import os, sys, time, maniple

maniple.init()
refs = [maniple.put(bytes([i]) * (8 << 20)) for i in range(12)]
print("put", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.1)
print("back", sum(maniple.get(r) == bytes([i]) * (8 << 20) for i, r in enumerate(refs)))
`)
	enough := filepath.Join(g.home, "enough")
	id := g.submit(append(small, "-N", "1", "-c", "2", "--object-store-memory", "32M", "--object-spilling-directory", "hdfs:///user/alice/spilled",
		"--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py", enough)...)
	e2e.Until(t, limit, "it has put all", func() bool { return strings.Contains(g.logs(id), "put") || len(processes(id)) == 0 && g.logs(id) != "" })
	r := g.run("status", "--cluster", id)
	if err := os.WriteFile(enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Stdout, "hdfs:///user/alice/spilled") || !strings.Contains(r.Stdout, "MiB") {
		t.Errorf("%+v", r)
	}
	if r := g.over(id); r.Final != yarn.Succeeded || !strings.Contains(g.logs(id), "back 12") {
		t.Errorf("%+v\n%s", r, g.logs(id))
	}
}

// devPython is the Python of the tests, and the top of this repository.
func devPython(t *testing.T) (python, top string) {
	t.Helper()
	return pythonFor(t, "dev")
}

// prepared is how long it may take to make an environment that nobody has made on this machine yet.
const prepared = 10 * time.Minute

// pythonFor is that of an environment of ci/python.
func pythonFor(t *testing.T, name string) (python, top string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	top = filepath.Join(filepath.Dir(here), "..", "..", "..")
	ctx, cancel := context.WithTimeout(t.Context(), prepared)
	defer cancel()
	out, err := exec.CommandContext(ctx, "bash", filepath.Join(top, "ci", "python", "env.sh"), name).Output()
	if err != nil {
		var said *exec.ExitError
		if errors.As(err, &said) {
			t.Log(string(said.Stderr))
		}
		t.Fatalf("ci/python/env.sh %s: %v", name, err)
	}
	return strings.TrimSpace(string(out)), top
}

// A command with --client that is interrupted tells YARN of the end, whenever that is: YARN would count the application as running for ten minutes more.
func TestClientModeIsInterrupted(t *testing.T) {
	g := gatewayOf(t)
	for _, after := range []string{"its master is here", "1 node x 1 rank"} {
		cmd := g.command(within(t), append(append([]string{"submit", "--on", "yarn", "--client", "-N", "1", "-n", "1"}, small...), "--", "sleep", "300")...)
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		id, text := "", ""
		for lines := bufio.NewScanner(said); lines.Scan(); {
			text += lines.Text() + "\n"
			if _, rest, found := strings.Cut(lines.Text(), "application_"); found && id == "" {
				id = "application_" + strings.SplitN(rest, ":", 2)[0]
			}
			if strings.Contains(lines.Text(), after) {
				_ = cmd.Process.Signal(os.Interrupt)
				after = "no other line"
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("%v\n%s", err, text)
		}
		appID, err := yarn.ParseApplicationID(id)
		if err != nil {
			t.Fatal(err, text)
		}
		e2e.Until(t, 20*time.Second, "YARN counts it as over", func() bool {
			r, err := g.b.client(t, "alice").Report(within(t), appID)
			return err == nil && r.State.Over()
		})
		e2e.Until(t, limit, "nothing of it is left", func() bool { return len(processes(id)) == 0 })
	}
}

// With --client the command itself is the master: ranks print where it was written, a driver runs there, and its tasks in containers.
func TestClientMode(t *testing.T) {
	g := gatewayOf(t)
	g.write("rank.sh", "echo \"rank $RANK in ${CONTAINER_ID%%_[0-9]*} of $PWD\"; read line; echo \"got $line\"; exit 5\n")
	cmd := g.command(within(t), append(append([]string{"submit", "--on", "yarn", "--client", "-N", "1", "-n", "1"}, small...), "--", "bash", "rank.sh")...)
	cmd.Stdin = strings.NewReader("a line\n")
	if r := e2e.Do(t, cmd); r.Code != 5 || !strings.Contains(r.Stdout, "rank 0 in container of /") || !strings.Contains(r.Stdout, "got a line\n") || !strings.Contains(r.Stderr, "its master is here") {
		t.Errorf("%+v", r)
	}
	python, top := devPython(t)
	g.write("main.py", `
import os, maniple

maniple.init()

@maniple.remote
def here():
    return os.environ["CONTAINER_ID"], open("main.py").read() != ""

print("driver in", os.environ.get("CONTAINER_ID"), os.getcwd())
print("task in", *maniple.get(here.remote()), flush=True)
raise SystemExit(4)
`)
	g.environ = []string{"PYTHONPATH=" + filepath.Join(top, "libs", "python")}
	r := g.run(append(append([]string{"submit", "--on", "yarn", "--client", "-N", "1"}, small...), "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py")...)
	if r.Code != 4 || !strings.Contains(r.Stdout, "driver in None "+g.dir) || !strings.Contains(r.Stdout, "task in container_") {
		t.Errorf("%+v", r)
	}
	_, after, _ := strings.Cut(r.Stderr, "application_")
	id := "application_" + strings.SplitN(after, ":", 2)[0]
	if r := g.over(id); r.Final != yarn.Failed || r.Diagnostics != "exit code 4" || !r.Unmanaged {
		t.Errorf("%+v", r)
	}
	e2e.Until(t, limit, "nothing of it is left", func() bool { return len(processes(id)) == 0 })
	if r := g.run("logs", "-f", id); r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "printed where") {
		t.Errorf("%+v", r)
	}
}
