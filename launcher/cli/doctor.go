package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/device"
)

func (a *app) doctorCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "doctor", summary: "say what this machine has and what is wrong with it",
		examples: []string{
			"maniple doctor",
			"maniple doctor --json\tfor a ticket",
			"srun -N2 maniple doctor\ton nodes of a Slurm job",
			"maniple doctor --fabric --image ways.png\tthe ways between all nodes",
		},
		flags: []urfave.Flag{
			jsonFlag(), clusterFlag(),
			toggle("fabric", "", "measure the ways between all nodes instead"),
			value("within", "", "SECONDS", "measure for so long at most (60)"),
			value("image", "", "FILE.png", "draw what was measured"),
		},
		notes: []string{
			"The exit code is 78 if something is bad, 0 if there are only warnings.",
			"--fabric measures each pair of nodes once in each direction, by TCP and by the fabric (RDMA) where nodes have one, and at the same time only pairs that share no node and no host. Rows send, columns read.",
		},
		action: (*call).doctor,
	})
}

func (c *call) doctor() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	if c.Bool("fabric") { // MANIPLE_FABRIC is what values go by
		return c.doctorFabric()
	}
	for _, name := range []string{"within", "image"} {
		if _, origin, ok := c.flag(name); ok {
			return usage(origin, "it is for --fabric", "add --fabric, or leave it away")
		}
	}
	facts, err := device.Detect(device.Options{Getenv: c.getenv})
	findings := device.Doctor(device.Options{Getenv: c.getenv})
	if err != nil {
		findings = append(findings, device.Finding{Code: "DETECT", Level: device.Bad, Text: err.Error()})
	}
	findings = append(findings, c.doctorState()...)
	findings = append(findings, c.doctorClusters()...)
	bad := 0
	for _, f := range findings {
		if f.Level == device.Bad {
			bad++
		}
	}
	if c.on("json") {
		if err := c.json(struct {
			Version  int              `json:"version"`
			Maniple  string           `json:"maniple"`
			Node     device.Facts     `json:"node"`
			Findings []device.Finding `json:"findings"`
		}{1, Build(), facts, findings}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.stdout, "%s: %s\n", facts.Name, facts.Grant())
		for _, f := range findings {
			fmt.Fprintf(c.stdout, "%-5s %s\n", f.Level, f.Text)
			if f.Do != "" {
				fmt.Fprintf(c.stdout, "      -> %s\n", f.Do)
			}
		}
	}
	if bad > 0 {
		return exitOnly(ExitConfig)
	}
	return nil
}

// doctorState looks at the directories that commands need.
func (c *call) doctorState() []device.Finding {
	dir, err := boot.StateDir(c.getenv)
	if err != nil {
		return []device.Finding{{Code: "STATE_DIR", Level: device.Bad, Text: err.Error(), Do: "set XDG_STATE_HOME to a directory that you can write"}}
	}
	if dir != boot.StateDirs(c.getenv)[0] {
		return []device.Finding{{Code: "STATE_DIR", Level: device.Warn, Text: "the home directory cannot be written: clusters are noted in " + dir,
			Do: "set XDG_STATE_HOME to one that the nodes share, or commands elsewhere do not find them"}}
	}
	return []device.Finding{{Code: "STATE_DIR", Level: device.OK, Text: "clusters are noted in " + dir}}
}

// doctorClusters asks each cluster of this user for a sign of life.
func (c *call) doctorClusters() []device.Finding {
	var list []device.Finding
	for _, ep := range boot.List(c.getenv) {
		if name := c.str("cluster"); name != "" && name != ep.Name {
			continue
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(c.ctx, 3*time.Second)
		client, err := c.connect(ctx, ep)
		if err == nil {
			_, err = client.Query(ctx, "cluster", "")
			client.Close()
		}
		cancel()
		if err != nil {
			list = append(list, device.Finding{Code: "CLUSTER", Level: device.Bad, Text: fmt.Sprintf("cluster %s does not answer: %v", ep.Name, err),
				Do: "`maniple logs`, or end it with `maniple down --now`"})
			continue
		}
		list = append(list, device.Finding{Code: "CLUSTER", Level: device.OK,
			Text: fmt.Sprintf("cluster %s answers in %.1f ms (%s)", ep.Name, float64(time.Since(began).Microseconds())/1000, strings.Join(ep.Nodes, ","))})
	}
	return list
}
