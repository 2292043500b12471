package sim

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

const second = int64(time.Second)

// bigRun is a cluster whose nodes join and run gangs while one frame in a hundred is lost and some
// nodes lose their power; some of those come back, and agents of dead numbers say hello again.
func bigRun(t testing.TB, seed uint64, nodes, gangs, deaths int) *Cluster {
	c := New(Config{Seed: seed, Nodes: nodes, Shape: Shape{Latency: 200e3, Jitter: 100e3, Loss: 0.01}})
	r := rand.New(rand.NewPCG(seed, 2))
	if !c.RunUntil(30*second, func() bool { return c.Members() >= nodes }) {
		t.Fatalf("seed %d: %d of %d nodes joined in 30 s", seed, c.Members(), nodes)
	}
	var dead []*Node
	var numbers []uint32
	for i := range gangs {
		n := c.Node(r.IntN(nodes))
		if !n.Up() {
			n = c.Node(0)
		}
		c.Submit(n, Job{
			Bundles: 1 + r.IntN(8), Ranks: 1 + r.IntN(2), CPUs: 1 + r.IntN(4),
			Strategy:    fb.Strategy(r.IntN(2)),
			MaxRestarts: r.IntN(3),
			Argv:        []string{fmt.Sprintf("run=%dms", 100+r.IntN(8000)), "out=3000", fmt.Sprintf("fail=%d:3", r.IntN(40)), fmt.Sprintf("until=%d", r.IntN(3))},
		})
		c.Run(r.Int64N(100e6))
		if len(dead) < deaths && i%(gangs/deaths) == 0 {
			n := c.Node(1 + r.IntN(nodes-1))
			for !n.Up() {
				n = c.Node(1 + r.IntN(nodes-1))
			}
			dead, numbers = append(dead, n), append(numbers, n.number)
			c.PowerOff(n)
		}
		if i%100 == 50 {
			for _, f := range c.Check() {
				t.Errorf("seed %d: %s", seed, f)
			}
		}
	}
	c.Run(7 * second) // all deaths are noticed
	refused := 0
	for i, n := range dead {
		if i%2 == 0 {
			c.Reboot(n)
			c.Run(second)
		}
		var ask func()
		ask = func() { // its words may be lost, so it asks until it is answered
			c.Impostor(c.Node(0), numbers[i], 0, func(admitted bool, err error) {
				switch {
				case admitted:
					t.Errorf("seed %d: HEAD-5: the dead number %d was let in", seed, numbers[i])
				case isRefused(err):
					refused++
				default:
					ask()
				}
			})
		}
		ask()
	}
	c.RunUntil(120*second, c.Idle)
	c.Run(second)
	for _, f := range append(c.Check(), c.Left()...) {
		t.Errorf("seed %d: %s", seed, f)
	}
	if refused != len(dead) {
		t.Errorf("seed %d: %d of %d dead numbers were refused", seed, refused, len(dead))
	}
	if len(dead) != deaths {
		t.Errorf("seed %d: %d nodes died, %d should have", seed, len(dead), deaths)
	}
	ends := 0
	for _, e := range c.Ends() {
		if e != nil {
			ends++
		}
	}
	orphans := 0 // whose node died, maybe before the head heard of them
	for _, cl := range c.clients {
		if contains(dead, cl.node) {
			orphans++
		}
		if cl.node.Up() && cl.Ends != 1 && !contains(dead, cl.node) {
			t.Errorf("seed %d: client %d was told %d times of the end of %v", seed, cl.index, cl.Ends, cl.Group)
		}
	}
	if ends < gangs-orphans {
		t.Errorf("seed %d: %d of %d gangs are in the journal, and %d had a client whose node died", seed, ends, gangs, orphans)
	}
	return c
}

func contains(nodes []*Node, n *Node) bool {
	for _, o := range nodes {
		if o == n {
			return true
		}
	}
	return false
}

// TestThousandNodes is the bar: 1,000 nodes join and run 300 gangs with 1% of all frames lost and 20
// power failures. What it costs is a bar of ci/bench, not of this test.
func TestThousandNodes(t *testing.T) {
	began := cpu(t)
	c := bigRun(t, 1, 1000, 300, 20)
	used := cpu(t) - began
	t.Logf("%d events, %d frames, %d lost, %.0f s of virtual time in %.1f s of CPU", c.Events(), c.Frames, c.Lost, float64(c.Now())/1e9, used.Seconds())
	if c.Lost < c.Frames/200 {
		t.Errorf("%d of %d frames were lost: nothing was tested", c.Lost, c.Frames)
	}
}

// cpu is what this process has used so far.
func cpu(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestSameSeedSameHistory is SIM-1, on a cluster large enough to have every kind of event.
func TestSameSeedSameHistory(t *testing.T) {
	a := bigRun(t, 7, 100, 60, 5)
	b := bigRun(t, 7, 100, 60, 5)
	if a.Hash() != b.Hash() || a.Events() != b.Events() {
		t.Errorf("SIM-1: one seed gave two histories: %d events, hash %x; %d events, hash %x", a.Events(), a.Hash(), b.Events(), b.Hash())
	}
	if o := bigRun(t, 8, 100, 60, 5); o.Hash() == a.Hash() {
		t.Errorf("SIM-1: two seeds gave one history")
	}
	x, y := randomRun(t, 3, nil), randomRun(t, 3, nil)
	if x.Hash() != y.Hash() {
		t.Errorf("SIM-1: with all faults, one seed gave two histories")
	}
}
