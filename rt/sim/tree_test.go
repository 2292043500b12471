package sim

import (
	"fmt"
	"testing"
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
						d.Plant(k.of)
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
				d.Plant(tree{3, 1})
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
