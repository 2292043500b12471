package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
)

func (a *app) drainCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "drain", summary: "let a node take nothing new, and move what it has to others", args: "NODE",
		examples: []string{
			"maniple drain n2 --reason 'new memory'\twhat runs there ends by itself",
			"maniple drain n2 --deadline 5m\twhat still runs then is tried again elsewhere",
			"maniple drain n2 --undo\tit takes new work again",
		},
		notes: []string{
			"Tasks that run when the deadline comes are tried again on other nodes, and actors are made again there when no call of theirs runs; neither is counted",
			"as a retry or a restart. What may not be tried again (max_retries=0, max_restarts=0), gangs and drivers stay until they end.",
		},
		flags: []urfave.Flag{
			value("reason", "", "TEXT", "why; it is shown to whoever asks"),
			value("deadline", "", "SECONDS", "until what runs is moved (never); 0: at once"),
			toggle("undo", "", "let it take new work again"),
			clusterFlag(), jsonFlag(),
		},
		action: (*call).drain,
	})
}

func (c *call) drain() error {
	if len(c.rest()) != 1 {
		return usage("drain", "one node is wanted", "`maniple nodes` lists them")
	}
	how := gang.NodeDrain{Node: c.rest()[0], Reason: c.str("reason"), Undo: c.on("undo")}
	if v, origin, ok := c.flag("deadline"); ok {
		d, ok := spec.ParseSeconds(v)
		if !ok || d < 0 {
			return usage(origin, strconv.Quote(v)+" is no time", "write seconds, or 500ms, 2m")
		}
		how.Deadline = time.Now().Add(d)
	}
	if how.Undo && (how.Reason != "" || !how.Deadline.IsZero()) {
		return usage("drain", "--undo goes with neither --reason nor --deadline", "leave those away")
	}
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		raw, err := client.DrainNode(ctx, how)
		if err != nil {
			return refusedDrain(err)
		}
		if c.on("json") {
			return c.raw(raw)
		}
		var reply struct {
			Node stateNode `json:"node"`
		}
		if err := json.Unmarshal(raw, &reply); err != nil {
			return overWire("drain", how.Node+": ", err)
		}
		fmt.Fprintf(c.stdout, "%s\n", reply.Node.drainText())
		return nil
	})
}

// refusedDrain is the head's word that a node can't be drained, or what kept it from saying anything.
func refusedDrain(err error) error {
	_, why, said := strings.Cut(err.Error(), ": head: ")
	if !said {
		return overWire("drain", "", err)
	}
	why, do, _ := strings.Cut(why, "; ")
	if do == "" {
		do = "`maniple nodes` lists them"
	}
	return &Fault{Name: "USAGE", What: "drain", Why: why, Do: do, Err: err}
}

// drainText says whether a node takes something new.
func (n *stateNode) drainText() string {
	if n.Drain == nil {
		return n.Name + " takes new work"
	}
	by := ""
	if !n.Drain.Deadline.IsZero() {
		by = ", what may move by " + n.Drain.Deadline.Local().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s is being drained%s: %s", n.Name, by, n.Drain.Reason)
}
