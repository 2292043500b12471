package matrix

import (
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"strings"
	"testing"
	"time"
)

func own(n int) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprint("h", i))
	}
	return hosts
}

// MATRIX-1: each pair once, nobody twice in a round, and no more rounds than a tournament has where hosts are not shared.
func TestRounds(t *testing.T) {
	for n := range 40 {
		for _, hosts := range [][]string{own(n), append(own(n/2), own(n-n/2)...), make([]string, n)} {
			rounds := Rounds(hosts)
			seen := map[Pair]bool{}
			for _, r := range rounds {
				busy := map[string]bool{}
				for _, p := range r {
					if seen[p] || p.A >= p.B || p.B >= n {
						t.Fatalf("%d nodes: pair %v", n, p)
					}
					seen[p] = true
					if hosts[p.A] != hosts[p.B] && busy[hosts[p.B]] || busy[hosts[p.A]] {
						t.Fatalf("%d nodes: %v disturb each other", n, r)
					}
					busy[hosts[p.A]], busy[hosts[p.B]] = true, true
				}
			}
			if want := n * (n - 1) / 2; len(seen) != want {
				t.Errorf("%d nodes: %d pairs, want %d", n, len(seen), want)
			}
		}
		if most := n - 1 + n%2; n > 1 && len(Rounds(own(n))) != most {
			t.Errorf("%d nodes: %d rounds, want %d", n, len(Rounds(own(n))), most)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		rounds, some int
		limit, each  time.Duration
	}{
		{0, 0, time.Minute, 0},
		{3, 3, time.Minute, time.Second},
		{63, 63, time.Minute, time.Minute/126 - around},
		{999, 200, time.Minute, shortest},
		{5, 1, time.Millisecond, shortest},
	} {
		if some, each := Fit(c.rounds, c.limit); some != c.some || each != c.each {
			t.Errorf("%d rounds in %v: %d of %v, want %d of %v", c.rounds, c.limit, some, each, c.some, c.each)
		}
	}
}

// full is a matrix of ways that are good, but for those that change says otherwise of.
func full(n int, change func(from, to int, w *Way)) *Matrix {
	m := New("tls", own(n))
	for from := range n {
		for to := range n {
			if w := (Way{Latency: 40e-6, Bandwidth: 1e9}); from != to {
				change(from, to, &w)
				m.Set(from, to, w)
			}
		}
	}
	return m
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		change func(from, to int, w *Way)
		want   string
	}{
		{"all is well", 5, func(from, to int, w *Way) { w.Bandwidth += float64(from * 1e7) }, ""},
		{"a slow node", 4, func(from, to int, w *Way) {
			if from == 2 || to == 2 {
				w.Bandwidth = 1e8
			}
		}, "h2 sends at 100 MB/s and reads at 100 MB/s, with all nodes; others have 1.0 GB/s"},
		{"the same of three", 3, func(from, to int, w *Way) {
			if from == 2 || to == 2 {
				w.Bandwidth = 1e8
			}
		}, "h2 sends at 100 MB/s and reads at 100 MB/s, with all nodes; others have 1.0 GB/s"},
		{"one that reads slowly", 6, func(from, to int, w *Way) {
			if to == 1 {
				w.Bandwidth = 3e8
			}
		}, "h1 reads at 300 MB/s, with all nodes; others have 1.0 GB/s"},
		{"one that answers late", 6, func(from, to int, w *Way) {
			if from == 5 || to == 5 {
				w.Latency = 2e-3
			}
		}, "h5 answers after 2.0 ms, to all nodes; others after 40 us"},
		{"a slow way", 6, func(from, to int, w *Way) {
			if from == 0 && to == 3 {
				w.Bandwidth = 2e8
			}
		}, "from h0 to h3 there are 200 MB/s; others have 1.0 GB/s"},
		{"two nodes", 2, func(from, to int, w *Way) {
			if to == 1 {
				w.Bandwidth = 1e8
			}
		}, "from h0 to h1 there are 100 MB/s; others have 1.0 GB/s"},
		{"microseconds more", 4, func(from, to int, w *Way) {
			if from == 1 && to == 2 {
				w.Latency, w.Bandwidth = 80e-6, 0.9e9
			}
		}, ""},
	} {
		var got []string
		for _, f := range full(c.n, c.change).Explain() {
			got = append(got, f.Text)
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), c.want)
		}
	}
	if got := New("tls", own(3)).Explain(); len(got) > 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// A picture has green where a way is as usual, red where it is not, grey where nobody knows, and nothing on the diagonal.
func TestPicture(t *testing.T) {
	m := full(3, func(from, to int, w *Way) {
		if from == 0 && to == 2 {
			w.Bandwidth = 1e8
		}
	})
	m.ways[1*3+0] = nil
	m.Set(0, 2, Way{Latency: 1, Bandwidth: 1}) // a worse measurement changes nothing
	var out bytes.Buffer
	if err := Picture(&out, []*Matrix{m, New("rdma", own(3))}); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	at := func(from, to int) color.RGBA {
		s := cell(3)
		return color.RGBAModel.Convert(img.At(margin+to*s+s/2, 2*margin+2*line+from*s+s/2)).(color.RGBA)
	}
	for _, c := range []struct {
		from, to int
		want     color.RGBA
	}{{0, 1, good}, {0, 2, bad}, {1, 0, unknown}, {1, 1, paper}} {
		if got := at(c.from, c.to); got != c.want {
			t.Errorf("from %d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
