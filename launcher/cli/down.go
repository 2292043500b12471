package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
)

func (a *app) downCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "down", summary: "end a cluster",
		examples: []string{
			"maniple down\tprograms get TERM, and 30 seconds",
			"maniple down --now\tstop them at once",
			"maniple down --cluster b\tthat one, not the default",
		},
		flags: []urfave.Flag{
			clusterFlag(),
			toggle("now", "", "do not wait for programs"),
			value("grace", "", "SECONDS", "how long programs may take to end (30)"),
			rare(toggle("when-unused", "", "wait until no gang and no driver uses it")),
			rare(value("id", "", "ID", "only the cluster of this ID, as `maniple up --json` says it")),
			jsonFlag(),
		},
		action: (*call).down,
	})
}

func (c *call) down() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	grace := 30 * time.Second
	if v, origin, ok := c.flag("grace"); ok {
		if grace, ok = spec.ParseSeconds(v); !ok {
			return usage(origin, strconv.Quote(v)+" is no time", "write seconds, or 500ms, 2m")
		}
	}
	now := c.on("now")
	ep, err := c.find()
	if err != nil {
		return err
	}
	keepers, sure := ep.Keepers(), c.sure(ep) // while this is asked and waited for, another cluster may come up under the name
	ctx, sig := watchSignals(c.ctx)
	defer sig.stop()
	client, err := c.connect(ctx, ep)
	if err == nil {
		defer client.Close()
		if sure, err = c.mayEnd(ctx, client, ep); err == nil {
			err = client.Drain(ctx, "maniple down", time.Now().Add(grace), 0, now)
		}
	}
	if err != nil && (!sure || !ep.Here() || exitOf(ctx) != nil) {
		return err
	}
	if err != nil { // its agent can't be asked: the keepers take signals
		if n := keepers.Signal(now); n == 0 {
			return err
		}
		c.say("cluster %s does not answer: its keepers are asked to end it", ep.Name)
	}
	if now {
		grace = 0
	}
	waitCtx, cancel := context.WithTimeout(ctx, grace+10*time.Second)
	defer cancel()
	wait := ep.Gone
	if !ep.Here() {
		wait = func(ctx context.Context) error {
			if err := answersNoMore(ctx, client); err != nil {
				return err
			}
			return ep.Gone(ctx) // the srun that it hangs on may be here
		}
	}
	soon, stop := context.WithTimeout(waitCtx, downPatience)
	defer stop()
	if err = wait(soon); err != nil && waitCtx.Err() == nil {
		if now {
			c.say("waiting for the keepers of cluster %s", ep.Name)
		} else {
			c.say("waiting for the programs of cluster %s, which have %v to end; `maniple down --now` stops them", ep.Name, grace)
		}
		err = wait(waitCtx)
	}
	if err != nil {
		if stopped := exitOf(ctx); stopped != nil {
			return stopped
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return &Fault{Name: "UNREACHABLE", What: "down", Why: fmt.Sprintf("cluster %s has not ended in time", ep.Name), Do: "try `maniple down --now`", Err: err}
		}
		return err
	}
	boot.Forget(c.getenv, ep.Name)
	if c.on("json") {
		return c.json(struct {
			Version int    `json:"version"`
			Cluster string `json:"cluster"`
			State   string `json:"state"`
		}{1, ep.Name, "down"})
	}
	c.say("cluster %s is down", ep.Name)
	return nil
}

// sure tells whether the cluster may be ended, as far as that is known without asking it.
func (c *call) sure(ep *boot.Endpoint) bool {
	id := c.String("id")
	return !c.Bool("when-unused") && (id == "" || id == ep.ID(c.getenv))
}

// mayEnd asks whether it is the cluster that is meant, and waits until nobody uses it if that is wanted. sure: it may be ended, even if it
// does not answer.
func (c *call) mayEnd(ctx context.Context, client *gang.Client, ep *boot.Endpoint) (sure bool, err error) {
	another, err := c.another(ctx, client, ep)
	if err == nil && c.Bool("when-unused") {
		err = c.unused(ctx, client, func(names string) { c.say("down: cluster %s stays for %s", ep.Name, names) })
		if err == nil { // a client comes back to whoever listens where its agent did
			another, err = c.another(ctx, client, ep)
		}
	}
	if stopped := exitOf(ctx); stopped != nil {
		return false, stopped
	}
	return err == nil || !another && c.sure(ep), err
}

// another asks a cluster for its ID. An error that it is another one than the one that is meant, or that it can't be asked.
func (c *call) another(ctx context.Context, client *gang.Client, ep *boot.Endpoint) (bool, error) {
	id := c.String("id")
	if id == "" {
		return false, nil
	}
	reply, _, err := ask[stateCluster](ctx, c, client, "cluster", "")
	if err != nil || reply.Cluster.ID == id {
		return false, err
	}
	return true, &Fault{Name: "NO_CLUSTER", What: "down", Why: "the cluster " + ep.Name + " that is up is another one than " + id, Do: "leave --id away to end it"}
}

// downPatience is how long an end is waited for without a word.
const downPatience = 2 * time.Second

// answersNoMore returns when the agent of a cluster elsewhere is gone: there is no process to look at.
func answersNoMore(ctx context.Context, client *gang.Client) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := client.Query(ctx, "cluster", ""); err != nil {
			return ctx.Err()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
