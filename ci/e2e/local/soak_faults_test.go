//go:build e2e && soak

package local

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wronged is a driver that makes values of many sizes here and on other nodes, more than memory has room for, hands them on and reads them, and says what
// came of it, until a file appears. Each value is what it should be, or an error of maniple's says why not, in time; nothing else is right.
const wronged = `
import collections, gc, json, os, random, sys, time
import maniple
from maniple import exceptions as ex
from maniple._core import session

maniple.init(sys.argv[1])
chance = random.Random(int(sys.argv[2]))
KIB, MIB = 1 << 10, 1 << 20
LIVE = 320 * MIB
TYPED = (ex.ObjectLostError, ex.OutOfDiskError, ex.ObjectStoreFullError, ex.NodeDiedError, ex.WorkerCrashedError, ex.OutOfMemoryError)
told = collections.Counter()

def value(number, size):
    return (number.to_bytes(8, "little") * (size // 8 + 1))[:size]

@maniple.remote(num_cpus=1, scheduling_strategy="SPREAD", max_retries=20)
def make(number, size):
    return value(number, size)

@maniple.remote(num_cpus=1, scheduling_strategy="SPREAD", max_retries=20)
def right(expected, *values):
    return [v == value(*e) for v, e in zip(values, expected)]

@maniple.remote(num_cpus=1, scheduling_strategy="SPREAD", max_retries=20)
def joined(first, second):
    return first + second

def outcome(what, do):
    """What do gives; None if it fails as it may."""
    began = time.monotonic()
    try:
        got = do()
    except ex.GetTimeoutError as e:
        raise SystemExit(f"{what}: nobody said anything in {time.monotonic() - began:.0f} s: {e}")
    except TYPED as e:
        told[type(e).__name__] += 1
        return None
    except ex.TaskError as e:
        raise SystemExit(f"{what}: user code failed: {e}")
    told["right"] += 1
    return got

live = collections.deque()  # (number, size, reference)
last = 0

def numbered():
    global last
    last += 1
    return last, chance.choice([KIB, 100 * KIB, 300 * KIB, MIB, 4 * MIB, 8 * MIB])

def one():
    kind = chance.random()
    if kind < 0.25 or len(live) < 8:
        number, size = numbered()
        ref = outcome("put", lambda: maniple.put(value(number, size)))
        if ref is not None:
            live.append((number, size, ref))
    elif kind < 0.55:
        number, size = numbered()
        live.append((number, size, make.remote(number, size)))
    elif kind < 0.75:
        some = [live[chance.randrange(len(live))] for _ in range(chance.randrange(1, 4))]
        asked = right.remote([s[:2] for s in some], *[s[2] for s in some])
        got = outcome("as arguments", lambda: maniple.get(asked, timeout=240))
        assert got is None or all(got), f"wrong values reached a task: {[s[:2] for s in some]}, {got}"
    elif kind < 0.8:
        a, b = live[chance.randrange(len(live))], live[chance.randrange(len(live))]
        asked = joined.remote(a[2], b[2])
        got = outcome("joined", lambda: maniple.get(asked, timeout=240))
        assert got is None or got == value(*a[:2]) + value(*b[:2]), f"two values joined are wrong: {a[:2]}, {b[:2]}"
    else:
        number, size, ref = live[chance.randrange(len(live))]
        got = outcome("get", lambda: maniple.get(ref, timeout=240))
        assert got is None or got == value(number, size), f"value {number} of {size} bytes is wrong"
    while sum(s[1] for s in live) > LIVE:
        del live[chance.randrange(len(live))]

print("up", flush=True)
while not os.path.exists("over"):
    one()
    if sum(told.values()) % 500 == 0:
        print("so far", dict(told), flush=True)
print("told", dict(told), flush=True)
for number, size, ref in live:
    got = outcome("at the end", lambda: maniple.get(ref, timeout=240))
    assert got is None or got == value(number, size), f"value {number} of {size} bytes is wrong at the end"
live.clear()
del ref
gc.collect()
end = time.monotonic() + 60
while sum(n["Alive"] for n in maniple.nodes()) < 4 and time.monotonic() < end:
    time.sleep(0.2)
before = told["right"]
for i in range(60):
    number, size = numbered()
    live.append((number, size, make.remote(number, size) if i % 2 else maniple.put(value(number, size))))
for number, size, ref in live:
    assert maniple.get(ref, timeout=120) == value(number, size), f"value {number} is wrong when all is well again"
assert maniple.get([right.remote([s[:2]], s[2]) for s in live], timeout=240) == [[True]] * 60
live.clear()
del ref
gc.collect()
end = time.monotonic() + 30
while session.current().query("memory")["store"].get("disk_bytes") and time.monotonic() < end:
    time.sleep(0.1)
left = session.current().query("memory")["store"].get("disk_bytes")
assert not left, f"{left} bytes of nobody lie on disk"
came = collections.Counter()
for node in session.current().query("stores")["nodes"]:
    assert not node.get("error"), node
    came.update({way: node["store"].get(way, 0) for way in ("received", "clear_received", "beside")})
print("came", json.dumps(came), flush=True)
print("all is well", flush=True)
`

