//go:build e2e

package yarn

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
	"github.com/maniple-hpc/maniple/yarn/nm"
)

var tiny = yarn.Resource{MemoryMB: 128, VCores: 1}

// unmanaged submits an application whose master this process is.
func (b *testbed) unmanaged(t *testing.T, protection string) (*am.Master, *nm.Client, yarn.ApplicationID, <-chan am.Event) {
	t.Helper()
	ctx := within(t)
	r, err := b.client(t, "alice").Submit(ctx, yarn.Submission{Name: t.Name(), Unmanaged: true, Resource: tiny})
	if err != nil {
		t.Fatal(err)
	}
	for r.AMToken == nil { // it comes with the attempt
		if r, err = b.client(t, "alice").Report(ctx, r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	events := make(chan am.Event, 100)
	m, err := am.Register(ctx, am.Config{
		Schedulers: []string{b.rm.Scheduler}, Token: *r.AMToken, Attempt: r.Attempt, Host: "127.0.0.1", TrackingURL: "http://127.0.0.1:1/",
		Interval: 200 * time.Millisecond, Protection: strings.Fields(protection), OnEvent: func(e am.Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	n, err := nm.New(nm.Config{Token: m.NMToken, Protection: strings.Fields(protection)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return m, n, r.ID, events
}

// next gives the next event of a kind.
func next[E am.Event](t *testing.T, events <-chan am.Event) E {
	t.Helper()
	after := time.After(limit)
	for {
		select {
		case e := <-events:
			if e, ok := e.(E); ok {
				return e
			}
			if o, ok := e.(am.Over); ok {
				t.Fatal(o.Err)
			}
		case <-after:
			var none E
			t.Fatalf("no %T", none)
		}
	}
}

// The whole of a master's life, with each quality of protection.
func TestUnmanagedMaster(t *testing.T) {
	b := up(t)
	for _, protection := range []string{"authentication", "integrity", "privacy", ""} {
		t.Run("protection "+protection, func(t *testing.T) {
			ctx := within(t)
			m, n, app, events := b.unmanaged(t, protection)
			if told := m.Registered(); told.Queue != "root.default" && told.Queue != "default" || told.Max.Of(yarn.GPU) <= 0 || len(told.Types) != 3 {
				t.Errorf("%+v", told)
			}
			if err := m.Set(am.Ask{ID: 1, Count: 2, Resource: tiny.With(yarn.GPU, 1)}); err != nil {
				t.Fatal(err)
			}
			want := map[yarn.ContainerID]yarn.ExitCode{}
			for i := range 2 {
				k := next[am.Granted](t, events).Container
				if k.Ask != 1 || k.Resource.Of(yarn.GPU) != 1 {
					t.Errorf("%+v", k)
				}
				want[k.ID] = yarn.ExitCode(3 + i)
				launch := yarn.LaunchContext{
					Commands:    []string{fmt.Sprintf("test \"$A\" = b && test -s \"$HADOOP_TOKEN_FILE_LOCATION\" && exit %d; exit 1", 3+i)},
					Environment: map[string]string{"A": "b"},
					Tokens:      yarn.Credentials{Secrets: map[string][]byte{"key": []byte("value")}}.Marshal(),
				}
				if err := n.Start(ctx, k, launch); err != nil {
					t.Fatal(err)
				}
				if s, err := n.Status(ctx, k.Node, k.ID); err != nil || len(s) != 1 {
					t.Error(s, err)
				}
			}
			for range 2 {
				if s := next[am.Ended](t, events).Status; s.ExitCode != want[s.ID] || want[s.ID] == 0 {
					t.Errorf("%+v, want %v", s, want)
				}
			}
			if err := m.Finish(ctx, yarn.Succeeded, "well", ""); err != nil {
				t.Fatal(err)
			}
			r, err := b.client(t, "alice").Watch(ctx, app, 50*time.Millisecond, nil)
			if err != nil || r.State != yarn.StateFinished || r.Final != yarn.Succeeded || r.Diagnostics != "well" {
				t.Errorf("%+v %v", r, err)
			}
		})
	}
}

func TestStopReleaseAndPlacement(t *testing.T) {
	b := up(t)
	ctx := within(t)
	m, n, _, events := b.unmanaged(t, "")
	nodes, err := b.client(t, "alice").Nodes(ctx, yarn.NodeRunning)
	if err != nil || len(nodes) != 2 {
		t.Fatal(nodes, err)
	}
	if err := m.Set(am.Ask{ID: 7, Count: 1, Resource: tiny, Hosts: []string{nodes[0].ID.Host}, Strict: true}); err != nil {
		t.Fatal(err)
	}
	k := next[am.Granted](t, events).Container
	if k.Node.Host != nodes[0].ID.Host {
		t.Error(k.Node)
	}
	if err := n.Start(ctx, k, yarn.LaunchContext{Commands: []string{"exec sleep 300"}}); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(ctx, k, yarn.LaunchContext{Commands: []string{"exec sleep 300"}}); err != nil {
		t.Error("started again:", err)
	}
	if err := n.Stop(ctx, k.Node, k.ID); err != nil {
		t.Fatal(err)
	}
	if s := next[am.Ended](t, events).Status; s.ID != k.ID || s.ExitCode != yarn.ExitByMaster {
		t.Errorf("%+v", s)
	}
	if err := m.Set(am.Ask{ID: 8, Count: 1, Resource: tiny}); err != nil {
		t.Fatal(err)
	}
	k = next[am.Granted](t, events).Container
	m.Release(k.ID)
	if s := next[am.Ended](t, events).Status; s.ID != k.ID || s.ExitCode != yarn.ExitAborted {
		t.Errorf("%+v", s)
	}
	if err := m.Set(am.Ask{ID: 9, Count: 1, Resource: yarn.Resource{MemoryMB: 1 << 20, VCores: 1}}); err == nil {
		t.Error("too large an ask was taken")
	}
	if err := m.Finish(ctx, yarn.Failed, "", ""); err != nil {
		t.Error(err)
	}
}

// roleVariable makes this binary a master in a container; its value is the scheduler's address.
const roleVariable = "MANIPLE_E2E_SCHEDULER"

// playMaster is a master in a container: it knows what YARN tells it, and the scheduler.
func playMaster() int {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := func() error {
		credentials, err := yarn.ReadCredentials(os.Getenv("HADOOP_TOKEN_FILE_LOCATION"))
		if err != nil {
			return err
		}
		token, ok := credentials.Find(yarn.KindAMRM, "")
		if !ok || string(credentials.Secrets["maniple"]) != "secret" {
			return fmt.Errorf("credentials: %v", credentials)
		}
		id, err := yarn.ParseContainerID(os.Getenv("CONTAINER_ID"))
		if err != nil {
			return err
		}
		m, err := am.Register(ctx, am.Config{Schedulers: []string{os.Getenv(roleVariable)}, Token: token, Attempt: id.Attempt})
		if err != nil {
			return err
		}
		text, err := os.ReadFile("brought.txt")
		if err != nil {
			return err
		}
		return m.Finish(ctx, yarn.Succeeded, fmt.Sprintf("attempt %d brought %s", id.Attempt.Number, text), "")
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A master that is a Go program in a container of the cluster, with a file and a secret brought to it.
func TestManagedMaster(t *testing.T) {
	b := up(t)
	b.managed(t, b.client(t, "alice"))
}

func (b *testbed) managed(t *testing.T, c *yarn.Client) {
	t.Helper()
	ctx := within(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "tmp", "brought")
	if err := os.WriteFile(file, []byte("a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Submit(ctx, yarn.Submission{
		Name: "managed", Resource: tiny, MaxAttempts: 1,
		Launch: yarn.LaunchContext{
			Commands:    []string{self + " 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"},
			Environment: map[string]string{roleVariable: b.rm.Scheduler},
			Tokens:      yarn.Credentials{Secrets: map[string][]byte{"maniple": []byte("secret")}}.Marshal(),
			Files: map[string]yarn.LocalResource{"brought.txt": {
				URL: yarn.URL{Scheme: "file", Path: file}, Size: info.Size(), Timestamp: info.ModTime(), Type: yarn.File, Visibility: yarn.Application,
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err = c.Watch(ctx, r.ID, 100*time.Millisecond, nil)
	if err != nil || r.User != "alice" || r.Final != yarn.Succeeded || r.Diagnostics != "attempt 1 brought a file" {
		t.Errorf("%+v %v", r, err)
	}
}

// A killed ResourceManager comes back from its store: the master registers again by itself, its container
// has gone on, and what it still wanted is granted.
func TestResourceManagerIsKilled(t *testing.T) {
	b := up(t)
	ctx := within(t)
	m, n, app, events := b.unmanaged(t, "")
	if err := m.Set(am.Ask{ID: 1, Count: 1, Resource: tiny}); err != nil {
		t.Fatal(err)
	}
	k := next[am.Granted](t, events).Container
	if err := n.Start(ctx, k, yarn.LaunchContext{Commands: []string{"exec sleep 300"}}); err != nil {
		t.Fatal(err)
	}
	if out, err := b.script("daemon.sh kill rm"); err != nil {
		t.Fatal(out, err)
	}
	if err := m.Set(am.Ask{ID: 2, Count: 1, Resource: tiny}); err != nil {
		t.Fatal(err)
	}
	if out, err := b.script("daemon.sh start rm"); err != nil {
		t.Fatal(out, err)
	}
	next[am.Resynced](t, events)
	if other := next[am.Granted](t, events).Container; other.Ask != 2 || other.ID == k.ID {
		t.Errorf("%+v", other)
	}
	if s, err := n.Status(ctx, k.Node, k.ID); err != nil || len(s) != 1 || s[0].State != yarn.ContainerRunning {
		t.Error(s, err)
	}
	if err := m.Finish(ctx, yarn.Succeeded, "", ""); err != nil {
		t.Fatal(err)
	}
	if r, err := b.client(t, "alice").Watch(ctx, app, 100*time.Millisecond, nil); err != nil || r.Final != yarn.Succeeded {
		t.Errorf("%+v %v", r, err)
	}
}
