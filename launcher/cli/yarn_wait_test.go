package cli

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

// outage is where a command's messages go; it ends an outage once that was told.
type outage struct {
	bytes.Buffer
	over func()
}

func (o *outage) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "goes on, and is waited for") && o.over != nil {
		o.over()
		o.over = nil
	}
	return o.Buffer.Write(b)
}

// An application goes on while no ResourceManager answers, and so does the command that waits for its end.
func TestWaitOutlivesResourceManagers(t *testing.T) {
	cluster := yarntest.New(t, yarn.Resource{MemoryMB: 1024, VCores: 4})
	client := &site{}
	if err := client.open(yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}, User: "alice", RetryFor: -1}); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	a := &yarnbackend.Application{Master: yarn.Resource{MemoryMB: 128, VCores: 1}}
	a.Job.Cluster, a.Job.Secret, a.Job.MinNodes, a.Job.Size = strings.Repeat("0", 32), bytes.Repeat([]byte{1}, 32), 1, a.Master
	if err := a.Check(t.Context(), client.Client); err != nil {
		t.Fatal(err)
	}
	said := &outage{}
	getenv := func(string) string { return "" }
	c := &call{app: &app{stdout: io.Discard, stderr: said, getenv: getenv}, ctx: t.Context(), page: &page{name: "submit"}}
	if _, err := a.Submit(t.Context(), client.Client); err != nil {
		t.Fatal(err)
	}
	said.over = func() {
		cluster.SetStandby(false)
		if err := client.Kill(t.Context(), a.ID, "by its test"); err != nil {
			t.Error(err)
		}
	}
	cluster.SetStandby(true)
	if err := c.waitApplication(client, a.ID, false, false, nil); err == nil {
		t.Error("an application that was killed has ended well")
	}
	if text := said.String(); strings.Count(text, "is waited for") != 1 || !strings.Contains(text, "KILLED") {
		t.Error(text)
	}
}

// Who waits is told within a minute or so that nobody answers, also where a site has clients try for ever.
func TestWaitTellsOfResourceManagers(t *testing.T) {
	first := make(chan os.Signal, 1) // the runtime's own goroutine for signals begins outside of the bubble
	signal.Notify(first, syscall.SIGWINCH)
	signal.Stop(first)
	synctest.Test(t, func(t *testing.T) {
		client := &site{}
		nobody := func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		if err := client.open(yarn.Config{ResourceManagers: []string{"rm:8032"}, User: "alice", RetryFor: math.MaxInt64, Dial: nobody}); err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		var told time.Duration
		said := &outage{over: func() { told = time.Since(began); cancel() }}
		c := &call{app: &app{stdout: io.Discard, stderr: said}, ctx: ctx, page: &page{name: "submit"}}
		_ = c.waitApplication(client, yarn.ApplicationID{ClusterTimestamp: 17, Number: 1}, false, false, nil)
		if told == 0 || told > toldAfter {
			t.Error(told, said.String())
		}
	})
}
