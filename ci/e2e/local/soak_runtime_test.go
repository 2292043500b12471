//go:build e2e && soak

package local

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mixed is a driver that does operations of all sorts in random order. It stops before and after the most of them,
// when nothing is under way and it holds nothing, and says what it counts; then it waits for a file to appear.
const mixed = `
import collections, gc, json, os, random, sys, time
import maniple
from maniple._core import session
from maniple.util import placement_group, remove_placement_group

count, chance = int(sys.argv[1]), random.Random(int(sys.argv[2]))
LARGE = 200 << 10  # bytes of a value that lies in shared memory

class Mine(ValueError):
    pass

@maniple.remote
def nothing():
    pass

@maniple.remote
def length(*values):
    return sum(len(v) for v in values)

@maniple.remote
def makes(n):
    return bytes(n)

@maniple.remote
def fails():
    raise Mine("as it should")

@maniple.remote
def unpacks(box):
    return len(maniple.get(box["ref"]))

@maniple.remote(num_returns=3)
def three():
    return 1, b"x" * 1000, [3]

@maniple.remote
def nested():
    return maniple.get([nothing.remote() for _ in range(3)])

@maniple.remote
def yields(n):
    for i in range(n):
        yield i

@maniple.remote(max_retries=0)
def dies():
    os.kill(os.getpid(), 9)

@maniple.remote
def sleeps():
    time.sleep(60)

@maniple.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.n = 0
    def add(self, value=None):
        self.n += 1
        return self.n

done = collections.Counter()
waiting = []  # references that nobody has got
values = collections.deque(maxlen=20)  # references to values that are there

def small_task():
    waiting.append(nothing.remote())

def with_arguments():
    waiting.append(length.remote(b"abc", "d" * chance.randrange(200)))

def with_references():
    waiting.append(length.remote(*values) if values else nothing.remote())

def boxed():
    if values:
        waiting.append(unpacks.remote({"ref": values[-1]}))

def several():
    waiting.extend(three.remote())

def put_small():
    values.append(maniple.put(b"v" * chance.randrange(2000)))

def put_large():
    values.append(maniple.put(bytes(LARGE)))

def made_large():
    waiting.append(makes.remote(LARGE))

def call():
    waiting.append(counter.add.remote())

def call_with():
    waiting.append(counter.add.remote(values[0] if values else 1))

def get():
    if waiting:
        maniple.get(waiting.pop(chance.randrange(len(waiting))))

def get_all():
    maniple.get(waiting)
    done["get"] += len(waiting)
    waiting.clear()

def wait():
    if waiting:
        ready, left = maniple.wait(waiting, num_returns=(len(waiting) + 1) // 2)
        done["wait"] += len(ready)
        waiting[:] = left

def wait_at_once():
    maniple.wait(waiting[:10] or [maniple.put(1)], timeout=0)

def drop():
    del waiting[chance.randrange(len(waiting) + 1) :]

def raised(kind, ref):
    try:
        maniple.get(ref, timeout=60)
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")

def fail():
    raised(Mine, fails.remote())

def parent():
    waiting.append(nested.remote())

def stream():
    if sum(maniple.get(ref) for ref in yields.options(num_returns="streaming").remote(5)) != 10:
        raise AssertionError("a stream lost something")

def unread_stream():
    next(yields.options(num_returns="streaming").remote(5))

def cancel():
    ref = sleeps.remote()
    maniple.cancel(ref, force=chance.random() < 0.2)
    raised((maniple.exceptions.TaskCancelledError, maniple.exceptions.WorkerCrashedError), ref)

def crash():
    raised(maniple.exceptions.WorkerCrashedError, dies.remote())

def actor():
    other = Counter.options(name=chance.choice([None, "it"])).remote()
    if maniple.get(other.add.remote()) != 1:
        raise AssertionError("an actor that was not new")
    maniple.kill(other)
    raised(maniple.exceptions.ActorDiedError, other.add.remote())

def group():
    g = placement_group([{"CPU": 0.01}])
    if not g.wait(60):
        raise AssertionError(g.explain())
    remove_placement_group(g)

WEIGHTS = {
    small_task: 4000, with_arguments: 1000, with_references: 500, boxed: 200, several: 200, put_small: 1500, put_large: 100, made_large: 50, call: 1500,
    call_with: 200, get: 300, get_all: 40, wait: 40, wait_at_once: 50, drop: 20, fail: 20, parent: 20, stream: 5, unread_stream: 2, cancel: 1, crash: 0.3, actor: 1, group: 1,
}

def work(n):
    end, kinds, weights = sum(done.values()) + n, list(WEIGHTS), list(WEIGHTS.values())
    while sum(done.values()) < end:
        for kind in chance.choices(kinds, weights, k=500):
            kind()
            done[kind.__name__] += 1
            if len(waiting) >= 1000:
                get_all()

def known():
    s = session.current()
    return {"objects": s.query("objects").get("count", 0), "tasks": s.query("tasks").get("count", 0), "actors": s.query("actors").get("count", 0)}

def counted():
    """Everything that is counted, once it is the same for two seconds."""
    waiting.clear()
    values.clear()
    last, since, end = None, time.monotonic(), time.monotonic() + 60
    while time.monotonic() < end:
        gc.collect()
        s = session.current()
        now = {
            **known(), "entries": len(s.table.entries), "references": len(s.held._more) + len(s.held._delivered), "streams": len(s.streams),
            "promises": len(s.promises), "watched": len(s.watching), "sequences": len(s.sequences), "python objects": len(gc.get_objects()) // 500,
        }
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 2:
            return last
        time.sleep(0.1)
    raise AssertionError(f"it does not come to rest: {last}")

maniple.init("local")
counter = Counter.remote()
for name, n in (("before", count // 10), ("after", count)):
    work(n)
    print(name, json.dumps(counted()), flush=True)
    while not os.path.exists(name):
        time.sleep(0.05)
print("done", sum(done.values()), json.dumps(done), flush=True)
maniple.shutdown()
`

