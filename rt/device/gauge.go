package device

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Gauge reads how much of its memory this node has used: of each control group that bounds it, of the machine, and of what was
// granted or declared where no group keeps to that. It keeps nothing that
// changes, so that any goroutine may read.
type Gauge struct {
	m       *machine
	groups  []group
	granted uint64 // 0: control groups or the machine bound it
	source  string // of that
	as      string // "resident": whoever granted it counts what each process has resident, shared or not
	keeper  int    // whose descendants are this node's processes
}

// Reading is how much is used of the memory that is nearest to its end.
type Reading struct {
	Used, Limit uint64
	Source      string // who bounds it
	Views       uint64 // of Used, what processes have in their page tables of shared memory, where that counts for each of them
	Counted     uint64 // then: the grant of whoever counts so, tight or not,
	Beside      uint64 // and what is used of it that is no view
}

// Free is what is left.
func (r Reading) Free() uint64 { return r.Limit - min(r.Used, r.Limit) }

// String is for people: "1.9 GiB of 2 GiB (cgroup v2 memory.max at /x)".
func (r Reading) String() string {
	return fmt.Sprintf("%s of %s (%s)", size(r.Used), size(r.Limit), r.Source)
}

// NewGauge makes the gauge of a node whose processes descend from keeper.
func NewGauge(o Options, f *Facts, keeper int) *Gauge {
	g := &Gauge{m: o.machine(), keeper: keeper}
	g.groups = g.m.cgroups("memory")
	for _, b := range f.Bounds {
		if b.What == "memory" && b.Won && b.Source != thisMachine && !strings.HasPrefix(b.Source, "cgroup ") && uint64(b.Value) < f.HostMemory {
			g.granted, g.source = uint64(b.Value), b.Source
			if b.Source == o.Node.Grant {
				g.as = "resident"
			}
		}
	}
	return g
}

// Read looks. shared is what the node's processes share of memory, each byte counted once.
func (g *Gauge) Read(shared uint64) Reading {
	all := g.m.meminfo("MemTotal")
	tight := Reading{Used: all - min(g.m.meminfo("MemAvailable"), all), Limit: all, Source: thisMachine}
	for _, x := range g.groups {
		for _, dir := range x.dirs {
			if r, ok := g.group(&x, dir); ok && r.Free() < tight.Free() {
				tight = r
			}
		}
	}
	if g.granted > 0 {
		r := Reading{Limit: g.granted, Source: g.source}
		r.Used, r.Views = g.used(shared)
		beside := r.Used - r.Views
		if r.Free() < tight.Free() {
			tight = r
		}
		if g.as == "resident" {
			tight.Counted, tight.Beside = g.granted, beside
		}
	}
	return tight
}

