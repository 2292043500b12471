package gang

import "strings"

// Hint is what to try after an end that has a known cause in how the program was started; "": nothing.
func (e End) Hint(p *Program) string {
	// Programs that pick a GPU by LOCAL_RANK are written for launchers that show all of a node's GPUs.
	if p != nil && p.GpusPerRank > 0 && e.Cause == "rank" && strings.Contains(e.Tail, "invalid device ordinal") {
		return "each rank sees only its own GPUs, which count from 0: if the program picks one by LOCAL_RANK, add --gpu-visibility=node"
	}
	return ""
}
