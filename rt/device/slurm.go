package device

import "strings"

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
