//go:build e2e

package local

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// spills is a driver with four times as many live values as its nodes' memory holds: large ones and small ones, its own and those of tasks,
// read by itself, by tasks as arguments, on its own node and on the other one.
const spills = `
import gc, sys, time
import maniple
from maniple._core.session import current
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

maniple.init(address=sys.argv[1])
MIB = 1 << 20

def value(i, size):
    return bytearray(bytes([i % 251, i // 251]) * (size // 2))

@maniple.remote
def make(i, size):
    return value(i, size)

@maniple.remote
def right(i, v, *more):
    size = len(v)
    return bytes(v) == value(i, size) and all(bytes(m) == value(i, size) for m in more)

held = [(i, 4 * MIB, maniple.put(value(i, 4 * MIB))) for i in range(40)]
held += [(i, 200 << 10, maniple.put(value(i, 200 << 10))) for i in range(40, 240)]
held += [(i, 4 * MIB, make.remote(i, 4 * MIB)) for i in range(240, 256)]
looked = [maniple.get(held[0][2]), maniple.get(held[100][2])]
for i, size, ref in held:
    assert maniple.get(ref) == value(i, size), i
print("by the driver", flush=True)
assert all(maniple.get([right.remote(i, ref, ref) for i, _, ref in held]))
print("as arguments", flush=True)
other = [n for n in maniple.nodes() if n["NodeName"] != current().node][0]["NodeID"]
there = right.options(scheduling_strategy=At(other, soft=False))
assert all(maniple.get([there.remote(i, ref) for i, _, ref in held]))
print("on the other node", flush=True)
assert looked == [value(0, 4 * MIB), value(100, 200 << 10)]
store = current().query("memory")["store"]
assert store["spilled"] > 128 * MIB and store["restored"] > 128 * MIB, store
assert store["used"] <= 64 * MIB and store.get("failed", 0) == 0, store
del held, ref, looked
gc.collect()
end = time.monotonic() + 20
while time.monotonic() < end and current().query("memory")["store"].get("disk_bytes"):
    time.sleep(0.05)
store = current().query("memory")["store"]
assert not store.get("disk_bytes"), store
print("all is well", flush=True)
`

// Values that memory has no room for go to disk and come back, four times as many as it holds; their files go with them.
func TestSpill(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "spill", "--fake-nodes", "2", "--cpus", "2", "--node-mem", "2G", "--object-store-memory", "64M", "--object-spilling-directory", w.dir, "--object-spilling-limit", "400M")
	p := w.python(spills, "spill")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") || !strings.Contains(p.err.String(), "writes values to disk") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if text := w.logs(); strings.Contains(text, "the object store") {
		t.Errorf("the store and the work core don't agree:\n%s", text)
	}
	if text := w.must("status", "--cluster", "spill"); !strings.Contains(text, "NODE  MEMORY") || !strings.Contains(text, " in "+w.dir+", of 400 MiB at most\n") {
		t.Errorf("status says:\n%s", text)
	}
	var status struct {
		Clusters []struct {
			Stores []struct {
				Name  string
				Store struct {
					Limit, Spilled, Restored int64
					Disks                    []struct{ Path string }
					Memory                   struct{ Used, Limit int64 }
				}
			}
		}
	}
	text := w.must("status", "--cluster", "spill", "--json")
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Clusters) != 1 || len(status.Clusters[0].Stores) != 2 {
		t.Fatalf("%v: %s", err, text)
	}
	if n := status.Clusters[0].Stores[0]; n.Name != "n1" || n.Store.Limit != 64<<20 || n.Store.Spilled < 128<<20 || n.Store.Restored < 128<<20 || n.Store.Disks[0].Path != w.dir || n.Store.Memory.Used == 0 {
		t.Errorf("%+v", n)
	}
	w.must("down", "--cluster", "spill")
	w.nothingLeft()
}

// heirs is a driver whose values are made on the other node, three times as many as that one's memory holds, and which then waits for that
// node's death.
const heirs = `
import os, sys, time
import maniple
from maniple._core.session import current
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

maniple.init(address=sys.argv[1])
MIB = 1 << 20
runs = sys.argv[2]

@maniple.remote
def make(i):
    with open(runs, "a") as f:
        f.write("x")
    return bytearray(bytes([i]) * (4 * MIB))

other = [n for n in maniple.nodes() if n["NodeName"] != current().node][0]
there = make.options(scheduling_strategy=At(other["NodeID"], soft=True))
refs = [there.remote(i) for i in range(48)]
maniple.wait(refs, num_returns=len(refs), fetch_local=False)
assert os.stat(runs).st_size == 48
print("up", flush=True)
while not os.path.exists("killed"):
    time.sleep(0.02)
for i, ref in enumerate(refs):
    assert maniple.get(ref) == bytes([i]) * (4 * MIB), i
again = os.stat(runs).st_size - 48
assert again <= 18, f"{again} of 48 values were made again"
print("all is well", flush=True)
`

// What a node has written to a directory that nodes share outlives it: only what was in its memory is made again.
func TestSharedDirectory(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "heirs", "--fake-nodes", "2", "--cpus", "1", "--node-mem", "2G", "--object-store-memory", "64M", "--object-spilling-directory", "shared:"+w.dir)
	p := w.python(heirs, "heirs", filepath.Join(w.dir, "runs"))
	p.says("up")
	w.killAgent("n2")
	w.file("killed", "")
	if code := p.code(time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if !strings.Contains(w.logs(), "values outlived their node") {
		t.Error(w.logs())
	}
	w.must("down", "--cluster", "heirs")
	if left, _ := filepath.Glob(filepath.Join(w.dir, "maniple-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	w.nothingLeft()
}
