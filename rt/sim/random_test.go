package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// randomRun is a small cluster under every fault there is, for a while; then faults cease, and all
// must come to an end that is right.
func randomRun(t *testing.T, seed uint64, log func(string)) *Cluster {
	r := rand.New(rand.NewPCG(seed, 3))
	nodes := 2 + r.IntN(6)
	shape := Shape{Latency: 50e3 + r.Int64N(5e6), Jitter: r.Int64N(2e6), Loss: []float64{0, 0.01, 0.03}[r.IntN(3)]}
	c := New(Config{Seed: seed, Nodes: nodes, CPUs: 2 + r.IntN(6), Shape: shape, Log: log})
	c.Run(500e6 + r.Int64N(second))
	faults := r.IntN(12)
	split := false
	for step := 0; step < 30; step++ {
		n := c.Node(r.IntN(nodes))
		victim := c.Node(1 + r.IntN(nodes-1))
		switch k := r.IntN(20); {
		case k < 9 && n.Up():
			ranks := 1 + r.IntN(3)
			argv := []string{fmt.Sprintf("run=%dms", r.IntN(4000)), fmt.Sprintf("out=%d", r.IntN([]int{400000, 20000, 20000, 2000}[r.IntN(4)])),
				fmt.Sprintf("fail=%d:%d", r.IntN(12), 1+r.IntN(9)), fmt.Sprintf("until=%d", r.IntN(4))}
			if r.IntN(8) == 0 {
				argv = append(argv, "stubborn")
			}
			if r.IntN(15) == 0 {
				argv = append(argv, "missing")
			}
			j := Job{Bundles: 1 + r.IntN(nodes), Ranks: ranks, CPUs: 1 + r.IntN(3), Strategy: fb.Strategy(r.IntN(4)),
				MaxRestarts: r.IntN(4) - 1, Argv: argv, Port: r.IntN(2) == 0, Detached: r.IntN(6) == 0}
			if j.Detached { // its client may go, and nobody would end it
				j.MaxRestarts = max(j.MaxRestarts, 0)
			}
			c.Submit(n, j)
		case faults == 0:
		case k == 9:
			faults--
			c.CrashAgent(n)
		case k == 10:
			faults--
			c.CrashHead(r.Int64N(2e9))
		case k == 11:
			faults--
			c.CutConnections(n)
		case k == 12:
			faults--
			c.Stop(n, r.Int64N(15e8))
		case k == 13 && r.IntN(2) == 0:
			faults--
			c.PowerOff(victim)
		case k == 14 && r.IntN(2) == 0:
			faults--
			c.CrashKeeper(victim)
		case k == 15 && !split:
			faults--
			split = true
			c.Partition(1, victim)
			c.after(r.Int64N(30e9), "heal", 0, nil, func() {
				split = false
				c.Partition(0, victim)
			})
		case k == 16:
			c.Reboot(victim)
		case k == 17 && len(c.clients) > 0:
			cl := c.clients[r.IntN(len(c.clients))]
			if !cl.Gone && cl.conn != nil && !cl.Group.IsZero() {
				cl.Cancel(fb.CancelMode(r.IntN(2)), r.Int64N(2e9), 130)
			}
		case k == 18 && len(c.clients) > 0 && r.IntN(3) == 0:
			c.clients[r.IntN(len(c.clients))].Kill()
		}
		c.Run(r.Int64N(15e8))
		c.checkLedger()
	}
	for _, n := range c.nodes { // calm
		c.Partition(0, n)
		c.Reboot(n)
	}
	c.RunUntil(90*second, c.Idle)
	if !c.Idle() { // what never ends by itself is cancelled
		for _, cl := range c.clients {
			if !cl.Gone && cl.End == nil {
				cl.Cancel(fb.CancelModeStop, 0, 1)
			}
		}
		c.RunUntil(60*second, c.Idle)
	}
	return c
}

var (
	seeds = flag.Uint64("seeds", 200, "how many random clusters to try")
	first = flag.Uint64("first", 0, "the first seed")
)

// TestRandom prints a seed's whole history with -v -run TestRandom/seed=N.
func TestRandom(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 40)
	}
	for seed := *first; seed < *first+n; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			c := randomRun(t, seed, nil)
			for _, f := range append(c.Check(), c.Left()...) {
				t.Error(f)
			}
			if t.Failed() && testing.Verbose() {
				randomRun(t, seed, func(line string) { t.Log(line) }) // the same again
			}
		})
	}
}
