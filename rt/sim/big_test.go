package sim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// bigRun is 1,000 nodes that join and run 300 gangs while one frame in a hundred is lost and 20
// nodes lose their power.
func bigRun(t testing.TB, seed uint64, nodes, gangs, deaths int) *Cluster {
	c := New(Config{Seed: seed, Nodes: nodes, Shape: Shape{Latency: 200e3, Jitter: 100e3, Loss: 0.01}})
	r := rand.New(rand.NewPCG(seed, 2))
	if !c.RunUntil(30*second, func() bool { return c.Members() >= nodes }) {
		t.Fatalf("seed %d: %d of %d nodes joined in 30 s", seed, c.Members(), nodes)
	}
	died := 0
	for i := range gangs {
		n := c.Node(r.IntN(nodes))
		if !n.Up() {
			n = c.Node(0)
		}
		c.Submit(n, Job{
			Bundles: 1 + r.IntN(8), Ranks: 1 + r.IntN(2), CPUs: 1 + r.IntN(4),
			Strategy:    fb.Strategy(r.IntN(4) &^ 2),
			MaxRestarts: r.IntN(3),
			Argv:        []string{fmt.Sprintf("run=%dms", 100+r.IntN(8000)), "out=3000", fmt.Sprintf("fail=%d:3", r.IntN(40)), fmt.Sprintf("until=%d", r.IntN(3))},
		})
		c.Run(r.Int64N(100e6))
		if died < deaths && i%(gangs/deaths) == 0 {
			if n := c.Node(1 + r.IntN(nodes-1)); n.Up() {
				died++
				c.PowerOff(n)
			}
		}
		if i%100 == 50 {
			for _, f := range c.Check() {
				t.Errorf("seed %d: %s", seed, f)
			}
		}
	}
	c.RunUntil(120*second, func() bool { return len(c.Left()) == 0 })
	c.Run(second)
	for _, f := range append(c.Check(), c.Left()...) {
		t.Errorf("seed %d: %s", seed, f)
	}
	return c
}

func TestThousandNodes(t *testing.T) {
	began := time.Now()
	c := bigRun(t, 1, 1000, 300, 20)
	t.Logf("%d events, %d frames (%d lost), %.0f s of virtual time in %.1f s", c.Events(), c.Frames, c.Lost, float64(c.Now())/1e9, time.Since(began).Seconds())
}
