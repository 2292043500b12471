package boot

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
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
		data, err := os.ReadFile(filepath.Join(node, bootdoc.KeeperName))
		if err != nil {
			continue
		}
		var k struct {
			Pid   int    `json:"pid"`
			Start uint64 `json:"start"`
		}
		if json.Unmarshal(data, &k) != nil || !alive(k.Pid, k.Start) {
			continue
		}
		nodes = append(nodes, liveNode{e.Name(), node, filepath.Join(node, bootdoc.SocketName), k.Pid, k.Start})
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

// alive tells whether pid is the process that started at that time (clock ticks since boot; 0: any).
func alive(pid int, start uint64) bool {
	state, began, ok := procStat(pid)
	return ok && state != 'Z' && state != 'X' && (start == 0 || began == start)
}

// procStat reads state and start time from /proc/PID/stat: fields 3 and 22, after the name in brackets.
func procStat(pid int) (state byte, start uint64, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil || pid <= 0 {
		return 0, 0, false
	}
	at := bytes.LastIndexByte(data, ')')
	if at < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(string(data[at+1:]))
	if len(fields) < 20 {
		return 0, 0, false
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], start, err == nil
}
