package yarn_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

var small = yarn.Resource{MemoryMB: 4096, VCores: 4}

// client is one of user alice.
func client(t *testing.T, cfg yarn.Config) *yarn.Client {
	t.Helper()
	if cfg.User == "" {
		cfg.User = "alice"
	}
	c, err := yarn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func of(c *yarntest.Cluster) yarn.Config {
	return yarn.Config{ResourceManagers: []string{c.ResourceManager()}}
}

func TestApplicationFromSubmitToKill(t *testing.T) {
	cluster := yarntest.New(t, small)
	c := client(t, of(cluster))
	r, err := c.Submit(t.Context(), yarn.Submission{
		Name: "train", Queue: "default", Type: "MANIPLE", Tags: []string{"a"}, Resource: yarn.Resource{MemoryMB: 512},
		Launch: yarn.LaunchContext{Commands: []string{"true"}},
	})
	if err != nil || r.State != yarn.StateAccepted || r.User != "alice" || r.Name != "train" || r.Type != "MANIPLE" || r.AMToken != nil {
		t.Fatalf("%+v %v", r, err)
	}
	list, err := c.Applications(t.Context(), yarn.Filter{States: []yarn.ApplicationState{yarn.StateAccepted}, Users: []string{"alice"}})
	if err != nil || len(list) != 1 || list[0].ID != r.ID {
		t.Error(list, err)
	}
	if list, err := c.Applications(t.Context(), yarn.Filter{Types: []string{"SPARK"}}); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	bob := client(t, yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}, User: "bob"})
	if err := bob.Kill(t.Context(), r.ID, ""); !errors.Is(err, yarn.ErrNotYours) {
		t.Error("somebody else killed it:", err)
	}
	if err := c.Kill(t.Context(), r.ID, "enough"); err != nil {
		t.Fatal(err)
	}
	var states []yarn.ApplicationState
	last, err := c.Watch(t.Context(), r.ID, time.Millisecond, func(r yarn.Report) { states = append(states, r.State) })
	if err != nil || last.State != yarn.StateKilled || last.Final != yarn.Killed || len(states) != 1 || last.Finished.IsZero() {
		t.Errorf("%+v %v %v", last, states, err)
	}
	if err := c.Kill(t.Context(), r.ID, ""); err != nil {
		t.Error("what is over can't be killed:", err)
	}
	_, err = c.Report(t.Context(), yarn.ApplicationID{Number: 99, ClusterTimestamp: 1})
	if !errors.Is(err, yarn.ErrNotFound) || !strings.Contains(err.Error(), "application_1_0099") {
		t.Error(err)
	}
}

func TestRefusedSubmissions(t *testing.T) {
	c := client(t, of(yarntest.New(t, small.With(yarn.GPU, 2))))
	for want, s := range map[string]yarn.Submission{
		"unknown queue: nosuch":  {Queue: "nosuch", Resource: yarn.Resource{MemoryMB: 512}},
		"requested memory 9999":  {Resource: yarn.Resource{MemoryMB: 9999}},
		"no memory is asked for": {},
		`does not count "yarn.io/fpga"; it counts memory-mb, vcores, yarn.io/gpu`: {Resource: yarn.Resource{MemoryMB: 512}.With("yarn.io/fpga", 1)}, // YARN-4
	} {
		if _, err := c.Submit(t.Context(), s); !errors.Is(err, yarn.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := c.Submit(t.Context(), yarn.Submission{Resource: yarn.Resource{MemoryMB: 512}.With(yarn.GPU, 1)}); err != nil {
		t.Error(err)
	}
}

// The token of an unmanaged application's master is for its owner alone.
func TestUnmanagedApplication(t *testing.T) {
	cluster := yarntest.New(t, small)
	r, err := client(t, of(cluster)).Submit(t.Context(), yarn.Submission{Unmanaged: true, Resource: yarn.Resource{MemoryMB: 1}})
	if err != nil || r.AMToken == nil || r.AMToken.Kind != yarn.KindAMRM || r.Attempt.Number != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	bob := client(t, yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}, User: "bob"})
	if r, err := bob.Report(t.Context(), r.ID); err != nil || r.AMToken != nil {
		t.Errorf("%+v %v", r.AMToken, err)
	}
}

func TestClusterAndQueues(t *testing.T) {
	c := client(t, of(yarntest.New(t, small, small.With(yarn.GPU, 2))))
	m, err := c.Metrics(t.Context())
	nodes, err2 := c.Nodes(t.Context(), yarn.NodeRunning)
	if err != nil || err2 != nil || m.Active != 2 || len(nodes) != 2 || nodes[1].Capability.Of(yarn.GPU) != 2 || nodes[0].State.String() != "RUNNING" {
		t.Error(m, nodes, err, err2)
	}
	q, err := c.Queue(t.Context(), "root")
	if err != nil || len(q.Children) != 1 || q.Children[0].Name != "default" || q.Children[0].Capacity != 1 || q.State != yarn.QueueRunning {
		t.Error(q, err)
	}
	if _, err := c.Queue(t.Context(), "nosuch"); !errors.Is(err, yarn.ErrNotFound) {
		t.Error(err)
	}
}

