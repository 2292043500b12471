package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
)

// completeTimeout is how long a shell waits for what a key may mean.
const completeTimeout = time.Second

// complete lists what a shell completes a word with, one on a line. It asks files and agents on this
// node, never Slurm's controller, and says nothing of what goes wrong.
func (a *app) completeCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "complete", summary: "list words for a shell's completion", args: "KIND", hidden: true,
		examples: []string{"maniple complete clusters\tor groups, nodes, partitions, accounts"},
		flags:    []urfave.Flag{clusterFlag()},
		action:   (*call).complete,
	})
}

func (c *call) complete() error {
	ctx, cancel := context.WithTimeout(c.ctx, completeTimeout)
	defer cancel()
	var list []string
	for _, kind := range c.rest() {
		switch kind {
		case "clusters":
			for _, ep := range boot.List(c.getenv) {
				list = append(list, ep.Name)
			}
		case "groups":
			var reply stateGroups
			c.fromAgent(ctx, "groups", &reply)
			for _, g := range reply.Groups {
				list = append(list, g.ID, g.Name)
			}
		case "running":
			var reply stateGroups
			c.fromAgent(ctx, "groups", &reply)
			for _, g := range reply.Groups {
				if g.Phase != "ended" {
					list = append(list, g.ID, g.Name)
				}
			}
		case "nodes":
			var reply stateNodes
			c.fromAgent(ctx, "nodes", &reply)
			for _, n := range reply.Nodes {
				list = append(list, n.Name)
			}
		case "partitions":
			for _, p := range c.rememberedSlurm().Partitions {
				list = append(list, p.Name)
			}
			list = append(list, configuredPartitions(c.getenv)...)
		case "accounts":
			list = append(list, c.usedAccounts()...)
		default:
			return usage("complete", fmt.Sprintf("nothing is called %q", kind), "write clusters, groups, running, nodes, partitions or accounts")
		}
	}
	slices.Sort(list)
	for _, word := range slices.Compact(list) {
		if word != "" && !strings.ContainsAny(word, " \t\n'\"\\$`") {
			fmt.Fprintln(c.stdout, word)
		}
	}
	return nil
}

// fromAgent asks the cluster's agent, if it is on this node.
func (c *call) fromAgent(ctx context.Context, what string, reply any) {
	ep, err := boot.Find(c.getenv, c.str("cluster"))
	if err != nil || !ep.Here() {
		return
	}
	client, err := gang.Connect(ctx, gang.Endpoint{Name: "maniple complete", Build: Build(), Socket: ep.Socket})
	if err != nil {
		return
	}
	defer client.Close()
	if data, err := client.Query(ctx, what, ""); err == nil {
		_ = json.Unmarshal(data, reply) // then there is nothing to offer
	}
}

// configuredPartitions are those of slurm.conf, where this machine has one.
func configuredPartitions(getenv func(string) string) []string {
	path := getenv("SLURM_CONF")
	if path == "" {
		path = "/etc/slurm/slurm.conf"
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		for _, word := range strings.Fields(lines.Text()) {
			key, value, _ := strings.Cut(word, "=")
			if strings.HasPrefix(key, "#") {
				break
			}
			if strings.EqualFold(key, "PartitionName") && !strings.EqualFold(value, "DEFAULT") {
				list = append(list, value)
			}
		}
	}
	return list
}

// usedAccounts are those that jobs were submitted for from here, and the environment's.
func (c *call) usedAccounts() []string {
	list := []string{c.getenv("SBATCH_ACCOUNT"), c.getenv("SLURM_ACCOUNT"), c.getenv(envName("account"))}
	state, err := boot.StateDir(c.getenv)
	if err != nil {
		return list
	}
	files, _ := filepath.Glob(filepath.Join(state, "jobs", "slurm", "*", "job.json")) // the pattern is valid
	for _, file := range files {
		var rec jobRecord
		data, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(data, &rec) != nil {
			continue
		}
		for line := range strings.Lines(rec.Script) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "#SBATCH --account="); ok {
				list = append(list, v)
			}
		}
	}
	return list
}
