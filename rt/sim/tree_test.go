package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// TestChildrenOfTasksElsewhere: tasks that wait for tasks which they have started lend those their CPUs, on whichever node they run, to any depth.
func TestChildrenOfTasksElsewhere(t *testing.T) {
	for _, k := range []struct {
		name        string
		nodes, cpus int
		drivers     int
		trees       int
		of          tree
	}{
		{"parents on both nodes", 2, 1, 1, 4, tree{1, 3}},
		{"depth 20", 2, 1, 1, 2, tree{20, 1}},
		{"a tree", 3, 1, 1, 3, tree{4, 2}},
		{"two drivers", 2, 1, 2, 3, tree{3, 2}},
		{"many drivers", 3, 2, 6, 3, tree{2, 3}},
	} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(k.name, " seed=", seed), func(t *testing.T) {
				c := New(Config{Seed: seed, Nodes: k.nodes, CPUs: k.cpus, Shape: Shape{Latency: 1e5, Jitter: 1e5}})
				c.Run(500e6)
				for i := range k.drivers {
					c.Drive(c.Node(i % k.nodes))
				}
				c.Run(100e6)
				for _, d := range c.drivers {
					for range k.trees {
						d.Plant(k.of, steady)
					}
				}
				if !c.RunUntil(60*second, func() bool { return c.told() }) {
					for _, d := range c.drivers {
						for _, w := range d.Waits() {
							t.Error(w)
						}
					}
				}
				if k.drivers == 1 && c.Errands == 0 {
					t.Error("all ran on one node")
				}
			})
		}
	}
}

// told tells whether all drivers were told of all that they asked for.
func (c *Cluster) told() bool {
	for _, d := range c.drivers {
		if len(d.Waits()) > 0 {
			return false
		}
	}
	return true
}

// TestChildrenOnWhatIsRecalled: a gang waits for the CPUs of tasks that wait for others. These start still, and nothing else does, so that it has them soon.
func TestChildrenOnWhatIsRecalled(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			nodes := 1 + int(seed%2)
			c := New(Config{Seed: seed, Nodes: nodes, CPUs: 1, Shape: Shape{Latency: 1e5, Jitter: 1e5}})
			c.Run(500e6)
			d := c.Drive(c.Node(0))
			c.Run(100e6)
			for range 40 {
				d.Plant(tree{3, 1}, steady)
			}
			c.Run(300e6 + int64(seed)*7e6)
			gang := c.Submit(c.Node(0), Job{Bundles: nodes, Argv: []string{"run=100ms"}})
			if !c.RunUntil(3*second, func() bool { return gang.End != nil }) {
				t.Errorf("the gang waits still, %s; of %d tasks %d run or wait", gang.Explain, d.Submitted, len(d.Waits()))
			}
			if len(d.Waits()) == 0 {
				t.Error("it waited for all tasks")
			}
			if !c.RunUntil(120*second, c.told) {
				t.Error(d.Waits()[0])
			}
		})
	}
}

// TestChainsBesideLastingTasks: a chain of tasks that wait for one another never waits for a task that lasts, as long as one CPU has none of those: not behind it
// in a worker, where it may have been put because the function took no time before, nor for what another node counts.
func TestChainsBesideLastingTasks(t *testing.T) {
	for seed := range *seeds / 4 {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			nodes := 1 + r.IntN(3)
			cpus := max(2/nodes, 1) + r.IntN(2)
			c := New(Config{Seed: seed, Nodes: nodes, CPUs: cpus, Calm: true, Shape: Shape{Latency: 1e5, Jitter: 1e5}})
			c.Run(500e6)
			for range 1 + r.IntN(2) {
				c.Drive(c.Node(r.IntN(nodes)))
			}
			c.Run(100e6)
			some := func() *Driver { return c.drivers[r.IntN(len(c.drivers))] }
			for range 2 {
				for d, n := some(), r.IntN(200); n > 0; n-- {
					d.plant(tree{0, 1}, quick, 1)
				}
				c.RunUntil(10*second, c.told)
				c.Run(r.Int64N(2) * r.Int64N(second))
				long, chains := 1+r.IntN(nodes*cpus-1), 1+r.IntN(3)
				waits := map[id.Object]*Driver{}
				for long+chains > 0 {
					d := some()
					if r.IntN(long+chains) < long {
						long--
						d.plant(tree{0, 1}, lasting, 1)
					} else {
						chains--
						waits[d.plant(tree{uint8(1 + r.IntN(20)), 1}, pace(r.IntN(2)), 1)] = d
					}
					c.Run(r.Int64N(3) * r.Int64N(4e6))
				}
				late := func() (list []string) {
					for o, d := range waits {
						if slices.Contains(d.waits(), o) {
							list = append(list, d.agent.shell.Explain(o.Task))
						}
					}
					return list
				}
				if !c.RunUntil(30*second, func() bool { return len(late()) == 0 }) {
					t.Errorf("%d nodes of %d CPUs: after 30 s chains wait: %v", nodes, cpus, late())
				}
				if !c.RunUntil(70*second, c.told) {
					t.Error("not all ended")
				}
			}
		})
	}
}
