//go:build e2e

package yarn

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

func TestCluster(t *testing.T) {
	c, ctx := up(t).client(t, "alice"), within(t)
	m, err := c.Metrics(ctx)
	if err != nil || m.Active != 2 {
		t.Fatalf("%+v %v", m, err)
	}
	nodes, err := c.Nodes(ctx, yarn.NodeRunning)
	if err != nil || len(nodes) != 2 || nodes[0].Capability.Of(yarn.GPU) != 4 || nodes[0].Capability.MemoryMB != 4096 || nodes[0].Rack != "/default-rack" {
		t.Errorf("%+v %v", nodes, err)
	}
	if d, err := c.Nodes(ctx, yarn.NodeLost); err != nil || len(d) != 0 {
		t.Error(d, err)
	}
	q, err := c.Queue(ctx, "root")
	if err != nil || len(q.Children) != 2 || q.State != yarn.QueueRunning || q.Scheduler != "CapacityScheduler" {
		t.Fatalf("%+v %v", q, err)
	}
	for _, child := range q.Children {
		if want := map[string]float32{"default": 0.6, "batch": 0.4}[child.Name]; child.Capacity < want-0.01 || child.Capacity > want+0.01 || child.MaxCapacity != 1 {
			t.Errorf("%+v", child)
		}
	}
	if _, err := c.Queue(ctx, "nosuch"); !errors.Is(err, yarn.ErrNotFound) {
		t.Error(err)
	}
	types, err := c.ResourceTypes(ctx)
	if err != nil || len(types) != 3 {
		t.Error(types, err)
	}
	n, err := c.NewApplication(ctx)
	if err != nil || n.Max.Of(yarn.GPU) <= 0 || n.Max.MemoryMB != 4096 {
		t.Errorf("%+v %v", n, err)
	}
}

func TestSubmitWatchKill(t *testing.T) {
	b := up(t)
	c, ctx := b.client(t, "alice"), within(t)
	r, err := c.Submit(ctx, yarn.Submission{
		Name: "sleeps", Queue: "batch", Type: "TEST", Tags: []string{"a_tag"}, Priority: 3, Resource: yarn.Resource{MemoryMB: 128, VCores: 1},
		Lifetime: time.Hour, MaxAttempts: 1,
		Launch: yarn.LaunchContext{
			Commands:    []string{"exec sleep 300 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"},
			Environment: map[string]string{"A": "b"},
			ACLs:        map[yarn.Access]string{yarn.ViewApplication: "*", yarn.ModifyApplication: "bob"},
		},
	})
	if err != nil || r.State < yarn.StateAccepted || r.User != "alice" || r.Queue != "root.batch" || r.Name != "sleeps" || r.Type != "TEST" || len(r.Tags) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if r.Started.Before(time.Now().Add(-time.Hour)) || r.AMToken != nil {
		t.Errorf("%+v", r)
	}
	list, err := c.Applications(ctx, yarn.Filter{Types: []string{"TEST"}, Users: []string{"alice"}, Queues: []string{"batch"}, Tags: []string{"a_tag"}, Limit: 5,
		States: []yarn.ApplicationState{yarn.StateAccepted, yarn.StateRunning}})
	if err != nil || !slices.ContainsFunc(list, func(other yarn.Report) bool { return other.ID == r.ID }) {
		t.Error(list, err)
	}
	if err := c.Kill(ctx, r.ID, "the test is over"); err != nil {
		t.Fatal(err)
	}
	last, err := c.Watch(ctx, r.ID, 100*time.Millisecond, nil)
	if err != nil || last.State != yarn.StateKilled || last.Final != yarn.Killed || !strings.Contains(last.Diagnostics, "the test is over") || last.Finished.IsZero() {
		t.Errorf("%+v %v", last, err)
	}
	if err := c.Kill(ctx, r.ID, ""); err != nil {
		t.Error("what is over can't be killed:", err)
	}
}

func TestRefusals(t *testing.T) {
	b := up(t)
	c, ctx := b.client(t, "alice"), within(t)
	for want, s := range map[string]yarn.Submission{
		"unknown queue":                   {Queue: "nosuch", Resource: yarn.Resource{MemoryMB: 128}},
		"maximum":                         {Resource: yarn.Resource{MemoryMB: 1 << 20}},
		"does not count \"yarn.io/fpga\"": {Resource: yarn.Resource{MemoryMB: 128}.With("yarn.io/fpga", 1)},
	} {
		s.Launch.Commands = []string{"true"}
		if _, err := c.Submit(ctx, s); !errors.Is(err, yarn.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := c.Report(ctx, yarn.ApplicationID{Number: 1, ClusterTimestamp: 1}); !errors.Is(err, yarn.ErrNotFound) {
		t.Error(err)
	}
	// The web port is not the client port.
	wrong, err := yarn.New(yarn.Config{ResourceManagers: []string{strings.TrimPrefix(b.rm.Web, "http://")}, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if _, err := wrong.Metrics(ctx); !errors.Is(err, yarn.ErrProtocol) && !errors.Is(err, yarn.ErrUnreachable) {
		t.Error(err)
	}
	// Nor is the scheduler's, which wants a token.
	wrong2, err := yarn.New(yarn.Config{ResourceManagers: []string{b.rm.Scheduler}, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong2.Close()
	if _, err := wrong2.Metrics(ctx); !errors.Is(err, yarn.ErrCredentials) {
		t.Error(err)
	}
}
