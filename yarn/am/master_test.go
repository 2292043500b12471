package am_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

var (
	node = yarn.Resource{MemoryMB: 4096, VCores: 4}
	one  = yarn.Resource{MemoryMB: 1024, VCores: 1}
)

// master is a registered one with its events.
type master struct {
	*am.Master
	cluster *yarntest.Cluster
	app     yarn.ApplicationID
	mu      sync.Mutex
	all     []am.Event
	news    chan struct{}
}

// start registers a master at a cluster of the sizes.
func start(t *testing.T, edit func(*am.Config), sizes ...yarn.Resource) *master {
	t.Helper()
	m := &master{cluster: yarntest.New(t, sizes...), news: make(chan struct{}, 1)}
	m.app = m.cluster.Application()
	token, attempt := m.cluster.Master(m.app)
	cfg := am.Config{
		Schedulers: []string{m.cluster.Scheduler()}, Token: token, Attempt: attempt, Host: "here", Port: 7, Interval: 4 * time.Millisecond, RetryInterval: 4 * time.Millisecond,
		OnEvent: func(e am.Event) {
			m.mu.Lock()
			m.all = append(m.all, e)
			m.mu.Unlock()
			select {
			case m.news <- struct{}{}:
			default:
			}
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if m.Master, err = am.Register(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// wait waits until enough events of a kind came, and gives them.
func wait[E am.Event](t *testing.T, m *master, n int) []E {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		var out []E
		for _, e := range m.all {
			if e, ok := e.(E); ok {
				out = append(out, e)
			}
		}
		m.mu.Unlock()
		if len(out) >= n {
			return out
		}
		select {
		case <-m.news:
		case <-limit:
			t.Fatalf("%d of %d; all: %+v", len(out), n, m.all)
		}
	}
}

func (m *master) report(t *testing.T) yarn.Report {
	t.Helper()
	c, err := yarn.New(yarn.Config{ResourceManagers: []string{m.cluster.ResourceManager()}, User: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Report(t.Context(), m.app)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMasterFromRegisterToFinish(t *testing.T) {
	m := start(t, nil, node, node)
	if r := m.report(t); r.State != yarn.StateRunning || r.Host != "here" || r.Port != 7 {
		t.Errorf("%+v", r)
	}
	if told := m.Registered(); told.Max.MemoryMB != 4096 || told.Queue != "default" {
		t.Errorf("%+v", told)
	}
	m.SetProgress(0.5)
	if err := m.Set(am.Ask{ID: 1, Count: 3, Resource: one}); err != nil {
		t.Fatal(err)
	}
	got := wait[am.Granted](t, m, 3)
	if _, ok := m.NMToken(got[0].Container.Node); !ok {
		t.Error("no token for the node")
	}
	m.cluster.End(got[0].Container.ID, 3)
	m.Release(got[1].Container.ID)
	ends := map[yarn.ContainerID]yarn.ExitCode{}
	for _, e := range wait[am.Ended](t, m, 2) {
		ends[e.Status.ID] = e.Status.ExitCode
	}
	if ends[got[0].Container.ID] != 3 || ends[got[1].Container.ID] != yarn.ExitAborted {
		t.Error(ends)
	}
	if r := m.report(t); r.Progress != 0.5 {
		t.Error(r.Progress)
	}
	if free, nodes := m.Headroom(); nodes != 2 || free.MemoryMB == 0 {
		t.Error(free, nodes)
	}
	// AM-6.
	if err := m.Finish(t.Context(), yarn.Succeeded, "all done", ""); err != nil {
		t.Fatal(err)
	}
	if r := m.report(t); r.State != yarn.StateFinished || r.Final != yarn.Succeeded || r.Diagnostics != "all done" {
		t.Errorf("%+v", r)
	}
	if n := len(m.all); n != 5 {
		t.Errorf("%d events: %+v", n, m.all)
	}
}

func TestImpossibleAsks(t *testing.T) {
	m := start(t, nil, node.With(yarn.GPU, 2))
	for want, a := range map[string]am.Ask{
		"5000 of memory-mb is more": {ID: 1, Count: 1, Resource: yarn.Resource{MemoryMB: 5000, VCores: 1}},
		"3 of yarn.io/gpu is more":  {ID: 1, Count: 1, Resource: one.With(yarn.GPU, 3)},
		"does not count":            {ID: 1, Count: 1, Resource: one.With("yarn.io/fpga", 1)},
		"needs memory":              {ID: 1, Count: 1},
		"over 0":                    {Count: 1, Resource: one},
		"names hosts":               {ID: 1, Count: 1, Resource: one, Strict: true},
	} {
		if err := m.Set(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// AM-2, AM-3: a ResourceManager that comes back gets all that still counts, and running containers go on.
func TestResourceManagerRestarts(t *testing.T) {
	m := start(t, nil, node)
	if err := m.Set(am.Ask{ID: 1, Count: 5, Resource: one}); err != nil { // one more than there is room for
		t.Fatal(err)
	}
	got := wait[am.Granted](t, m, 4)
	m.cluster.Restart()
	wait[am.Resynced](t, m, 1)
	m.cluster.End(got[0].Container.ID, 0) // and makes room
	if next := wait[am.Granted](t, m, 5); next[4].Container.ID == got[0].Container.ID {
		t.Error("granted twice")
	}
	if ends := wait[am.Ended](t, m, 1); len(ends) != 1 || ends[0].Status.ID != got[0].Container.ID {
		t.Errorf("%+v", ends)
	}
	m.cluster.Restart()
	if err := m.Finish(t.Context(), yarn.Failed, "it broke", ""); err != nil || m.report(t).Final != yarn.Failed {
		t.Error("after a restart:", err)
	}
}

// A heartbeat whose answer is lost is made again, and what was granted in it is not lost.
func TestLostHeartbeat(t *testing.T) {
	m := start(t, func(c *am.Config) { c.RetryFor = time.Minute }, node)
	m.cluster.LoseAnswer("allocate")
	if err := m.Set(am.Ask{ID: 1, Count: 2, Resource: one}); err != nil {
		t.Fatal(err)
	}
	if got := wait[am.Granted](t, m, 2); got[0].Container.ID == got[1].Container.ID {
		t.Error("twice the same")
	}
}

// AM-5.
func TestRolledToken(t *testing.T) {
	m := start(t, nil, node)
	m.cluster.Roll()
	n := m.cluster.Calls("allocate")
	if err := m.Set(am.Ask{ID: 1, Count: 1, Resource: one}); err != nil {
		t.Fatal(err)
	}
	wait[am.Granted](t, m, 1)
	m.cluster.Restart() // breaks the connection: the next one shows the new token
	wait[am.Resynced](t, m, 1)
	if m.cluster.Calls("allocate") <= n {
		t.Error("no heartbeat")
	}
}

func TestNews(t *testing.T) {
	m := start(t, nil, node)
	if err := m.Set(am.Ask{ID: 1, Count: 1, Resource: one, Hosts: []string{"127.0.0.1"}, Strict: true}); err != nil {
		t.Fatal(err)
	}
	k := wait[am.Granted](t, m, 1)[0].Container
	m.cluster.Preempt(k.ID)
	m.cluster.ChangeNode(m.cluster.Nodes()[0], yarn.NodeDecommissioning)
	if w := wait[am.PreemptionWarning](t, m, 1)[0]; len(w.Strict) != 1 || w.Strict[0] != k.ID {
		t.Errorf("%+v", w)
	}
	if c := wait[am.NodeChanged](t, m, 1)[0]; c.Node.State != yarn.NodeDecommissioning || c.Node.ID != k.Node {
		t.Errorf("%+v", c)
	}
}

// An attempt that YARN has ended gets one last event, and its heartbeat stops.
func TestKilledApplication(t *testing.T) {
	m := start(t, nil, node)
	c, err := yarn.New(yarn.Config{ResourceManagers: []string{m.cluster.ResourceManager()}, User: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Kill(t.Context(), m.app, ""); err != nil {
		t.Fatal(err)
	}
	if o := wait[am.Over](t, m, 1)[0]; !errors.Is(o.Err, yarn.ErrOver) {
		t.Error(o.Err)
	}
	m.Close()
	if err := m.Close(); err != nil { // again
		t.Error(err)
	}
}

func TestWrongToken(t *testing.T) {
	cluster := yarntest.New(t, node)
	token, attempt := cluster.Master(cluster.Application())
	token.Password = []byte("guess")
	_, err := am.Register(t.Context(), am.Config{Schedulers: []string{cluster.Scheduler()}, Token: token, Attempt: attempt})
	if !errors.Is(err, yarn.ErrCredentials) || strings.Contains(err.Error(), "guess") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := am.Register(ctx, am.Config{Schedulers: []string{cluster.Scheduler()}, Token: token}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
