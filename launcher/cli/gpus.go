package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/rt/native"
)

// stateDevices is what the drivers of the nodes say of their GPUs (docs/spec/state.md).
type stateDevices struct {
	Nodes []stateDriver `json:"nodes"`
}

type stateDriver struct {
	Name    string         `json:"name"`
	Error   string         `json:"error"`
	Devices native.Devices `json:"devices"`
}

// drivers asks the drivers of all nodes, if a node has GPUs.
func (c *call) drivers(ctx context.Context, client *gang.Client, nodes []stateNode) (d stateDevices, raw json.RawMessage, err error) {
	some := false
	for i := range nodes {
		some = some || nodes[i].State == "up" && nodes[i].Total["GPU"] > 0
	}
	if !some {
		return d, nil, nil
	}
	d, raw, err = ask[stateDevices](ctx, c, client, "devices", "")
	if err == nil {
		raw, err = nodesOf(raw)
	}
	return d, raw, err
}

// printGPUs shows what GPUs do, and why that is not known of a node.
func (c *call) printGPUs(d *stateDevices, indent string) {
	var rows [][]string
	var why []string
	for _, n := range d.Nodes {
		for i := range n.Devices.GPUs {
			rows = append(rows, append([]string{n.Name}, gpuRow(&n.Devices.GPUs[i])...))
		}
		if text := n.Error + n.Devices.Error; text != "" && !strings.HasPrefix(text, "it is ") { // a node that is not up says so elsewhere
			why = append(why, fmt.Sprintf("%s%s: what its GPUs do is not known: %s", indent, n.Name, text))
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.stdout)
		table(c.stdout, indent, "NODE GPU MODEL MEMORY BUSY TEMP POWER STATE", rows)
	}
	for _, line := range why {
		fmt.Fprintln(c.stdout, line)
	}
}

// gpuRow is a GPU as a table has it.
func gpuRow(g *native.GPU) []string {
	known := func(n int, unit string) string {
		if n < 0 {
			return "-"
		}
		return strconv.Itoa(n) + unit
	}
	state, power := "ok", known(int(g.Power), " W")
	if len(g.Slowed) > 0 {
		state = "slowed: " + strings.Join(g.Slowed, ", ")
	}
	if len(g.Trouble) > 0 {
		state = strings.Join(g.Trouble, "; ")
	}
	if g.Power >= 0 && g.PowerLimit > 0 {
		power = fmt.Sprintf("%.0f/%.0f W", g.Power, g.PowerLimit)
	}
	return []string{known(g.Minor, ""), dash(g.Model), strings.TrimSuffix(size(float64(g.Used)), " GiB") + "/" + size(float64(g.Memory)),
		known(g.Busy, "%"), known(g.Temperature, " C"), power, state}
}
