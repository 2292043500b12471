package cli

import (
	"context"
	"fmt"
	"strconv"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func (a *app) cancelCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "cancel", summary: "end gangs, or send them a signal", args: "GANG...",
		examples: []string{
			"maniple cancel 1.2.1\tits ranks get TERM, then KILL",
			"maniple cancel --signal USR1 train\tby its name; nothing is ended",
			"maniple cancel --all",
		},
		flags: []urfave.Flag{
			value("signal", "s", "SIG", "send this signal and end nothing"),
			value("grace", "", "SECONDS", "between TERM and KILL (the gang's own)"),
			toggle("now", "", "KILL at once"),
			toggle("all", "a", "all gangs"),
			clusterFlag(), jsonFlag(),
		},
		action: (*call).cancel,
	})
}

func (c *call) cancel() error {
	how := gang.Cancel{Mode: gang.CancelDrain, Reason: "maniple cancel", ExitCode: 143}
	if c.on("now") {
		how.Mode = gang.CancelStop
	}
	if v, origin, ok := c.flag("signal"); ok {
		sig, _, ok := spec.ParseSignal(v)
		if !ok {
			return usage(origin, strconv.Quote(v)+" is no signal", "write for instance USR1")
		}
		how.Mode, how.Signal = gang.CancelSignal, int32(sig)
	}
	if v, origin, ok := c.flag("grace"); ok {
		d, ok := spec.ParseSeconds(v)
		if !ok {
			return usage(origin, strconv.Quote(v)+" is no time", "write seconds, or 500ms, 2m")
		}
		how.Grace = int64(d)
	}
	if len(c.rest()) == 0 && !c.on("all") {
		return usage("cancel", "which gang?", "`maniple status` lists them; --all means all")
	}
	if len(c.rest()) == 1 && isApplication(c.rest()[0]) {
		return c.cancelApplication(c.rest()[0], how)
	}
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		running, _, err := ask[stateGroups](ctx, c, client, "groups", "")
		if err != nil {
			return err
		}
		targets, err := pick(running.Groups, c.rest())
		if err != nil {
			return err
		}
		names := []string{}
		for _, g := range targets {
			names = append(names, g.String())
			if err := client.Cancel(ctx, g, how); err != nil {
				return overWire("cancel", g.String()+": ", err)
			}
		}
		if c.on("json") {
			return c.json(struct {
				Version int      `json:"version"`
				Groups  []string `json:"groups"`
				Signal  int32    `json:"signal,omitempty"`
			}{1, names, how.Signal})
		}
		if len(names) == 0 {
			c.say("cancel: no gang is running")
		}
		return nil
	})
}

// pick finds groups by ID or name; without any, all that have not ended.
func pick(running []stateGroup, wanted []string) ([]id.Task, error) {
	var list []id.Task
	add := func(g stateGroup) error {
		t, err := id.ParseTask(g.ID)
		list = append(list, t)
		return err
	}
	for _, w := range wanted {
		before := len(list)
		for _, g := range running {
			if (g.ID == w || g.Name == w) && g.Phase != "ended" {
				if err := add(g); err != nil {
					return nil, err
				}
			}
		}
		if len(list) == before {
			return nil, &Fault{Name: "USAGE", What: "cancel", Why: fmt.Sprintf("no gang %s is running", w), Do: "`maniple status` lists them"}
		}
	}
	if len(wanted) == 0 {
		for _, g := range running {
			if g.Phase != "ended" {
				if err := add(g); err != nil {
					return nil, err
				}
			}
		}
	}
	return list, nil
}
