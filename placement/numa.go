package placement

import (
	"strconv"
	"strings"
)

// CPUList makes a node's CPUs from their IDs, in the node's order, and the value of LabelNUMA.
// What the label does not name, or says in a way that can't be read, has no known NUMA node.
func CPUList(ids []uint32, numa string) []LogicalCPU {
	type span struct{ lo, hi uint32 }
	var nodes [][]span
	if numa != "" {
		for set := range strings.SplitSeq(numa, ";") {
			var spans []span
			for part := range strings.SplitSeq(set, ",") {
				lo, hi, isRange := strings.Cut(part, "-")
				if !isRange {
					hi = lo
				}
				a, err1 := strconv.ParseUint(strings.TrimSpace(lo), 10, 32)
				b, err2 := strconv.ParseUint(strings.TrimSpace(hi), 10, 32)
				if err1 == nil && err2 == nil {
					spans = append(spans, span{uint32(a), uint32(b)})
				}
			}
			nodes = append(nodes, spans)
		}
	}
	out := make([]LogicalCPU, len(ids))
	for i, cpu := range ids {
		out[i] = LogicalCPU{ID: cpu, NUMA: -1, Free: true}
		for node, spans := range nodes {
			for _, s := range spans {
				if s.lo <= cpu && cpu <= s.hi {
					out[i].NUMA = int32(node)
				}
			}
		}
	}
	return out
}
