package device

import (
	"strconv"
	"strings"
)

// slurmJobCPUs is how many CPUs the job has on each node at least: SLURM_JOB_CPUS_PER_NODE is "8(x2),4".
func (m *machine) slurmJobCPUs() int {
	list, _ := m.env("SLURM_JOB_CPUS_PER_NODE")
	least := 0
	for part := range strings.SplitSeq(list, ",") {
		count, _, _ := strings.Cut(part, "(")
		if n, err := strconv.Atoi(strings.TrimSpace(count)); err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// slurmTopology is the node's place in the network: the switches above it, outermost first.
func (m *machine) slurmTopology() []string {
	addr, _ := m.env("SLURM_TOPOLOGY_ADDR")
	pattern, _ := m.env("SLURM_TOPOLOGY_ADDR_PATTERN")
	parts, kinds := strings.Split(addr, "."), strings.Split(pattern, ".")
	if len(parts) != len(kinds) {
		return nil
	}
	var out []string
	for i, kind := range kinds {
		if kind != "node" && parts[i] != "" {
			out = append(out, parts[i])
		}
	}
	return out
}
