package head

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// sayFree answers what of all nodes nothing uses: what the ledger has left, and what agents have of it for tasks that none of them uses, as
// those have said: they have heard what they were given before they were asked.
func (c *Core) sayFree(g *gather) {
	nodes := make([]jsonNode, 0, len(c.state.nodes))
	at := map[string]int{}
	for _, n := range c.state.nodes {
		at[n.name] = len(nodes)
		nodes = append(nodes, c.jsonNode(n))
	}
	free := func(name, resource string, amount float64) {
		if i, ok := at[name]; ok && nodes[i].Total[resource] > 0 { // it may have gone back since it was said
			nodes[i].Free[resource] = min(nodes[i].Free[resource]+amount, nodes[i].Total[resource])
		}
	}
	for _, told := range g.nodes {
		var idle map[string]map[string]float64
		if len(told.Idle) == 0 || json.Unmarshal(told.Idle, &idle) != nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(idle)) {
			for _, resource := range slices.Sorted(maps.Keys(idle[name])) {
				free(name, resource, max(idle[name][resource], 0))
			}
		}
	}
	payload, err := json.Marshal(struct {
		Version int        `json:"version"`
		Nodes   []jsonNode `json:"nodes"`
	}{stateVersion, nodes})
	reply := &fb.StateReplyT{}
	if err != nil {
		reply.Error = err.Error()
	}
	c.out = append(c.out, Send{Agent: g.asker, Msg: reply, Corr: g.corr, Payload: payload})
}
