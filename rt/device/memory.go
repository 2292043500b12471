package device

import (
	"fmt"
	"strconv"
	"strings"
)

// detectMemory fills Memory and HostMemory.
func (m *machine) detectMemory(f *Facts) error {
	f.HostMemory = m.meminfo("MemTotal")
	if f.HostMemory == 0 {
		return fmt.Errorf("device: /proc/meminfo has no MemTotal; mount /proc")
	}
	f.bound("memory", thisMachine, float64(f.HostMemory))
	f.Memory = f.HostMemory
	for _, b := range m.memoryBounds() {
		f.Bounds = append(f.Bounds, b)
		f.Memory = min(f.Memory, uint64(b.Value))
	}
	if m.inSlurm() {
		n, source, err := m.slurmMemory()
		if err != nil {
			return err
		}
		if n > 0 {
			f.bound("memory", source, float64(n))
			f.Memory = min(f.Memory, n)
		}
	}
	f.win("memory", func(v float64) bool { return uint64(v) <= f.Memory })
	return nil
}

// meminfo is a line of /proc/meminfo in bytes.
func (m *machine) meminfo(key string) uint64 { return m.kilobytes("proc/meminfo", key) }

// kilobytes is what a line "key: n kB" of a file says, in bytes.
func (m *machine) kilobytes(file, key string) uint64 {
	for line := range strings.Lines(m.read(file)) {
		if rest, found := strings.CutPrefix(line, key+":"); found {
			n, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 54)
			return n << 10
		}
	}
	return 0
}

// GrantPrefix stands before the names of Slurm's variables that describe the job's memory where Slurm's own
// are not handed on.
const GrantPrefix = "MANIPLE_"

// slurmMemory is the job's memory on this node in bytes; 0 if Slurm doesn't say, or says 0, which means all.
func (m *machine) slurmMemory() (uint64, string, error) {
	number := func(name string) (uint64, error) {
		s, _ := m.env(name, GrantPrefix+name)
		if s == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(s, 10, 40)
		if err != nil {
			return 0, fmt.Errorf("device: %s=%s is no number of megabytes", name, s)
		}
		return n, nil
	}
	if n, err := number("SLURM_MEM_PER_NODE"); err != nil || n > 0 {
		return n << 20, "SLURM_MEM_PER_NODE", err
	}
	each, err := number("SLURM_MEM_PER_CPU")
	if err != nil || each == 0 {
		return 0, "", err
	}
	cpus, err := number("SLURM_CPUS_ON_NODE")
	if err != nil || cpus == 0 || cpus > 1<<16 {
		return 0, "", err
	}
	return (each * cpus) << 20, "SLURM_MEM_PER_CPU x SLURM_CPUS_ON_NODE", nil
}
