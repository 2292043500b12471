package device_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
)

// folder makes a machine of files: "path: content", a line each; \n in a content begins a line of the file.
func folder(t *testing.T, text string) string {
	t.Helper()
	root := t.TempDir()
	for line := range strings.Lines(text) {
		name, content, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found {
			continue
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, `\n`, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const host = `
proc/meminfo: MemTotal: 16777216 kB\nMemAvailable: 8388608 kB
proc/vmstat: nr_free_pages 7\noom_kill 3
`

const inV2 = host + `
proc/self/cgroup: 0::/job/step
proc/self/mountinfo: 30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
sys/fs/cgroup/job/memory.max: 4294967296
sys/fs/cgroup/job/memory.current: 4080218931
sys/fs/cgroup/job/memory.stat: anon 5\ninactive_file 1073741824\nactive_file 536870912\nslab_reclaimable 268435456
sys/fs/cgroup/job/step/memory.max: max
sys/fs/cgroup/job/step/memory.current: 4080218931
sys/fs/cgroup/job/step/memory.events: low 0\nhigh 0\nmax 12\noom 2\noom_kill 1
`

const inV1 = host + `
proc/self/cgroup: 4:memory:/job
proc/self/mountinfo: 30 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
sys/fs/cgroup/memory/memory.limit_in_bytes: 9223372036854771712
sys/fs/cgroup/memory/memory.usage_in_bytes: 9000000000
sys/fs/cgroup/memory/job/memory.limit_in_bytes: 1073741824
sys/fs/cgroup/memory/job/memory.usage_in_bytes: 1073741000
sys/fs/cgroup/memory/job/memory.stat: inactive_file 1\ntotal_inactive_file 536870912\ntotal_active_file 0
sys/fs/cgroup/memory/job/memory.oom_control: oom_kill_disable 0\nunder_oom 0\noom_kill 5
`

// Two processes below the keeper, 100, which has a thread that started one of them: 1 GiB of their own each, and 256 MiB of files.
const tree = host + `
proc/100/task/100/children: 200
proc/100/task/101/children: 300
proc/200/comm: python
proc/200/statm: 999999 327680 65536 1 0 0 0
proc/200/smaps_rollup: Rss: 1310720 kB\nPss: 700000 kB\nPss_Anon: 524288 kB
proc/300/comm: train
proc/300/statm: 999999 327680 65536 1 0 0 0
proc/300/smaps_rollup: Rss: 1310720 kB\nPss: 700000 kB\nPss_Anon: 524288 kB
proc/300/task/300/children: 301
`

// What is nearest to its end is what counts, wherever it stands; memory that the kernel takes back at once does not count as used.
func TestGauge(t *testing.T) {
	granted := func(source string, bytes uint64) device.Facts {
		return device.Facts{HostMemory: 16 << 30, Bounds: []device.Bound{{What: "memory", Source: source, Value: float64(bytes), Won: true}}}
	}
	for _, c := range []struct {
		what, files string
		facts       device.Facts
		want        string
		kills       uint64
	}{
		{"the machine", host, device.Facts{}, "8 GiB of 16 GiB (this machine)", 3},
		{"a group above this one", inV2, device.Facts{}, "2 GiB of 4 GiB (cgroup v2 memory.max at /job)", 1},
		{"a bound that throttles", inV2 + "sys/fs/cgroup/job/step/memory.high: 4081000000\n", device.Facts{}, "3.8 GiB of 3.8 GiB (cgroup v2 memory.high at /job/step)", 1},
		{"groups of the older kind", inV1, device.Facts{}, "511 MiB of 1 GiB (cgroup v1 memory.limit_in_bytes at /job)", 5},
		{"a grant, with room", tree, granted("SLURM_MEM_PER_NODE", 4<<30), "2.1 GiB of 4 GiB (SLURM_MEM_PER_NODE)", 3},
		{"near its end, pages that processes have in common count once", tree, granted("SLURM_MEM_PER_NODE", 2200<<20), "1.1 GiB of 2.1 GiB (SLURM_MEM_PER_NODE)", 3},
		{"as NodeManagers count", tree, granted("YARN", 3<<30), "2.5 GiB of 3 GiB (YARN)", 3},
		{"a grant that a group keeps to", inV2, granted("cgroup v2 memory.max at /job", 1<<30), "2 GiB of 4 GiB (cgroup v2 memory.max at /job)", 1},
	} {
		g := device.NewGauge(device.Options{Root: folder(t, c.files), Node: bootdoc.Node{Grant: "YARN"}}, &c.facts, 100)
		if got := g.Read(128 << 20).String(); got != c.want {
			t.Errorf("%s: %s, not %s", c.what, got, c.want)
		}
		if got := g.Kills(); got != c.kills {
			t.Errorf("%s: %d kills, not %d", c.what, got, c.kills)
		}
	}
	fading := granted("YARN", 3<<30)
	g := device.NewGauge(device.Options{Root: folder(t, tree+"proc/300/status: RssAnon: 1048576 kB\\nRssShmem: 204800 kB\n"), Node: bootdoc.Node{Grant: "YARN"}}, &fading, 100)
	if r := g.Read(128 << 20); r.Views != 200<<20 || r.Counted != 3<<30 || r.Beside != r.Used-r.Views {
		t.Errorf("views count for each process: %+v", r)
	}
	g = device.NewGauge(device.Options{Root: folder(t, tree)}, &device.Facts{}, 100)
	if list := g.Processes(); len(list) != 2 || list[1].Name != "train" || list[1].Parent != 100 || list[1].Anon != 1<<30 {
		t.Errorf("%+v", list)
	}
}