// wrongs is who does them.
type wrongs struct {
	w     *world
	r     *rand.Rand
	disk  string // a file system of its own
	share string // what all nodes see
	done  map[string]int
}

// agents are the processes of the nodes' agents, that of the driver's first.
func (x *wrongs) agents() []int {
	home, pids := x.w.keeperOf(x.w.nodeDir("n1")), x.w.find("maniple agent")
	for i, pid := range pids {
		if parent(pid) == home {
			pids[0], pids[i] = pids[i], pids[0]
		}
	}
	return pids
}

// kill kills an agent that is not the driver's; its keeper starts another.
func (x *wrongs) kill() bool {
	pids := x.agents()
	return len(pids) > 1 && syscall.Kill(pids[1+x.r.IntN(len(pids)-1)], syscall.SIGKILL) == nil
}

// connections gives those by which an agent reaches other processes by TCP, as descriptors of our own.
func (x *wrongs) connections(pid int) (fds []int) {
	of, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(of)
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, _ := os.Readlink(link); !strings.HasPrefix(to, "socket:") {
			continue
		}
		number, _ := strconv.Atoi(filepath.Base(link))
		fd, err := unix.PidfdGetfd(of, number, 0)
		if err != nil {
			continue
		}
		if peer, err := unix.Getpeername(fd); err == nil {
			if _, isTCP := peer.(*unix.SockaddrInet4); isTCP {
				fds = append(fds, fd)
				continue
			}
		}
		_ = unix.Close(fd)
	}
	return fds
}

// onConnections does something with some of an agent's connections.
func (x *wrongs) onConnections(most int, do func(fd int) error) (any bool) {
	pids := x.agents()
	if len(pids) == 0 {
		return false
	}
	fds := x.connections(pids[x.r.IntN(len(pids))])
	x.r.Shuffle(len(fds), func(i, j int) { fds[i], fds[j] = fds[j], fds[i] })
	for i, fd := range fds {
		if i < most && do(fd) == nil {
			any = true
		}
		_ = unix.Close(fd)
	}
	return any
}

// tear ends connections of an agent, which nobody told it.
func (x *wrongs) tear() bool {
	return x.onConnections(1+x.r.IntN(4), func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
}

// garble writes into one what its agent has not written.
func (x *wrongs) garble() bool {
	b := make([]byte, 1+x.r.IntN(200))
	for i := range b {
		b[i] = byte(x.r.IntN(256))
	}
	return x.onConnections(1, func(fd int) error { _, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT); return err })
}

// flip changes a bit in a file of spilled values.
func (x *wrongs) flip() bool {
	var files []string
	for _, pid := range x.agents() {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, x.disk+"/maniple-spill-") {
				files = append(files, link)
			}
		}
	}
	shared, _ := filepath.Glob(filepath.Join(x.share, "maniple-*/*/*"))
	if files = append(files, shared...); len(files) == 0 {
		return false
	}
	f, err := os.OpenFile(files[x.r.IntN(len(files))], os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false
	}
	at, b := x.r.Int64N(st.Size()), make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return false
	}
	b[0] ^= 1 << x.r.IntN(8)
	_, err = f.WriteAt(b, at)
	return err == nil
}