// group reads one control group; false: it bounds nothing. What the kernel can take back at once does not count as used.
func (g *Gauge) group(x *group, dir string) (Reading, bool) {
	limits, usage, prefix := []string{"memory.max", "memory.high"}, "memory.current", ""
	if x.version == 1 {
		limits, usage, prefix = []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", "total_"
	}
	r := Reading{Limit: unlimited}
	for _, file := range limits {
		if n, err := strconv.ParseUint(strings.TrimSpace(g.m.read(path.Join(dir, file))), 10, 64); err == nil && n < r.Limit {
			r.Limit, r.Source = n, x.where(dir, file)
		}
	}
	n := g.m.number(path.Join(dir, usage))
	if r.Limit == unlimited || n < 0 {
		return r, false
	}
	r.Used = uint64(n)
	for line := range strings.Lines(g.m.read(path.Join(dir, "memory.stat"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.TrimPrefix(name, prefix) {
		case "inactive_file", "active_file", "slab_reclaimable":
			if strings.HasPrefix(name, prefix) {
				v, _ := strconv.ParseUint(value, 10, 64)
				r.Used -= min(v, r.Used)
			}
		}
	}
	return r, true
}

// used is what this node's processes have of a grant that no control group keeps to, and what of that are views: see Reading.
func (g *Gauge) used(shared uint64) (all, views uint64) {
	var resident, anon uint64
	list := g.Processes()
	for _, p := range list {
		resident += p.Resident
		anon += p.Anon
		views += p.Views
	}
	if g.as == "resident" {
		return resident, views
	}
	if anon+shared < g.granted-g.granted/8 {
		return anon + shared, 0
	}
	anon = 0 // near the end it pays to look which pages forked processes have in common
	for _, p := range list {
		own := p.Anon
		if n := g.m.kilobytes(fmt.Sprintf("proc/%d/smaps_rollup", p.PID), "Pss_Anon"); n > 0 {
			own = n
		}
		anon += own
	}
	return anon + shared, 0
}

// fadeLeast is the least memory that a process shares with others for which it is looked how much of it is no program's code.
const fadeLeast = 16 << 20

// Kills is how many processes of this node's control group, or, without one, of the machine, the kernel has ended for want of memory.
func (g *Gauge) Kills() uint64 {
	files := []string{"proc/vmstat"}
	for _, x := range g.groups {
		files = []string{path.Join(x.dirs[0], "memory.events")}
		if x.version == 1 {
			files = []string{path.Join(x.dirs[0], "memory.oom_control")}
		}
	}
	for _, file := range files {
		for line := range strings.Lines(g.m.read(file)) {
			if value, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); found {
				n, _ := strconv.ParseUint(value, 10, 64)
				return n
			}
		}
	}
	return 0
}

// Process is a process of this node, and the memory that it has.
type Process struct {
	PID, Parent int
	Name        string // of its program
	Anon        uint64 // its own, or in common with those that it was forked from
	Resident    uint64 // that, and what it maps of files and of shared memory
	Views       uint64 // of Resident, shared memory; only where it counts for each process
}

// Processes are the keeper's descendants, each behind its parent. One that ends meanwhile may be missing, and what it had started.
func (g *Gauge) Processes() (list []Process) {
	add := func(pid, parent int) {
		if p, ok := g.Process(pid); ok {
			p.Parent = parent
			list = append(list, p)
		}
	}
	for _, pid := range g.children(g.keeper) {
		add(pid, g.keeper)
	}
	for i := 0; i < len(list); i++ {
		for _, pid := range g.children(list[i].PID) {
			if !slices.ContainsFunc(list[i+1:], func(p Process) bool { return p.PID == pid }) {
				add(pid, list[i].PID)
			}
		}
	}
	return list
}

// children are those of all threads of a process.
func (g *Gauge) children(pid int) (out []int) {
	tasks := fmt.Sprintf("proc/%d/task", pid)
	for _, tid := range g.m.list(tasks) {
		for name := range strings.FieldsSeq(g.m.read(path.Join(tasks, tid, "children"))) {
			if n, err := strconv.Atoi(name); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// Process reads one process, of this node or not; false: it is over, and has nothing.
func (g *Gauge) Process(pid int) (Process, bool) {
	p := Process{PID: pid, Name: g.m.read(fmt.Sprintf("proc/%d/comm", pid))}
	if p.Name == "exe" { // it was started as /proc/self/exe
		argv := strings.Split(g.m.read(fmt.Sprintf("proc/%d/cmdline", pid)), "\x00")
		p.Name = strings.Join(append([]string{path.Base(argv[0])}, argv[1:min(len(argv), 2)]...), " ")
	}
	f := strings.Fields(g.m.read(fmt.Sprintf("proc/%d/statm", pid)))
	if len(f) < 3 {
		return p, false
	}
	resident, err1 := strconv.ParseUint(f[1], 10, 50)
	shared, err2 := strconv.ParseUint(f[2], 10, 50)
	page := uint64(os.Getpagesize())
	p.Resident, p.Anon = resident*page, (resident-min(shared, resident))*page
	if g.as == "resident" && shared*page > fadeLeast {
		p.Views = g.m.kilobytes(fmt.Sprintf("proc/%d/status", pid), "RssShmem")
	}
	return p, err1 == nil && err2 == nil
}

// size is some bytes for people.
func size(n uint64) string {
	if n >= 1<<30 {
		return decimal(float64(n)/(1<<30)) + " GiB"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
