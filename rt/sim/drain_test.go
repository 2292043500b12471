package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/head"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// drainRun is a cluster in which nothing goes wrong but that nodes are drained, again and again: no task that may be tried again ends by it, no actor that
// may be made again, and however often, since that is not counted.
func drainRun(t *testing.T, seed uint64, log func(string)) (c *Cluster, moved int) {
	r := rand.New(rand.NewPCG(seed, 11))
	nodes := 2 + r.IntN(3)
	c = New(Config{Seed: seed, Nodes: nodes, CPUs: 2 + r.IntN(3), Calm: true, Log: log})
	c.Run(500e6)
	var drained []*Node
	for range 100 {
		n := c.Node(r.IntN(nodes))
		switch k := r.IntN(100); {
		case k < 10 && c.driving() < 3 || len(c.drivers) == 0:
			c.Drive(n)
		case k < 20 && len(drained) < nodes-1 && !slices.Contains(drained, n):
			drained = append(drained, n)
			c.DrainNode(n, []int64{0, 1, r.Int64N(2e9)}[r.IntN(3)], false)
			moved++
		case k < 30 && len(drained) > 0:
			c.DrainNode(drained[0], 0, true)
			drained = drained[1:]
		default:
			d := c.drivers[r.IntN(len(c.drivers))]
			if !d.Here() {
				break
			}
			switch k := r.IntN(20); {
			case k == 0 && len(d.actors) < 3:
				d.createAnew(r)
			case k < 8 && len(d.actors) > 0:
				d.callAgain(d.actors[r.IntN(len(d.actors))])
			default:
				d.submit(r, []uint32{1, 4, 5, 6}[r.IntN(4)])
			}
		}
		c.Run(r.Int64N(100e6))
	}
	// Where others have room for it nothing stays on a node that is drained, be it an actor.
	c.Run(5 * second)
	for _, n := range drained {
		for _, w := range c.heldOn(n, true) {
			t.Error("with room elsewhere, on a node that was drained: ", w)
		}
	}
	for _, d := range c.drivers {
		for _, code := range d.Codes {
			t.Error("told of ", code)
		}
		if d.Here() {
			d.Free() // actors have all there is, perhaps
		}
	}
	if !c.RunUntil(60*second, c.told) {
		for _, d := range c.drivers {
			for _, w := range d.Waits() {
				t.Error(w)
			}
		}
	}
	// Nobody has anything of a node that is drained any more.
	c.Run(5 * second)
	for _, n := range drained {
		for _, w := range c.heldOn(n, false) {
			t.Error("on a node that was drained: ", w)
		}
	}
	return c, moved
}

// heldOn names the leases that the head's ledger has on a node; room: if another one that takes something has a CPU to spare.
func (c *Cluster) heldOn(n *Node, room bool) (list []string) {
	var answer head.Send
	c.head.audit = &answer
	c.head.step(head.FromAgent{Agent: c.head.links[0].agent, Msg: &fb.StateQueryT{What: "nodes"}, Corr: auditCorr})
	c.head.audit = nil
	var reply struct {
		Nodes []struct {
			Name, State string
			Free        map[string]float64
			Groups      []struct{ Name, Share string }
		}
	}
	if err := json.Unmarshal(answer.Payload, &reply); err != nil {
		return []string{err.Error()}
	}
	free := 0.0
	for _, m := range reply.Nodes {
		if m.State == "up" {
			free = max(free, m.Free["CPU"])
		}
	}
	for _, m := range reply.Nodes {
		if room && free < 1 {
			break
		}
		if m.Name != n.host.name {
			continue
		}
		if m.State != "draining" {
			list = append(list, "it is "+m.State)
		}
		for _, g := range m.Groups {
			if strings.HasPrefix(g.Name, "tasks-") && g.Share != "1 B memory" { // that may be a part of what is used elsewhere
				list = append(list, g.Name+" has "+g.Share)
			}
		}
	}
	return list
}

// createAnew makes an actor that may be made again once, and whose calls may be tried again.
func (d *Driver) createAnew(r *rand.Rand) {
	define(d.proc)
	t := d.mint()
	d.send(&fb.CreateT{Actor: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("C"), Job: d.at.Job, Shape: []uint32{1, 5, 6}[r.IntN(3)], MaxRestarts: 1, MaxTaskRetries: 1, MaxPending: -1}, nil)
	d.expect(t, 1)
	d.actors = append(d.actors, t)
}

// callAgain calls it.
func (d *Driver) callAgain(a id.Task) {
	t := d.mint()
	d.send(&fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(a), Job: d.at.Job, Shape: 1, Returns: 1}, nil)
	d.expect(t, 1)
	d.Submitted++
}

// TestDrains prints a seed's whole history with -v -first N -seeds 5, if it fails.
func TestDrains(t *testing.T) {
	drained := 0
	for seed := *first; seed < *first+max(*seeds/5, 1); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			_, n := drainRun(t, seed, nil)
			drained += n
			if t.Failed() && testing.Verbose() {
				drainRun(t, seed, func(line string) { t.Log(line) })
			}
		})
	}
	if drained < int(*seeds)/5 {
		t.Errorf("only %d nodes were drained", drained)
	}
}
