package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

// A program that starts a cluster (rt.Init, maniple.init) runs `maniple up --with-stdin` and holds the other end of its standard
// input. So the cluster ends with the program in whatever way that ends, also while it is still being brought up.

// whileInput gives a context that ends with standard input. What is printed afterwards may have no reader.
func (c *call) whileInput(ctx context.Context) context.Context {
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, c.stdin) // an error is an end as well
		cancel(&interrupted{syscall.SIGHUP})
	}()
	return ctx
}

// guard goes on as a shell that waits for the end of standard input and ends the cluster then, and no other of its name: it is small,
// and no signal for its group ends it.
func (c *call) guard(ep *boot.Endpoint) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("%s: cannot find my own program: %w", c.page.name, err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for _, stream := range []int{1, 2} { // whoever reads these has all
		if err := syscall.Dup3(int(null.Fd()), stream, 0); err != nil {
			return err
		}
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	argv := []string{"sh", "-c", `read nothing; exec "$@"`, "sh", self, "down", "--now", "--cluster", ep.Name, "--id", ep.Cluster}
	if ep.Kind == "slurm" { // others in the job find it, too
		argv = append(argv, "--when-unused")
	}
	return syscall.Exec("/bin/sh", argv, os.Environ())
}

// joinTick is how often it is looked whether a cluster can be used that others bring up, or end.
const joinTick = 100 * time.Millisecond

// upOrJoin brings a cluster up, unless it is up or others bring it up: then it waits until it can be used, and tells of it.
func (c *call) upOrJoin(ctx context.Context, o boot.Options) (*boot.Cluster, *upRecord, error) {
	limit := o.JoinTimeout
	if limit == 0 {
		limit = joinLimit
	}
	tick := time.NewTicker(joinTick)
	defer tick.Stop()
	var again time.Time // others were quicker, and have until then to be found
	for deadline := time.Now().Add(limit); ; {
		ep, err := boot.Find(c.getenv, o.Name)
		switch {
		case errors.Is(err, boot.ErrNone) && time.Now().Before(again):
		case errors.Is(err, boot.ErrNone):
			var cluster *boot.Cluster
			if cluster, err = c.bringUp(ctx, o); err == nil {
				return cluster, nil, nil
			}
			if name, _ := classify(err); name != "CLUSTER_UP" {
				return nil, nil, err
			}
			again = time.Now().Add(joinAgain)
		case err != nil:
			return nil, nil, err
		default:
			var up *upRecord
			if up, err = c.usable(ctx, ep); up != nil {
				return nil, up, nil
			}
			again = time.Time{}
		}
		if time.Now().After(deadline) {
			return nil, nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil, errors.Join(exitOf(ctx), ctx.Err())
		}
	}
}

// Others have so long to bring a cluster up, and so long until it is tried again where nothing is seen of them.
const (
	joinLimit = 5 * time.Minute
	joinAgain = 10 * time.Second
)

// usable tells of a cluster if it takes work. The error says why not.
func (c *call) usable(ctx context.Context, ep *boot.Endpoint) (*upRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	client, err := c.connect(ctx, ep)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	reply, _, err := ask[stateCluster](ctx, c, client, "cluster", "")
	if err != nil {
		return nil, err
	}
	switch state := reply.Cluster.State; state {
	case "joining", "draining":
		return nil, fmt.Errorf("boot: %s: %w, and it is %s", ep.Name, boot.ErrUp, state)
	}
	up := &upRecord{Version: 1, Cluster: ep.Name, ID: reply.Cluster.ID, Kind: ep.Kind, Nodes: ep.Nodes, Joined: true}
	if ep.Here() {
		up.Socket = ep.Socket
	}
	return up, nil
}

// joined says that the cluster was up.
func (c *call) joined(up *upRecord) error {
	if c.on("json") {
		return c.json(up)
	}
	c.say("cluster %s is up already (%s)", up.Cluster, slurm.FoldHosts(up.Nodes))
	return nil
}

// stateDrivers are the programs that use a cluster, by node.
type stateDrivers struct {
	Nodes []struct {
		Name    string `json:"name"`
		Error   string `json:"error"`
		Drivers struct {
			Attached []struct {
				Name string `json:"name"`
			} `json:"attached"`
			Workers []string `json:"workers"` // groups
		} `json:"drivers"`
	} `json:"nodes"`
}

// users names what uses a cluster: gangs and drivers; and the nodes that can't tell of their own.
func (c *call) users(ctx context.Context, client *gang.Client) (names, silent []string, err error) {
	groups, _, err := ask[stateGroups](ctx, c, client, "groups", "")
	if err != nil {
		return nil, nil, err
	}
	drivers, _, err := ask[stateDrivers](ctx, c, client, "drivers", "")
	if err != nil {
		return nil, nil, err
	}
	var workers []string
	for _, n := range drivers.Nodes {
		if n.Error != "" {
			silent = append(silent, n.Name)
		}
		workers = append(workers, n.Drivers.Workers...)
		for _, d := range n.Drivers.Attached {
			names = append(names, fmt.Sprintf("%s on %s", d.Name, n.Name))
		}
	}
	for _, g := range groups.Groups {
		if g.Phase != "ended" && g.World > 0 && !slices.Contains(workers, g.ID) { // a detached actor is no reason to stay, nor are leases
			names = append(names, g.Name)
		}
	}
	return names, silent, nil
}

// How often it is looked whether anybody uses a cluster: soon at first, then less often. A node that can't tell for so many looks
// has nobody.
const (
	unusedFirst = 50 * time.Millisecond
	unusedLast  = 2 * time.Second
	unusedTries = 10
)

// unused returns when nobody uses a cluster any more. said is told once who does. A question that fails is asked again as long as the cluster
// is there: what is not known ends nothing.
func (c *call) unused(ctx context.Context, client *gang.Client, said func(names string)) error {
	return untilUnused(ctx, func() ([]string, []string, error) { return c.users(ctx, client) }, client.Err, said)
}

// untilUnused looks for users until there are none, or over says that the cluster is.
func untilUnused(ctx context.Context, look func() (names, silent []string, err error), over func() error, said func(names string)) error {
	wait, tries := unusedFirst, map[string]int{} // looks in which a node said nothing, one after the other
	for {
		names, silent, err := look()
		if ended := over(); err != nil && ended != nil {
			return ended
		}
		before, given := tries, 0 // up
		tries = map[string]int{}
		for _, node := range silent {
			if tries[node] = before[node] + 1; tries[node] > unusedTries {
				given++
			}
		}
		if err == nil && len(names) == 0 && given == len(silent) {
			return nil
		}
		if said != nil && len(names) > 0 {
			said(strings.Join(names, ", "))
			said = nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wait = min(wait*5/4, unusedLast)
	}
}
