package cli

import (
	"encoding/json"
	"fmt"
	"strings"
)

// stateStores is what agents say of their memory (docs/spec/state.md): only what a table has.
type stateStores struct {
	Nodes []stateStored `json:"nodes"`
}

type stateStored struct {
	Name  string `json:"name"`
	Error string `json:"error"`
	Store struct {
		Limit     float64  `json:"limit"`
		Used      float64  `json:"used"`
		Cached    float64  `json:"cached_bytes"`
		Copies    float64  `json:"copy_bytes"`
		Spilled   float64  `json:"spilled"`
		Fabric    string   `json:"fabric"`
		NoFabric  string   `json:"no_fabric"`
		Clear     []string `json:"clear"`
		Restored  float64  `json:"restored"`
		DiskBytes float64  `json:"disk_bytes"`
		DiskLimit float64  `json:"disk_limit"`
		Disks     []struct {
			Path  string  `json:"path"`
			Bytes float64 `json:"bytes"`
		} `json:"disks"`
		Memory *struct {
			Used  float64 `json:"used"`
			Limit float64 `json:"limit"`
		} `json:"memory"`
	} `json:"store"`
}

// printStores shows the memory of the nodes that have values, or had.
func (c *call) printStores(s *stateStores) {
	var rows [][]string
	for _, n := range s.Nodes {
		x := &n.Store
		if x.Used == 0 && x.Spilled == 0 {
			continue
		}
		memory := "-"
		if x.Memory != nil {
			memory = size(x.Memory.Used) + " of " + size(x.Memory.Limit)
		}
		var disks []string
		for _, d := range x.Disks {
			disks = append(disks, size(d.Bytes)+" in "+d.Path)
		}
		disk := dash(strings.Join(disks, ", "))
		if x.DiskLimit > 0 {
			disk += fmt.Sprintf(", of %s at most", size(x.DiskLimit))
		}
		values := size(x.Used) + " of " + size(x.Limit)
		if x.Cached > 0 {
			values += ", " + size(x.Cached) + " cached"
		}
		if x.Copies > 0 {
			values += ", " + size(x.Copies) + " copies"
		}
		rows = append(rows, []string{n.Name, memory, values, size(x.Spilled), size(x.Restored), disk})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.stdout)
		table(c.stdout, "  ", "NODE MEMORY VALUES SPILLED RESTORED DISK", rows)
	}
	c.printCarriers(s)
}

// printCarriers says by what large values go between nodes, if there was to be a fabric, and where they are not encrypted.
func (c *call) printCarriers(s *stateStores) {
	var ways []string
	nodes := map[string][]string{}
	for _, n := range s.Nodes {
		way := n.Store.Fabric
		if n.Store.NoFabric != "" {
			way = "TCP, since no fabric can be used: " + n.Store.NoFabric
		}
		if way == "" {
			continue
		}
		if nodes[way] == nil {
			ways = append(ways, way)
		}
		nodes[way] = append(nodes[way], n.Name)
	}
	for _, way := range ways {
		fmt.Fprintf(c.stdout, "\nvalues of %s go by %s\n", strings.Join(nodes[way], ", "), way)
	}
	for _, n := range s.Nodes {
		if len(n.Store.Clear) > 0 { // one choice for all nodes
			fmt.Fprintf(c.stdout, "\nvalues go unencrypted between nodes whose addresses are in one of %s\n", strings.Join(n.Store.Clear, ", "))
			break
		}
	}
}

// nodesOf is the part of a reply that lists nodes.
func nodesOf(data []byte) (json.RawMessage, error) {
	var rest struct {
		Nodes json.RawMessage `json:"nodes"`
	}
	err := json.Unmarshal(data, &rest)
	return rest.Nodes, err
}
