package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

// maxGrants bounds the start line of a cluster of which every node has a little more or less.
const maxGrants = 4

// grants says what of its nodes a cluster may use, as each found out for itself; "" if it can't be had.
func (c *call) grants(ctx context.Context, client *gang.Client) string {
	reply, _, err := ask[stateNodes](ctx, c, client, "nodes", "")
	if err != nil {
		return "" // a line for people: nothing depends on it
	}
	return foldGrants(reply.Nodes)
}

// grantsOf is grants of a cluster that was just brought up. It waits for no firewall and starts no srun.
func (c *call) grantsOf(ctx context.Context, ep *boot.Endpoint) string {
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	client, err := gang.Connect(ctx, c.address(ep))
	if err != nil {
		return ""
	}
	defer client.Close()
	return c.grants(ctx, client)
}

// foldGrants puts nodes of the same grant together.
func foldGrants(nodes []stateNode) string {
	var kinds, parts []string
	hosts := map[string][]string{}
	for _, n := range nodes {
		if n.Grant == "" || n.State == "dead" {
			continue
		}
		if !slices.Contains(kinds, n.Grant) {
			kinds = append(kinds, n.Grant)
		}
		hosts[n.Grant] = append(hosts[n.Grant], n.Name)
	}
	more := 0
	for i, kind := range kinds {
		if i >= maxGrants {
			more += len(hosts[kind])
			continue
		}
		parts = append(parts, slurm.FoldHosts(hosts[kind])+": "+kind)
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("%d others: see `maniple nodes`", more))
	}
	return strings.Join(parts, "; ")
}
