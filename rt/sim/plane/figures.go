package plane

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
)

// What is moved. All at the same moment, which is the worst.
const (
	wide   = int64(256 << 20) // one value, to all other nodes
	paired = int64(64 << 20)  // one value of each node, to the next one
	small  = int64(2 << 20)   // values of each node
	many   = 32               // of which each wants so many, of other nodes drawn by lot
)

// Figures are of a cluster of so many nodes. Times are shares of their bounds.
type Figures struct {
	Nodes     int
	Seconds   float64 // of the broadcast
	Broadcast float64 // until all nodes have what one of them has
	Copies    float64 // of it that left that one
	Questions float64 // that it was asked, for each node
	Pairs     float64 // until each node has what another one has
	Shuffle   float64 // until each node has many values of many nodes
}

// Measure runs three clusters. The same number of nodes gives the same figures.
func Measure(cfg Config) (Figures, error) {
	f := Figures{Nodes: cfg.Nodes}
	n, second := cfg.Nodes, 1e9

	c := New(cfg)
	cfg = c.cfg
	o := c.Put(0, wide)
	for i := 1; i < n; i++ {
		c.Want(i, o)
	}
	took, err := c.Run()
	if err != nil {
		return f, err
	}
	// The value has to leave its node once, and who has it can at best be twice as many after each message.
	bound := float64(wide)/cfg.Rate*second + float64(bits.Len(uint(n-1)))*float64(cfg.Latency)
	f.Seconds, f.Broadcast, f.Copies, f.Questions = float64(took)/second, float64(took)/bound, float64(c.Stat(0).Sent)/float64(wide), float64(c.Stat(0).Questions)/float64(n-1)

	c = New(cfg)
	for i := range n {
		c.Want((i+1)%n, c.Put(i, paired))
	}
	if took, err = c.Run(); err != nil {
		return f, err
	}
	f.Pairs = float64(took) / (float64(paired)/cfg.Rate*second + float64(cfg.Latency))

	c = New(cfg)
	rng, out, most := rand.New(rand.NewPCG(1, uint64(n))), make([]int64, n), int64(0)
	for i := range n {
		for range many {
			from := rng.IntN(n - 1)
			if from >= i {
				from++
			}
			c.Want(i, c.Put(from, small))
			out[from] += small
			most = max(most, out[from])
		}
	}
	if took, err = c.Run(); err != nil {
		return f, err
	}
	// The node of which most is wanted has to send that.
	f.Shuffle = float64(took) / (float64(max(most, many*small))/cfg.Rate*second + float64(cfg.Latency))
	return f, nil
}

// Table is the figures as Markdown.
func Table(list []Figures) string {
	var b strings.Builder
	b.WriteString("| nodes | broadcast of 256 MiB | of its bound | copies that leave the first node | questions to it, for each node | pairs: of the bound | shuffle: of the bound |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, f := range list {
		fmt.Fprintf(&b, "| %d | %.3f s | %.2f | %.2f | %.2f | %.2f | %.2f |\n", f.Nodes, f.Seconds, f.Broadcast, f.Copies, f.Questions, f.Pairs, f.Shuffle)
	}
	return b.String()
}

// Plot is the figures as SVG: times over their bounds, by the number of nodes.
func Plot(list []Figures) string {
	const left, top, width, height, highest = 50.0, 20.0, 520.0, 240.0, 3.0
	first, last := math.Log2(float64(list[0].Nodes)), math.Log2(float64(list[len(list)-1].Nodes))
	x := func(nodes int) float64 { return left + (math.Log2(float64(nodes))-first)/(last-first)*width }
	y := func(v float64) float64 { return top + height - v/highest*height }
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" width="720" height="310" font-family="sans-serif" font-size="12">` + "\n" + `<rect width="720" height="310" fill="white"/>` + "\n")
	for v := 0.0; v <= highest; v++ {
		fmt.Fprintf(&b, `<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="%s"/><text x="%g" y="%.1f" text-anchor="end">%g</text>`+"\n", left, y(v), left+width, y(v), map[bool]string{true: "black", false: "#ccc"}[v == 1], left-6, y(v)+4, v)
	}
	for _, f := range list {
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%d</text>`+"\n", x(f.Nodes), top+height+18, f.Nodes)
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle">nodes; time over the bound, which is 1</text>`+"\n", left+width/2, top+height+38)
	for _, line := range []struct {
		name, colour string
		of           func(Figures) float64
	}{
		{"broadcast", "#c00", func(f Figures) float64 { return f.Broadcast }},
		{"pairs", "#06c", func(f Figures) float64 { return f.Pairs }},
		{"shuffle", "#080", func(f Figures) float64 { return f.Shuffle }},
	} {
		var points []string
		for _, f := range list {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(f.Nodes), y(line.of(f))))
		}
		end := list[len(list)-1]
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%.1f" y="%.1f" fill="%s">%s %.2f</text>`+"\n", strings.Join(points, " "), line.colour, x(end.Nodes)+6, y(line.of(end))+4, line.colour, line.name, line.of(end))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
