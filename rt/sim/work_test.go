package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// workRun is a small cluster with drivers, under faults for a while; then faults cease, and every driver whose agent lives is
// told of all that it asked for, and in the end nothing is left.
func workRun(t *testing.T, seed uint64, log func(string)) *Cluster {
	r := rand.New(rand.NewPCG(seed, 5))
	nodes := 2 + r.IntN(3)
	shape := Shape{Latency: 50e3 + r.Int64N(2e6), Jitter: r.Int64N(1e6), Loss: []float64{0, 0, 0.01}[r.IntN(3)]}
	c := New(Config{Seed: seed, Nodes: nodes, CPUs: 2 + r.IntN(3), GPUs: int(seed % 3), Shape: shape, Log: log})
	c.Run(500e6)
	faults := r.IntN(5)
	for range 120 {
		n := c.Node(r.IntN(nodes))
		switch k := r.IntN(200); {
		case k < 8 && c.driving() < 4 || len(c.drivers) == 0:
			if n.agent != nil {
				c.Drive(n)
			}
		case k < 11 && n.Up():
			c.Submit(n, Job{Bundles: 1 + r.IntN(nodes), Strategy: fb.Strategy(r.IntN(4)), Argv: []string{"run=200ms"}})
		case k < 15 && n.agent != nil:
			c.DrainNode(n, []int64{0, 1, r.Int64N(3e9)}[r.IntN(3)], r.IntN(3) == 0)
		case k > 190 && faults > 0:
			faults--
			switch victim := c.Node(1 + r.IntN(nodes-1)); r.IntN(7) {
			case 0:
				c.CrashAgent(n)
			case 1:
				c.CrashHead(r.Int64N(2e9))
			case 2:
				c.CutConnections(n)
			case 3:
				c.Stop(n, r.Int64N(15e8))
			case 4:
				c.Partition(1, n)
				c.after(r.Int64N(30e9), "heal", 0, nil, func() { c.Partition(0, n) })
			case 5:
				c.PowerOff(victim)
			case 6:
				c.CrashKeeper(victim)
			}
		default:
			if d := c.drivers[r.IntN(len(c.drivers))]; d.Here() {
				for range 1 + r.IntN(3) {
					d.Act(r)
				}
			}
		}
		c.Run(r.Int64N(100e6))
		shared(t, c)
	}
	for _, n := range c.nodes { // calm
		c.Partition(0, n)
		c.Reboot(n)
		c.DrainNode(n, 0, true)
	}
	for _, d := range c.drivers {
		if d.Here() {
			d.Free()
		}
	}
	if !c.RunUntil(120*second, c.told) {
		for _, d := range c.drivers {
			for _, w := range d.Waits() {
				t.Error(w)
			}
		}
	}
	for _, d := range c.drivers {
		if d.Here() {
			d.LetGo()
		}
	}
	c.Run(2 * second)
	for _, d := range c.drivers {
		d.end(0, 0)
	}
	left := func() (left []string) {
		for _, n := range c.nodes {
			if n.agent != nil {
				for _, w := range n.agent.shell.Left() {
					left = append(left, n.host.name+": "+w)
				}
			}
		}
		return left
	}
	c.RunUntil(90*second, func() bool { return len(left()) == 0 && c.Idle() })
	for _, w := range append(append(c.Check(), c.Left()...), left()...) {
		t.Error(w)
	}
	return c
}

// shared: tasks and groups have no more of a device than it is.
func shared(t *testing.T, c *Cluster) {
	for _, n := range c.nodes {
		if n.agent == nil {
			continue
		}
		for id, amount := range n.agent.shell.Devices() {
			if amount > 10_000 {
				t.Errorf("%d of %s is used at %d", amount, id, c.Now())
			}
		}
	}
}

// TestRandomWork prints a seed's whole history with -v -first N -seeds 5, if it fails.
func TestRandomWork(t *testing.T) {
	submitted, away := 0, 0
	for seed := *first; seed < *first+max(*seeds/5, 1); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			c := workRun(t, seed, nil)
			for _, d := range c.drivers {
				submitted += d.Submitted
			}
			away += int(c.Errands)
			if seed%8 == 0 && !t.Failed() {
				if again := workRun(t, seed, nil); again.Hash() != c.Hash() {
					t.Error("SIM-1: the same seed gave another history")
				}
			}
			if t.Failed() && testing.Verbose() {
				workRun(t, seed, func(line string) { t.Log(line) })
			}
		})
	}
	if n := int(max(*seeds/5, 1)); n > 20 && (submitted < 50*n || away < 20*n) {
		t.Errorf("only %d tasks and %d messages of tasks between nodes in %d clusters", submitted, away, n)
	}
}

// A task that no node can have is told so at once, each time that one is submitted.
func TestTasksThatNoNodeCanHave(t *testing.T) {
	c := New(Config{Seed: 1, Nodes: 2, CPUs: 2})
	c.Run(second)
	d := c.Drive(c.Node(0))
	c.Run(second)
	define(d.proc)
	d.send(&fb.ShapeT{Number: 90, Resources: cpus(10_000), Retries: 3, Bundle: -1, Labels: []*fb.LabelT{{Key: "disk", Value: "fast"}}}, nil)
	for round := range 3 {
		name := d.mint()
		d.send(&fb.SubmitT{Task: taskT(name), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: d.at.Job, Shape: 90, Returns: 1}, nil)
		d.expect(name, 1)
		if !c.RunUntil(2*second, c.told) || len(d.Codes) != round+1 || !strings.HasPrefix(d.Codes[round], "TASK_UNSCHEDULABLE: ") {
			t.Fatalf("task %d: after 2 s the driver was told %q; %q", round+1, d.Codes, d.Waits())
		}
		c.Run(5 * second)
	}
}
