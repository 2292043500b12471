package matrix

import (
	"fmt"
	"slices"
	"strings"
)

// Way is what was measured of the bytes from one node to another.
type Way struct {
	Latency   float64 `json:"latency"`   // seconds that a read of 8 bytes takes
	Bandwidth float64 `json:"bandwidth"` // bytes in a second
}

// Matrix is the ways between nodes by one carrier.
type Matrix struct {
	Carrier string
	Nodes   []string
	ways    []*Way // nil: not measured
}

// New makes one of which nothing is known.
func New(carrier string, nodes []string) *Matrix {
	return &Matrix{Carrier: carrier, Nodes: nodes, ways: make([]*Way, len(nodes)*len(nodes))}
}

// Set says what was measured from one node to another. Of several measurements the best counts: the others were disturbed.
func (m *Matrix) Set(from, to int, w Way) {
	if old := m.Get(from, to); old != nil {
		w = Way{Latency: min(w.Latency, old.Latency), Bandwidth: max(w.Bandwidth, old.Bandwidth)}
	}
	m.ways[from*len(m.Nodes)+to] = &w
}

// Get gives it; nil: it was not measured.
func (m *Matrix) Get(from, to int) *Way { return m.ways[from*len(m.Nodes)+to] }

// Measured counts the ways that were.
func (m *Matrix) Measured() (n int) {
	for _, w := range m.ways {
		if w != nil {
			n++
		}
	}
	return n
}

// usual is what the better ways have: the quarter from the top, which a few slow nodes do not change.
func usual(values []float64, large bool) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	if large {
		return values[(len(values)*3)/4]
	}
	return values[(len(values)-1)/4]
}

// pick gives a value of all ways that were measured and that want wants.
func (m *Matrix) pick(of func(*Way) float64, want func(from, to int) bool) (values []float64) {
	for from := range m.Nodes {
		for to := range m.Nodes {
			if w := m.Get(from, to); w != nil && want(from, to) {
				values = append(values, of(w))
			}
		}
	}
	return values
}

// Usual gives what a way usually has here.
func (m *Matrix) Usual() Way {
	all := func(int, int) bool { return true }
	return Way{Latency: usual(m.pick(latency, all), false), Bandwidth: usual(m.pick(bandwidth, all), true)}
}

func latency(w *Way) float64   { return w.Latency }
func bandwidth(w *Way) float64 { return w.Bandwidth }

// Finding is what is slower than the rest.
type Finding struct {
	Nodes []string `json:"nodes"` // one, or the sending and the reading one
	Text  string   `json:"text"`
	Do    string   `json:"do"`
}

const (
	slow    = 0.6   // of the usual bandwidth: a node that has no more is slow
	slowWay = 0.5   // and a single way
	late    = 3.0   // times the usual latency: more is late,
	atLeast = 50e-6 // if it is so much more, in seconds
)

// Explain names what is slow: first nodes of which no way is good, to which or from which, then single ways between others.
func (m *Matrix) Explain() (out []Finding) {
	u := m.Usual()
	n := len(m.Nodes)
	blame := make([]bool, n)
	if n > 2 { // of two, nobody says which it is
		for at, name := range m.Nodes {
			sends := m.pick(bandwidth, func(from, _ int) bool { return from == at })
			reads := m.pick(bandwidth, func(_, to int) bool { return to == at })
			took := m.pick(latency, func(from, to int) bool { return from == at || to == at })
			if len(sends) == 0 && len(reads) == 0 {
				continue
			}
			var what []string
			if best := usual(sends, true); len(sends) > 0 && best < slow*u.Bandwidth {
				what = append(what, "sends at "+Speed(best))
			}
			if best := usual(reads, true); len(reads) > 0 && best < slow*u.Bandwidth {
				what = append(what, "reads at "+Speed(best))
			}
			if len(what) > 0 {
				blame[at] = true
				out = append(out, Finding{[]string{name}, fmt.Sprintf("%s %s, with all nodes; others have %s", name, strings.Join(what, " and "), Speed(u.Bandwidth)),
					"look at its interface (which one, at what speed), its cable, and at what else runs there"})
			}
			if best := usual(took, false); best > late*u.Latency && best > u.Latency+atLeast {
				blame[at] = true
				out = append(out, Finding{[]string{name}, fmt.Sprintf("%s answers after %s, to all nodes; others after %s", name, Time(best), Time(u.Latency)),
					"look at what else runs there, and whether its processors sleep deeply"})
			}
		}
	}
	for from := range n {
		for to := range n {
			w := m.Get(from, to)
			if w == nil || blame[from] || blame[to] {
				continue
			}
			var what string
			switch {
			case w.Bandwidth < slowWay*u.Bandwidth:
				what = fmt.Sprintf("from %s to %s there are %s; others have %s", m.Nodes[from], m.Nodes[to], Speed(w.Bandwidth), Speed(u.Bandwidth))
			case w.Latency > late*u.Latency && w.Latency > u.Latency+atLeast:
				what = fmt.Sprintf("from %s to %s it takes %s; others take %s", m.Nodes[from], m.Nodes[to], Time(w.Latency), Time(u.Latency))
			default:
				continue
			}
			out = append(out, Finding{[]string{m.Nodes[from], m.Nodes[to]}, what, "it is the way and not the nodes: look at the switches between them, and at who else uses those"})
		}
	}
	return out
}

// Speed writes a bandwidth as people read it.
func Speed(v float64) string {
	switch {
	case v >= 1e9:
		return fmt.Sprintf("%.1f GB/s", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.0f MB/s", v/1e6)
	}
	return fmt.Sprintf("%.0f kB/s", v/1e3)
}

// Time writes a latency.
func Time(v float64) string {
	switch {
	case v >= 1:
		return fmt.Sprintf("%.1f s", v)
	case v >= 1e-3:
		return fmt.Sprintf("%.1f ms", v*1e3)
	case v < 1e-5: // of a fabric
		return fmt.Sprintf("%.1f us", v*1e6)
	}
	return fmt.Sprintf("%.0f us", v*1e6)
}
