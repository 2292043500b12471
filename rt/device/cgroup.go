package device

import (
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// group is this process's place in one hierarchy of control groups, as a directory and those above it.
type group struct {
	version int
	dirs    []string // the innermost first; below the machine's root
	mount   string
}

// groups finds the hierarchy of a controller: /proc/self/cgroup says where we are in it, mountinfo where it
// can be seen. In a container the mount shows a part of the hierarchy, or the path is that of the host.
func (m *machine) cgroups(controller string) []group {
	var out []group
	for line := range strings.Lines(m.read("proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		version := 1
		if parts[0] == "0" && parts[1] == "" {
			version = 2
		} else if !contains(strings.Split(parts[1], ","), controller) {
			continue
		}
		for _, mt := range m.mounts() {
			if version == 2 && mt.kind != "cgroup2" || version == 1 && (mt.kind != "cgroup" || !contains(mt.options, controller)) {
				continue
			}
			g := group{version: version, mount: mt.point}
			rel, inside := strings.CutPrefix(path.Clean(parts[2]), strings.TrimSuffix(mt.root, "/"))
			if !inside || strings.HasPrefix(path.Clean(parts[2]), "/..") || !m.exists(path.Join(mt.point, rel)) {
				rel = "" // the mount's own root is all that we can see
			}
			for dir := path.Join(mt.point, rel); ; dir = path.Dir(dir) {
				g.dirs = append(g.dirs, dir)
				if dir == mt.point || len(dir) <= len(mt.point) {
					break
				}
			}
			out = append(out, g)
			break
		}
	}
	return out
}

type mount struct {
	root, point, kind string
	options           []string // of the file system
}

func (m *machine) mounts() (out []mount) {
	for line := range strings.Lines(m.read("proc/self/mountinfo")) {
		f := strings.Fields(line)
		dash := -1
		for i := range f {
			if f[i] == "-" {
				dash = i
				break
			}
		}
		if len(f) < 5 || dash < 0 || len(f) < dash+4 {
			continue
		}
		out = append(out, mount{root: f[3], point: f[4], kind: f[dash+1], options: strings.Split(f[dash+3], ",")})
	}
	return out
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// where names a group for people: its path below the mount.
func (g *group) where(dir, file string) string {
	rel := strings.TrimPrefix(dir, g.mount)
	if rel == "" {
		rel = "/"
	}
	return fmt.Sprintf("cgroup v%d %s at %s", g.version, file, rel)
}

// unlimited is where v1 begins to mean no limit: it writes the largest number of pages.
const unlimited = 1 << 60

// memoryBounds are the limits of this process's group and of all above it: the kernel applies each of them.
func (m *machine) memoryBounds() (out []Bound) {
	for _, g := range m.cgroups("memory") {
		file := "memory.max"
		if g.version == 1 {
			file = "memory.limit_in_bytes"
		}
		for _, dir := range g.dirs {
			n, err := strconv.ParseUint(strings.TrimSpace(m.read(path.Join(dir, file))), 10, 64)
			if err == nil && n < unlimited {
				out = append(out, Bound{What: "memory", Source: g.where(dir, file), Value: float64(n)})
			}
		}
	}
	return out
}

// quotas are the bounds on CPU time, in CPUs.
func (m *machine) quotas() (out []Bound) {
	for _, g := range m.cgroups("cpu") {
		for _, dir := range g.dirs {
			file := "cpu.max"
			quota, period := "", ""
			if g.version == 2 {
				quota, period, _ = strings.Cut(m.read(path.Join(dir, file)), " ")
			} else {
				file = "cpu.cfs_quota_us"
				quota, period = m.read(path.Join(dir, file)), m.read(path.Join(dir, "cpu.cfs_period_us"))
			}
			q, err1 := strconv.ParseFloat(strings.TrimSpace(quota), 64)
			p, err2 := strconv.ParseFloat(strings.TrimSpace(period), 64)
			if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
				continue
			}
			// In steps of 1/10,000, downwards, as the wire has it.
			out = append(out, Bound{What: "CPU", Source: g.where(dir, file), Value: math.Floor(q/p*10_000) / 10_000})
		}
	}
	return out
}

// cpuset is the set of CPUs of this process's group, and who says so; false if none is set.
func (m *machine) cpuset() (set []int, source string, ok bool) {
	for _, g := range m.cgroups("cpuset") {
		files := []string{"cpuset.cpus.effective", "cpuset.cpus"}
		if g.version == 1 {
			files = []string{"cpuset.effective_cpus", "cpuset.cpus"}
		}
		for _, dir := range g.dirs {
			for _, file := range files {
				if list, good := parseList(m.read(path.Join(dir, file))); good && len(list) > 0 {
					return list, g.where(dir, file), true
				}
			}
		}
	}
	return nil, "", false
}
