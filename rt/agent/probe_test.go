package agent_test

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/gang"
)

type waysReply struct {
	Nodes []struct {
		Name, From, Error string
		Ways              []struct {
			Carrier            string
			Latency, Bandwidth float64
			Streams            int
		}
	}
}

func askWays(t *testing.T, c *gang.Client, question string) (r waysReply) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	text, err := c.Query(ctx, "ways", question)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Ways are measured by who reads, at the same time; what is no way says so beside those that are.
func TestWaysAreMeasured(t *testing.T) {
	nodes := cluster(t, "n1", "n2", "n3")
	c := nodes[0].connect(t)
	r := askWays(t, c, `{"pairs": [["n1", "n2"], ["n2", "n3"], ["n3", "n3"], ["n1", "n4"], ["n3", "n2"]], "ms": 40}`)
	for i, want := range []string{"n1 n2", "n2 n3", "n3 n3", "n1 n4", "n3 n2"} {
		n := r.Nodes[i]
		switch {
		case n.From+" "+n.Name != want:
			t.Errorf("%d is from %s to %s, want %s", i, n.From, n.Name, want)
		case i >= 2 && !strings.Contains(n.Error, "no such way"):
			t.Errorf("%s: %+v", want, n)
		case i < 2 && (n.Error != "" || len(n.Ways) != 1 || n.Ways[0].Carrier != "tls" || n.Ways[0].Streams != agent.Streams() || n.Ways[0].Bandwidth < 1e6 || n.Ways[0].Latency <= 0 || n.Ways[0].Latency > 1):
			t.Errorf("%s: %+v", want, n)
		}
	}
}

// A node of few processors opens two connections for a value, and one of many no more than half as many as its agent uses.
func TestStreamsByProcessors(t *testing.T) {
	for procs, want := range map[int]int{1: 2, 2: 2, 6: 3, 8: 4, 192: 4} {
		before := runtime.GOMAXPROCS(procs)
		got := agent.Streams()
		runtime.GOMAXPROCS(before)
		if got != want {
			t.Errorf("of %d processors: %d connections, want %d", procs, got, want)
		}
	}
}

// A way goes without encryption where both nodes have a network named that both addresses are in, and only there.
func TestWaysWithoutEncryption(t *testing.T) {
	at := map[string][]string{"n1": {"10.0.0.0/8", "127.0.0.0/30"}, "n2": {"127.0.0.0/8"}, "n3": nil}
	nodes := clusterWith(t, func(doc *bootdoc.Doc) { doc.Clear = at[doc.Node.Name] }, "n1", "n2", "n3")
	c := nodes[0].connect(t)
	for question, want := range map[string]string{`["n1", "n2"]`: "clear", `["n2", "n1"]`: "clear", `["n1", "n3"]`: "tls", `["n3", "n2"]`: "tls"} {
		n := askWays(t, c, `{"pairs": [`+question+`], "ms": 40}`).Nodes[0]
		if n.Error != "" || len(n.Ways) != 1 || n.Ways[0].Carrier != want || n.Ways[0].Bandwidth < 1e6 {
			t.Errorf("from %s to %s, want %s: %+v", n.From, n.Name, want, n)
		}
	}
}

// A node reads for one measurement at a time.
func TestMeasurementsDoNotDisturbEachOther(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	c := nodes[0].connect(t)
	refused := func(r waysReply) bool { return strings.Contains(r.Nodes[0].Error, "another measurement") }
	until(t, "one of two at once is refused", func() bool {
		var wait sync.WaitGroup
		var one, two waysReply
		wait.Go(func() { one = askWays(t, c, `{"pairs": [["n1", "n2"]], "ms": 500}`) })
		wait.Go(func() { two = askWays(t, c, `{"pairs": [["n1", "n2"]], "ms": 500}`) })
		wait.Wait()
		if refused(one) && refused(two) || one.Nodes[0].Error != "" && two.Nodes[0].Error != "" {
			t.Fatalf("%+v, %+v", one, two)
		}
		return refused(one) || refused(two)
	})
}

// A node that dies while it is measured is an error of that way.
func TestMeasurementOfANodeThatDies(t *testing.T) {
	nodes := cluster(t, "n1", "n2", "n3")
	c := nodes[0].connect(t)
	time.AfterFunc(300*time.Millisecond, func() { _ = nodes[1].cmd.Process.Kill() })
	r := askWays(t, c, `{"pairs": [["n2", "n3"]], "ms": 3000}`)
	if r.Nodes[0].Error == "" {
		t.Errorf("%+v", r)
	}
}
