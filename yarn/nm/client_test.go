package nm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
	"github.com/maniple-hpc/maniple/yarn/nm"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

// granted gives a cluster with a container on it, its master and a client for NodeManagers.
func granted(t *testing.T) (*yarntest.Cluster, *am.Master, *nm.Client, yarn.Container, <-chan am.Ended) {
	t.Helper()
	cluster := yarntest.New(t, yarn.Resource{MemoryMB: 4096, VCores: 4}, yarn.Resource{MemoryMB: 4096, VCores: 4})
	token, attempt := cluster.Master(cluster.Application())
	got, ends := make(chan yarn.Container, 1), make(chan am.Ended, 9)
	m, err := am.Register(t.Context(), am.Config{
		Schedulers: []string{cluster.Scheduler()}, Token: token, Attempt: attempt, Interval: 4 * time.Millisecond,
		OnEvent: func(e am.Event) {
			switch e := e.(type) {
			case am.Granted:
				got <- e.Container
			case am.Ended:
				ends <- e
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Set(am.Ask{ID: 1, Count: 1, Resource: yarn.Resource{MemoryMB: 512, VCores: 1}}); err != nil {
		t.Fatal(err)
	}
	c, err := nm.New(nm.Config{Token: m.NMToken, RetryInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return cluster, m, c, <-got, ends
}

func TestContainerFromStartToStop(t *testing.T) {
	cluster, _, c, k, ends := granted(t)
	launch := yarn.LaunchContext{
		Commands: []string{"hostname"}, Environment: map[string]string{"A": "b"}, Tokens: yarn.Credentials{}.Marshal(),
		Files: map[string]yarn.LocalResource{"x": {URL: yarn.URL{Scheme: "file", Path: "/x"}, Size: 1, Timestamp: time.UnixMilli(5), Type: yarn.Archive, Visibility: yarn.Private}},
		ACLs:  map[yarn.Access]string{yarn.ViewApplication: "*"},
	}
	if err := c.Start(t.Context(), k, launch); err != nil {
		t.Fatal(err)
	}
	got, ok := cluster.Launched(k.ID)
	if !ok || got.Commands[0] != "hostname" || got.Environment["A"] != "b" || !got.Files["x"].Timestamp.Equal(time.UnixMilli(5)) || got.ACLs[yarn.ViewApplication] != "*" {
		t.Errorf("%+v", got)
	}
	if err := c.Start(t.Context(), k, launch); err != nil { // NM-2
		t.Error("started again:", err)
	}
	s, err := c.Status(t.Context(), k.Node, k.ID)
	if err != nil || len(s) != 1 || s[0].State != yarn.ContainerRunning || s[0].ExitCode != yarn.ExitInvalid {
		t.Error(s, err)
	}
	if err := c.Stop(t.Context(), k.Node, k.ID); err != nil {
		t.Fatal(err)
	}
	if e := <-ends; e.Status.ID != k.ID || e.Status.ExitCode != yarn.ExitByMaster || e.Status.ExitCode.Free() {
		t.Error(e)
	}
}

// NM-1.
func TestRefusalsOfANodeManager(t *testing.T) {
	_, _, c, k, _ := granted(t)
	forged := k
	forged.Token.Password = []byte("x")
	if err := c.Start(t.Context(), forged, yarn.LaunchContext{}); !errors.Is(err, yarn.ErrRefused) || !strings.Contains(err.Error(), "Unauthorized") {
		t.Error(err)
	}
	if err := c.Start(t.Context(), k, yarn.LaunchContext{}); err != nil {
		t.Fatal(err)
	}
	other := k.ID
	other.Number = 99
	s, err := c.Status(t.Context(), k.Node, k.ID, other)
	if len(s) != 1 || !errors.Is(err, yarn.ErrRefused) || !strings.Contains(err.Error(), other.String()) {
		t.Error(s, err)
	}
	if err := c.Stop(t.Context(), k.Node, other, k.ID); err == nil || strings.Contains(err.Error(), k.ID.String()) {
		t.Error(err)
	}
}

func TestNodeWithoutToken(t *testing.T) {
	cluster, _, c, k, _ := granted(t)
	for _, n := range cluster.Nodes() {
		if n.ID == k.Node {
			continue
		}
		if _, err := c.Status(t.Context(), n.ID, k.ID); !errors.Is(err, yarn.ErrCredentials) || !strings.Contains(err.Error(), "first container") {
			t.Error(err)
		}
	}
}

// NM-2: the answer of a start is lost.
func TestLostAnswerOfStart(t *testing.T) {
	cluster, _, c, k, _ := granted(t)
	cluster.LoseAnswer("startContainers")
	if err := c.Start(t.Context(), k, yarn.LaunchContext{}); err != nil || cluster.Calls("startContainers") != 2 {
		t.Error(err, cluster.Calls("startContainers"))
	}
}

// NM-3.
func TestNodeManagerThatStarts(t *testing.T) {
	cluster, _, c, k, _ := granted(t)
	var n *yarntest.Node
	for _, n = range cluster.Nodes() {
		if n.ID == k.Node {
			break
		}
	}
	n.SetStarting(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Start(ctx, k, yarn.LaunchContext{}); !errors.Is(err, yarn.ErrUnreachable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { n.SetStarting(false) })
	if err := c.Start(t.Context(), k, yarn.LaunchContext{}); err != nil || cluster.Calls("startContainers") < 3 {
		t.Error(err, cluster.Calls("startContainers"))
	}
}