// fill has the nodes' disk full for a while.
func (x *wrongs) fill() bool {
	f, err := os.Create(filepath.Join(x.disk, "others"))
	if err != nil {
		return false
	}
	defer f.Close()
	for size := int64(256 << 20); size >= 4096; { // as much as goes
		st, _ := f.Stat()
		if unix.Fallocate(int(f.Fd()), 0, st.Size(), size) != nil {
			size /= 2
		}
	}
	time.AfterFunc(time.Duration(1+x.r.IntN(5))*time.Second, func() { _ = os.Remove(f.Name()) })
	return true
}

// For 20 minutes (MANIPLE_SOAK_SECONDS) agents are killed, connections torn and garbled, bits of spilled values flipped, and the disk is full at times: each value is
// right, or an error says why not, in time; and when it is over all is as it was. A third of the time values go by encrypted connections, a third by
// plain ones, and a third by descriptors.
func TestFaultsOfTheDataPlane(t *testing.T) {
	lasts := 20 * time.Minute
	if n, err := strconv.Atoi(os.Getenv("MANIPLE_SOAK_SECONDS")); err == nil {
		lasts = time.Duration(n) * time.Second
	}
	for _, way := range []struct {
		name  string
		flags []string
		meant func(c came) bool
	}{
		{"encrypted", []string{"--no-same-host-handover"}, func(c came) bool { return c.Received > 0 && c.Clear == 0 && c.Beside == 0 }},
		{"plain", []string{"--no-same-host-handover", "--clear-values", "127.0.0.0/8"}, func(c came) bool { return c.Clear > 0 && c.Clear == c.Received && c.Beside == 0 }},
		{"handed over", nil, func(c came) bool { return c.Beside > 0 && c.Clear == 0 }}, // what lies in a file is sent, and what can not be handed over comes encrypted
	} {
		t.Run(way.name, func(t *testing.T) {
			if c := faults(t, lasts/3, way.flags); !way.meant(c) && !t.Failed() {
				t.Errorf("values came by other ways: %+v", c)
			}
		})
	}
}

// came is how many bytes of values the nodes' agents have received, and how many of those unencrypted and by descriptors, since each was started.
type came struct {
	Received int64 `json:"received"`
	Clear    int64 `json:"clear_received"`
	Beside   int64 `json:"beside"`
}

func faults(t *testing.T, lasts time.Duration, flags []string) (c came) {
	r := seed(t)
	w := newWorld(t)
	x := &wrongs{w: w, r: r, disk: filepath.Join(w.dir, "disk"), share: filepath.Join(w.dir, "share"), done: map[string]int{}}
	for _, dir := range []string{x.disk, x.share} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", x.disk, "tmpfs", 0, "size=192m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(x.disk, unix.MNT_DETACH) })
	w.must(append([]string{"up", "--cluster", "wronged", "--fake-nodes", "4", "--cpus", "2", "--node-mem", "2G", "--object-store-memory", "64M", "--object-spilling-directory", x.disk + ",shared:" + x.share}, flags...)...)
	p := w.python(wronged, "wronged", strconv.Itoa(r.IntN(1<<30)))
	p.says("up")
	kinds := []struct {
		name   string
		weight int
		do     func() bool
	}{{"killed agents", 1, x.kill}, {"torn connections", 4, x.tear}, {"garbled connections", 2, x.garble}, {"flipped bits", 8, x.flip}, {"full disks", 1, x.fill}}
	for end := time.Now().Add(lasts); time.Now().Before(end) && !exited(p); time.Sleep(time.Duration(200+r.IntN(1500)) * time.Millisecond) {
		n := r.IntN(16)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				if k.do() {
					x.done[k.name]++
				}
				break
			}
		}
	}
	_ = os.Remove(filepath.Join(x.disk, "others"))
	w.file("over", "")
	code := p.code(10 * time.Minute)
	t.Logf("done: %v; %s", x.done, regexp.MustCompile(`told .*`).FindString(p.out.String()))
	if code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if lasts >= time.Minute {
		for _, k := range kinds {
			if x.done[k.name] == 0 {
				t.Errorf("there were no %s", k.name)
			}
		}
	}
	if text := regexp.MustCompile(`(?m)^came (.*)$`).FindStringSubmatch(p.out.String()); text != nil {
		if err := json.Unmarshal([]byte(text[1]), &c); err != nil {
			t.Error(err)
		}
		t.Logf("came: %+v", c)
	}
	w.must("down", "--cluster", "wronged")
	w.nothingLeft()
	return c
}
