package plane

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "make docs/perf/simulated-data-plane.* anew")

const page = "../../../docs/perf/simulated-data-plane"

var sizes = []int{2, 8, 64, 256, 1000}

// What docs/perf shows is what comes of the code that is here. With -rewrite, of all sizes; else of those that take no time.
func TestPageIsCurrent(t *testing.T) {
	text, err := os.ReadFile(page + ".md")
	if err != nil && !*rewrite {
		t.Fatal(err)
	}
	var list []Figures
	for _, n := range sizes {
		if n > 64 && !*rewrite {
			continue
		}
		f, err := Measure(Config{Nodes: n})
		if err != nil {
			t.Fatalf("%d nodes: %v", n, err)
		}
		list = append(list, f)
	}
	rows := Table(list)
	if !*rewrite {
		if !strings.Contains(string(text), rows) {
			t.Errorf("%s.md does not have\n%s; go test ./rt/sim/plane -rewrite makes it anew", page, rows)
		}
		return
	}
	before, _, found := strings.Cut(string(text), "| nodes |")
	if !found {
		t.Fatalf("%s.md has no table", page)
	}
	if err := os.WriteFile(page+".md", []byte(before+rows), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page+".svg", []byte(Plot(list)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Verifies PLANE-1, and that a link carries no more than it can: a value takes as long as its bytes do, each way on its own, and two that leave one node or come
// to one node take twice that.
func TestLinksAreShared(t *testing.T) {
	const size, latency = int64(125_000_000), int64(1_000_000) // 0.1 s
	for name, moves := range map[string]struct {
		from, to []int
		tenths   float64
	}{
		"one":             {[]int{0}, []int{1}, 1},
		"both ways":       {[]int{0, 1}, []int{1, 0}, 1},
		"two leave":       {[]int{0, 0}, []int{1, 2}, 2},
		"two come":        {[]int{0, 1}, []int{2, 2}, 2},
		"through a third": {[]int{0, 1}, []int{1, 2}, 1},
	} {
		c := New(Config{Nodes: 3, Latency: latency})
		for i, from := range moves.from {
			c.Want(moves.to[i], c.Put(from, size))
		}
		took, err := c.Run()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if tenths := float64(took) / 1e8; tenths < moves.tenths || tenths > moves.tenths+0.15 {
			t.Errorf("%s: %.3f tenths of a second, want a little more than %g", name, tenths, moves.tenths)
		}
		sent, received := int64(0), int64(0)
		for i := range 3 {
			sent, received = sent+c.Stat(i).Sent, received+c.Stat(i).Received
		}
		if want := size * int64(len(moves.from)); sent != want || received != want {
			t.Errorf("%s: PLANE-1: %d bytes were sent and %d received, want %d", name, sent, received, want)
		}
	}
}

// Who wants what nobody sends is told so.
func TestNothingIsLostInSilence(t *testing.T) {
	c := New(Config{})
	o := c.Put(0, 1<<20)
	c.Want(1, o)
	c.events = nil
	if _, err := c.Run(); err == nil || !strings.Contains(err.Error(), "1 fetches wait for nothing") {
		t.Errorf("%v", err)
	}
}