// mixedOperations is what the test below does unless MANIPLE_SOAK_OPERATIONS says otherwise.
const mixedOperations = 1_000_000

// After 1,000,000 operations of all sorts nothing has grown: what the driver and the agent count, and memory,
// descriptors and threads of every process of the cluster, and the shared memory.
func TestMillionOperations(t *testing.T) {
	operations := mixedOperations
	if n, err := strconv.Atoi(os.Getenv("MANIPLE_SOAK_OPERATIONS")); err == nil {
		operations = n
	}
	r := seed(t)
	w := newWorld(t)
	p := w.python(mixed, strconv.Itoa(operations), strconv.Itoa(r.IntN(1<<30)))
	before := w.takes(p, "before", 10*time.Minute)
	began := time.Now()
	after := w.takes(p, "after", 40*time.Minute)
	t.Logf("%d operations in %.0f s", operations, time.Since(began).Seconds())
	if code := p.code(time.Minute); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, p.out.String(), p.err.String())
	}
	t.Log(lastLine(p.out.String()))
	var grown []string
	for _, what := range slices.Sorted(maps.Keys(after)) { // what there was not before counts as nothing
		had, has := before[what], after[what]
		most := had
		switch {
		case strings.HasSuffix(what, inMemfds):
			most = had + 128 // MiB: two arenas
		case strings.HasSuffix(what, memory):
			most = had*1.2 + 24 // MiB: some 25 bytes for each operation are seen
		case strings.HasSuffix(what, threads):
			most = had + 4 // Go starts one for each system call that takes long
		case what == "workers":
			most = had + 4 // as many as wait for others at a time
		case what == "python objects": // in 500s: what was imported later, and caches
			most = had + 4
		}
		t.Logf("%-28s %10.1f before, %10.1f after", what, had, has)
		if has > most {
			grown = append(grown, fmt.Sprintf("%s: %.1f before, %.1f after", what, had, has))
		}
	}
	if len(grown) > 0 {
		t.Errorf("it has grown:\n%s", strings.Join(grown, "\n"))
	}
}

const (
	memory   = ", MiB"
	inMemfds = ", shared MiB"
	threads  = ", threads"
)

// takes waits until the driver says name and what it counts, adds what its cluster's processes take, and lets it go on.
func (w *world) takes(p *process, name string, limit time.Duration) map[string]float64 {
	w.t.Helper()
	line := func() string {
		for line := range strings.Lines(p.out.String()) {
			if rest, found := strings.CutPrefix(line, name+" "); found && strings.HasSuffix(line, "\n") {
				return rest
			}
		}
		return ""
	}
	w.wait(limit, "the driver says "+name, func() bool { return line() != "" || exited(p) })
	got := map[string]float64{}
	if err := json.Unmarshal([]byte(line()), &got); err != nil {
		w.t.Fatalf("%v: %s\n%s\n%s", err, p.out.String(), p.err.String(), w.logs())
	}
	workers := w.find("maniple._template")
	got["workers"] = float64(len(workers) - 1) // and the template
	for name, pids := range map[string][]int{
		"driver": {p.cmd.Process.Pid}, "agent": {w.one("maniple agent")}, "head": {w.one("maniple head")}, "keeper": {w.one("maniple keeper")}, "worker": workers,
	} {
		for _, pid := range pids { // of workers the largest
			fds, mib := descriptors(pid)
			if name == "agent" {
				fds -= len(workers) // its connections to them
			}
			tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			for what, n := range map[string]float64{", descriptors": float64(fds), threads: float64(len(tasks)), memory: residentMemory(w, pid), inMemfds: mib} {
				got[name+what] = max(got[name+what], n)
			}
		}
	}
	w.file(name, "")
	return got
}

// residentMemory is what a process has of its own, in MiB.
func residentMemory(w *world, pid int) float64 {
	w.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // a worker that has just ended
	}
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	w.t.Fatalf("no RssAnon in %s", data)
	return 0
}

// descriptors is how many a process has open beside memory, and what the memory takes that it has open, in MiB.
func descriptors(pid int) (open int, mib float64) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	seen := map[uint64]bool{}
	for _, fd := range fds {
		var st syscall.Stat_t
		target, err := os.Readlink(fd)
		if err != nil {
			continue
		}
		if !strings.HasPrefix(target, "/memfd:") {
			open++
		} else if syscall.Stat(fd, &st) == nil && !seen[st.Ino] {
			seen[st.Ino] = true
			mib += float64(st.Blocks*512) / (1 << 20)
		}
	}
	return open, mib
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
