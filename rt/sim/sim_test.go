package sim

import (
	"testing"
	"time"
)

const second = int64(time.Second)

func quietConfig(seed uint64, nodes int) Config { return Config{Seed: seed, Nodes: nodes} }

func TestOneGang(t *testing.T) {
	c := quietConfig(1, 2)
	c.Log = func(s string) { t.Log(s) }
	cl := New(c)
	cl.Run(second)
	job := cl.Submit(cl.Node(1), Job{Bundles: 2, Ranks: 2, CPUs: 2, Argv: []string{"run=1s", "out=100000"}})
	if !cl.RunUntil(20*second, func() bool { return job.Gone }) {
		t.Errorf("no end")
	}
	cl.Run(2 * second)
	for _, f := range cl.Check() {
		t.Error(f)
	}
	for _, f := range cl.Left() {
		t.Error(f)
	}
}