// YARN-2: of two ResourceManagers one is standby, then the other.
func TestResourceManagersChangeOver(t *testing.T) {
	one, two := yarntest.New(t, small), yarntest.New(t, small, small)
	one.SetStandby(true)
	c := client(t, yarn.Config{ResourceManagers: []string{one.ResourceManager(), two.ResourceManager()}, RetryInterval: time.Millisecond})
	if m, err := c.Metrics(t.Context()); err != nil || m.Active != 2 {
		t.Fatal(m, err)
	}
	one.SetStandby(false)
	two.SetStandby(true)
	if m, err := c.Metrics(t.Context()); err != nil || m.Active != 1 {
		t.Fatal(m, err)
	}
	one.SetStandby(true)
	time.AfterFunc(50*time.Millisecond, func() { two.SetStandby(false) }) // both, for a moment
	if m, err := c.Metrics(t.Context()); err != nil || m.Active != 2 {
		t.Fatal(m, err)
	}
}

// YARN-3: the answer is lost, and the submission is there once.
func TestLostAnswerOfSubmit(t *testing.T) {
	cluster := yarntest.New(t, small)
	cfg := of(cluster)
	cfg.RetryInterval = time.Millisecond
	c := client(t, cfg)
	cluster.LoseAnswer("submitApplication")
	r, err := c.Submit(t.Context(), yarn.Submission{Resource: yarn.Resource{MemoryMB: 512}})
	if err != nil || cluster.Calls("submitApplication") != 2 {
		t.Fatal(err, cluster.Calls("submitApplication"))
	}
	if list, err := c.Applications(t.Context(), yarn.Filter{}); err != nil || len(list) != 1 || list[0].ID != r.ID {
		t.Error(list, err)
	}
}

// YARN-1.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := client(t, yarn.Config{ResourceManagers: []string{l.Addr().String()}, RetryFor: -1})
	if _, err := c.Metrics(t.Context()); !errors.Is(err, yarn.ErrUnreachable) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Metrics(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := yarn.New(yarn.Config{}); err == nil || !strings.Contains(err.Error(), "ResourceManagers") {
		t.Error(err)
	}
	if _, err := yarn.New(yarn.Config{ResourceManagers: []string{"h:1"}, Protection: []string{"much"}}); err == nil {
		t.Error("a protection that is none")
	}
}

func TestCurrentUser(t *testing.T) {
	t.Setenv("HADOOP_USER_NAME", "carol")
	if u, err := yarn.CurrentUser(); err != nil || u != "carol" {
		t.Error(u, err)
	}
	os.Unsetenv("HADOOP_USER_NAME")
	if u, err := yarn.CurrentUser(); err != nil || u == "" || u == "carol" {
		t.Error(u, err)
	}
	container := map[string]string{"USER": "dave", "CONTAINER_ID": "container_1_1_1_1"}
	if u, err := yarn.UserOf(func(name string) string { return container[name] }); err != nil || u != "dave" {
		t.Error("in a container:", u, err)
	}
	container["CONTAINER_ID"] = ""
	if u, err := yarn.UserOf(func(name string) string { return container[name] }); err != nil || u == "dave" {
		t.Error("outside of one:", u, err)
	}
}

func TestFromConf(t *testing.T) {
	c := conf.New()
	c.Set("yarn.resourcemanager.hostname", "rm.example")
	cfg, err := yarn.FromConf(c)
	if want := (yarn.Config{ResourceManagers: []string{"rm.example:8032"}}); err != nil || !reflect.DeepEqual(cfg, want) {
		t.Errorf("%+v %v", cfg, err)
	}
	for k, v := range map[string]string{
		"yarn.resourcemanager.ha.enabled": "true", "yarn.resourcemanager.ha.rm-ids": "a,b", "yarn.resourcemanager.hostname.a": "one", "yarn.resourcemanager.hostname.b": "two",
		"hadoop.security.authentication": "kerberos", "yarn.resourcemanager.principal": "rm/_HOST@X", "hadoop.rpc.protection": "privacy,integrity",
		"yarn.resourcemanager.connect.max-wait.ms": "5000", "yarn.resourcemanager.connect.retry-interval.ms": "200",
	} {
		c.Set(k, v)
	}
	cfg, err = yarn.FromConf(c)
	want := yarn.Config{
		ResourceManagers: []string{"one:8032", "two:8032"}, Principal: "rm/_HOST@X", Protection: []string{"privacy", "integrity"},
		RetryFor: 5 * time.Second, RetryInterval: 200 * time.Millisecond,
	}
	if err != nil || !reflect.DeepEqual(cfg, want) {
		t.Errorf("%+v %v", cfg, err)
	}
	c.Set("yarn.resourcemanager.connect.max-wait.ms", "-1")
	if cfg, err = yarn.FromConf(c); err != nil || cfg.RetryFor < 1<<62 {
		t.Error(cfg.RetryFor, err)
	}
	if _, err := yarn.FromConf(conf.New()); err == nil || !strings.Contains(err.Error(), "yarn.resourcemanager.hostname") {
		t.Error(err)
	}
}

// An application is submitted, watched until it runs, and killed. Here the cluster is a stand-in.
func Example() {
	ctx, cluster := context.Background(), yarntest.New(&testing.T{}, yarn.Resource{MemoryMB: 8192, VCores: 8})

	client, err := yarn.New(yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	report, err := client.Submit(ctx, yarn.Submission{
		Name:     "hello",
		Resource: yarn.Resource{MemoryMB: 256, VCores: 1},
		Launch:   yarn.LaunchContext{Commands: []string{"sleep 60 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(report.Name, report.State)
	if err := client.Kill(ctx, report.ID, "that was long enough"); err != nil {
		panic(err)
	}
	report, err = client.Watch(ctx, report.ID, time.Second, nil)
	fmt.Println(report.Final, err)
	// Output:
	// hello ACCEPTED
	// KILLED <nil>
}
