package spec

import (
	"fmt"
	"strings"
)

// FirstLine says what the request becomes, before anything starts. node is where the driver runs, ""
// when that is not known yet.
func (sh *Shape) FirstLine(node string) string {
	b := sh.Bundles[0]
	var each []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			each = append(each, "1 "+one)
		case n > 1:
			each = append(each, fmt.Sprintf("%d %s", n, many))
		}
	}
	if sh.Driver {
		head := ""
		if sh.Nodes > 1 || b.GPUs > 0 {
			add(b.GPUs, "GPU", "GPUs")
			head = strings.Join(append([]string{plural(max(sh.Nodes, 1), "node")}, each...), " x ") + ", "
		}
		if node == "" {
			node = "node 0"
		}
		return fmt.Sprintf("%s1 driver on %s (ranks? add --ntasks-per-node %d)", head, node, max(b.GPUs, 2))
	}
	ranks := max(b.Ranks, 1)
	if b.CPUs/ranks > 1 {
		add(b.CPUs/ranks, "core", "cores")
	}
	shared := ""
	switch {
	case sh.OwnGPUs > 0:
		add(sh.OwnGPUs, "GPU", "GPUs")
	case ranks == 1:
		if add(b.GPUs, "GPU", "GPUs"); b.GPUs > 0 && sh.Nodes == 0 && sh.Ranks > 1 {
			shared = ", seen by all ranks of a node"
		}
	case b.GPUs > 0:
		shared = ", " + plural(b.GPUs, "GPU") + " on each node for all its ranks"
	}
	what := plural(sh.Ranks, "rank")
	if sh.Nodes > 0 {
		per := plural(ranks, "rank")
		if last := sh.Bundles[len(sh.Bundles)-1].Ranks; last != ranks {
			per = fmt.Sprintf("%d-%d ranks", last, ranks)
		}
		what = plural(sh.Nodes, "node") + " x " + per
	}
	if len(each) > 0 {
		what += ", " + strings.Join(each, " and ") + " each"
	}
	return what + shared
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
