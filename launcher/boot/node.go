package boot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
)

// liveNode is a node directory on this machine whose keeper lives.
type liveNode struct {
	Name, Dir, Socket string
	Pid               int
	Start             uint64
}

// liveNodes looks through a cluster's directory. Directories without a living keeper are not listed;
// they are the keeper's and agent's to remove.
func liveNodes(dir string) []liveNode {
	entries, _ := os.ReadDir(dir) // an absent one has no nodes
	var nodes []liveNode
	for _, e := range entries {
		node := filepath.Join(dir, e.Name())
		k, err := sweep.ReadKeeper(node)
		if err != nil || !k.Alive() {
			continue
		}
		nodes = append(nodes, liveNode{e.Name(), node, filepath.Join(node, bootdoc.SocketName), k.PID, k.Started})
	}
	slices.SortFunc(nodes, func(a, b liveNode) int { return naturally(a.Name, b.Name) })
	return nodes
}

func nodeNames(nodes []liveNode) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

// naturally orders n2 before n10.
func naturally(a, b string) int {
	if len(a) != len(b) && strings.TrimRight(a, "0123456789") == strings.TrimRight(b, "0123456789") {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// alive tells whether pid is the process that started then (clock ticks since boot).
func alive(pid int, started uint64) bool { return sweep.Keeper{PID: pid, Started: started}.Alive() }
