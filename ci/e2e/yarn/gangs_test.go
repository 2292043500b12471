//go:build e2e

package yarn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// Two gangs that each need three of a queue's four places both finish. The queue, which gives to both in turn, is full until both have asked: then each has two, gives
// them back, and one of them is first. A gang runs for longer than the other one holds anything. Masters are outside, since YARN keeps a node for who asks first,
// and starts no other master there.
func TestGangsDoNotStarve(t *testing.T) {
	g := gatewayOf(t)
	args := func(nodes, cores, command string, more ...string) []string {
		return append(append(append(more, small...), "-N", nodes, "-c", cores, "--queue", "batch", "--gang-wait", "2", "--tags", "starve"), "--", "sh", "-c", command)
	}
	free := filepath.Join(g.dir, "free")
	full := g.submit(args("2", "6", "until [ -e "+free+" ]; do sleep 0.1; done")...)
	e2e.Until(t, limit, "the queue is full", func() bool { return strings.Contains(g.run("explain", full).Stdout, "running since") })
	ended := make(chan e2e.Result, 2)
	for range 2 {
		cmd := g.command(within(t), append([]string{"submit", "--on", "yarn", "--client"}, args("3", "3", "sleep 3")...)...)
		go func() { ended <- e2e.Do(t, cmd) }()
	}
	client := g.b.client(t, "alice")
	e2e.Until(t, limit, "both have asked", func() bool {
		list, err := client.Applications(t.Context(), yarn.Filter{Tags: []string{"starve"}, States: []yarn.ApplicationState{yarn.StateRunning}})
		return err == nil && len(list) == 3
	})
	if err := os.WriteFile(free, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	gaveBack := 0
	for range 2 {
		r := <-ended
		if r.Code != 0 {
			t.Errorf("%+v", r)
		}
		gaveBack += strings.Count(r.Stderr, "they are given back")
	}
	if gaveBack == 0 {
		t.Error("neither had to give anything back")
	}
	if r := g.over(full); r.Final != yarn.Succeeded {
		t.Errorf("%+v", r)
	}
}
