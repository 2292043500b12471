package device

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// detectCPUs fills CPUs, CPU and HostCPUs: the set that the mask and the cgroup leave, then the counts that
// quotas and the grant allow.
func (m *machine) detectCPUs(f *Facts) error {
	online, ok := parseList(m.read("sys/devices/system/cpu/online"))
	if !ok || len(online) == 0 {
		online = nil
		for line := range strings.Lines(m.read("proc/cpuinfo")) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "processor" {
				if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
					online = append(online, n)
				}
			}
		}
	}
	if len(online) == 0 {
		return fmt.Errorf("device: no CPU found: neither /sys/devices/system/cpu/online nor /proc/cpuinfo can be read; mount /proc and /sys")
	}
	f.HostCPUs = len(online)
	f.bound("CPU", thisMachine, float64(len(online)))

	set := online
	narrow := func(by []int, source string) {
		set = slices.DeleteFunc(slices.Clone(set), func(c int) bool { return !slices.Contains(by, c) })
		f.bound("CPU", source, float64(len(by)))
	}
	for line := range strings.Lines(m.read("proc/self/status")) {
		if list, found := strings.CutPrefix(line, "Cpus_allowed_list:"); found {
			if mask, good := parseList(list); good && len(mask) > 0 {
				narrow(slices.DeleteFunc(mask, func(c int) bool { return !slices.Contains(online, c) }), "affinity mask")
			}
		}
	}
	if list, source, found := m.cpuset(); found {
		narrow(list, source)
	}
	if len(set) == 0 {
		return fmt.Errorf("device: the affinity mask and the cgroup have no CPU in common")
	}
	f.CPU = float64(len(set))
	for _, q := range m.quotas() {
		f.Bounds = append(f.Bounds, q)
		f.CPU = min(f.CPU, q.Value)
	}
	if s, name := m.env("SLURM_CPUS_ON_NODE"); s != "" && m.inSlurm() {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("device: %s=%s is no number of CPUs", name, s)
		}
		f.bound("CPU", name, float64(n))
		if len(set) < min(n, len(online)) {
			f.warn("%s=%d, but this process is bound to %d CPUs: start the step with --cpu-bind=none", name, n, len(set))
		}
		if job := m.slurmJobCPUs(); n < job {
			f.warn("this step has %d of the job's %d CPUs: a -c, --cpus-per-task or --exact was inherited", n, job)
		}
		f.CPU = min(f.CPU, float64(n))
	}
	if f.CPU < 1 {
		f.warn("CPU time is limited to %v of a CPU; counted as 1, so that programs can start", f.CPU)
		f.CPU = 1
	}
	m.describeCPUs(f, set)
	f.win("CPU", func(v float64) bool { return v <= math.Max(f.CPU, 1) })
	return nil
}

// describeCPUs puts neighbours next to each other: by NUMA node, socket and core.
func (m *machine) describeCPUs(f *Facts, set []int) {
	numa := make(map[int]int)
	for _, name := range m.list("sys/devices/system/node") {
		n, err := strconv.Atoi(strings.TrimPrefix(name, "node"))
		if err != nil || !strings.HasPrefix(name, "node") {
			continue
		}
		list, _ := parseList(m.read(path.Join("sys/devices/system/node", name, "cpulist")))
		for _, c := range list {
			numa[c] = n
		}
	}
	type place struct{ numa, socket, core int }
	places := make(map[int]place)
	for _, c := range set {
		p := place{numa: -1, socket: -1, core: -1}
		if n, ok := numa[c]; ok {
			p.numa = n
		}
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology", c)
		p.socket, p.core = int(m.number(path.Join(dir, "physical_package_id"))), int(m.number(path.Join(dir, "core_id")))
		places[c] = p
	}
	slices.SortFunc(set, func(a, b int) int {
		x, y := places[a], places[b]
		return cmp.Or(cmp.Compare(x.numa, y.numa), cmp.Compare(x.socket, y.socket), cmp.Compare(x.core, y.core), cmp.Compare(a, b))
	})
	for _, c := range set {
		f.CPUs = append(f.CPUs, CPU{ID: uint32(c), NUMA: places[c].numa, Socket: places[c].socket, Core: places[c].core})
	}
}

// NUMA is the NUMA nodes of the CPUs, as placement.LabelNUMA has it: "0-15;16-31". Empty if there is but one.
func (f *Facts) NUMA() string {
	last := 0
	for _, c := range f.CPUs {
		last = max(last, c.NUMA)
	}
	if last == 0 {
		return ""
	}
	sets := make([]string, last+1)
	for n := range sets {
		var ids []int
		for _, c := range f.CPUs {
			if c.NUMA == n {
				ids = append(ids, int(c.ID))
			}
		}
		sets[n] = formatList(ids)
	}
	return strings.Join(sets, ";")
}

// formatList writes what parseList reads.
func formatList(list []int) string {
	list = slices.Clone(list)
	slices.Sort(list)
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		s := strconv.Itoa(list[i])
		if j > i {
			s += "-" + strconv.Itoa(list[j])
		}
		parts = append(parts, s)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

func (m *machine) inSlurm() bool { return m.getenv("SLURM_JOB_ID") != "" }
