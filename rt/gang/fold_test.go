package gang

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what scripts print into testdata; read the diff")

// TestFold runs the scripts in testdata/fold: lines of "ms rank text", then what is written when.
func TestFold(t *testing.T) {
	files, _ := filepath.Glob("testdata/fold/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(data), "----\n")
			got := runFold(t, script)
			if *rewrite {
				if err := os.WriteFile(file, []byte(script+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("wrote\n%swant\n%s", got, want)
			}
		})
	}
}

func runFold(t *testing.T, script string) string {
	var f *folder
	var w bytes.Buffer
	var got strings.Builder
	now := int64(0)
	show := func() {
		_ = f.flush()
		for line := range strings.Lines(w.String()) {
			fmt.Fprintf(&got, "%d %s", now, line)
		}
		w.Reset()
	}
	until := func(end int64) {
		for f.next() != 0 && f.next() <= end*1e6 {
			now = f.next() / 1e6
			f.release(f.next())
			show()
		}
		now = end
	}
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.SplitN(line, " ", 3)
		switch fields[0] {
		case "ranks":
			world, _ := strconv.Atoi(fields[1])
			f = newFolder(&w, world, len(fields) > 2 && fields[2] == "plain", nil)
			continue
		case "gone":
			rank, _ := strconv.Atoi(fields[1])
			f.gone(rank)
			f.release(now * 1e6)
			show()
			continue
		}
		at, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil || len(fields) < 2 {
			t.Fatalf("script: %q", line)
		}
		until(at)
		text := ""
		if len(fields) > 2 {
			text = fields[2]
		}
		for _, r := range ranksIn(t, fields[1]) {
			f.add(origin{rank: r}, []byte(text), at*1e6)
		}
		show()
	}
	until(now + 1000)
	return got.String()
}

func ranksIn(t *testing.T, s string) (out []int) {
	for _, part := range strings.Split(s, ",") {
		from, to, many := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		b := a
		if many {
			b, _ = strconv.Atoi(to)
		}
		if err != nil {
			t.Fatalf("script: ranks %q", s)
		}
		for ; a <= b; a++ {
			out = append(out, a)
		}
	}
	return out
}

func TestRankSet(t *testing.T) {
	for _, tc := range []struct {
		ranks []int
		want  string
	}{
		{[]int{3, 1, 2, 0}, "0-3"}, {[]int{0, 2, 3, 9}, "0,2-3,9"}, {[]int{5, 5}, "5"},
		{[]int{0, 2, 4, 6, 8, 10}, "x6 ranks"},
	} {
		if got := rankSet(tc.ranks); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.ranks, got, tc.want)
		}
	}
}

// Whatever the ranks say and when: each line comes out once for each rank that said it, and the lines
// of a rank in their order; none after more than FoldFor.
func TestFoldKeepsEveryLineInOrder(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		world := 1 + rnd.IntN(5)
		var w bytes.Buffer
		f := newFolder(&w, world, false, nil)
		said := make([][]string, world)
		now := int64(0)
		for range 200 {
			now += int64(rnd.IntN(20)) * 1e6
			if rnd.IntN(10) == 0 {
				now += int64(FoldFor)
			}
			f.release(now)
			if n := f.next(); n != 0 && n <= now {
				t.Fatalf("seed %d: a line waits since %d", seed, now-n)
			}
			r, text := rnd.IntN(world), fmt.Sprint("line ", rnd.IntN(4))
			said[r] = append(said[r], text)
			f.add(origin{rank: r}, []byte(text), now)
		}
		f.drain()
		_ = f.flush()
		got := make([][]string, world)
		for line := range strings.Lines(w.String()) {
			set, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "] ")
			if world == 1 {
				set, text, ok = "[0", strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "[0] "), true
			}
			if !ok {
				t.Fatalf("seed %d: %q", seed, line)
			}
			for _, r := range ranksIn(t, set[1:]) {
				got[r] = append(got[r], text)
			}
		}
		for r := range said {
			if strings.Join(got[r], "|") != strings.Join(said[r], "|") {
				t.Fatalf("seed %d: rank %d said\n%v\nwritten was\n%v", seed, r, said[r], got[r])
			}
		}
	}
}

func TestFoldIsBounded(t *testing.T) {
	var w bytes.Buffer
	f := newFolder(&w, 2, false, nil)
	for i := range 3 * foldLines {
		f.add(origin{}, []byte(strconv.Itoa(i)), 0)
	}
	if n := len(f.queue) - f.head; n > foldLines+1 {
		t.Errorf("%d lines wait", n)
	}
	f = newFolder(&w, 2, false, nil)
	for i := range 300 {
		f.add(origin{}, append(bytes.Repeat([]byte("x"), maxLine), strconv.Itoa(i)...), 0)
	}
	if f.bytes > foldBytes+2*maxLine {
		t.Errorf("%d bytes wait", f.bytes)
	}
}

func TestLines(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []string
		want []string
		rest string
	}{
		{"whole", []string{"a\nb\n"}, []string{"a", "b"}, ""},
		{"in pieces", []string{"a", "b", "c\nd", "e"}, []string{"abc"}, "de"},
		{"carriage return and newline", []string{"a\r\nb\r", "\n"}, []string{"a", "b"}, ""},
		{"a progress bar", []string{"\r 10%", "\r 20%", "\r100%\n", "done\n"}, []string{"100%", "done"}, ""},
		{"another kind of progress bar", []string{"10%\r", "20%\r", "100%\r\n"}, []string{"100%"}, ""},
		{"half a bar", []string{"\r 10%", "\r 20%"}, nil, " 20%"},
		{"empty lines", []string{"\n\n"}, []string{"", ""}, ""},
		{"too long", []string{strings.Repeat("x", maxLine+5) + "\n"}, []string{strings.Repeat("x", maxLine+5)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l lines
			var got []string
			keep := func(b []byte) { got = append(got, string(b)) }
			for _, in := range tc.in {
				l.feed([]byte(in), func(b []byte, _ int) { keep(b) })
			}
			if strings.Join(got, "|") != strings.Join(tc.want, "|") {
				t.Errorf("%q, want %q", got, tc.want)
			}
			got = nil
			l.rest(keep)
			if rest := strings.Join(got, "|"); rest != tc.rest {
				t.Errorf("the rest is %q, want %q", rest, tc.rest)
			}
		})
	}
	// A line that never ends is cut, and a bar that never ends does not grow.
	var l lines
	n := 0
	for range 100 {
		l.feed(bytes.Repeat([]byte("x"), 10000), func(line []byte, _ int) { n += len(line) })
	}
	if len(l.part) > maxLine || n+len(l.part) != 1000000 {
		t.Errorf("%d bytes are kept, %d were given", len(l.part), n)
	}
	l = lines{}
	for i := range 100000 {
		l.feed(fmt.Appendf(nil, "\r%d%%", i), func([]byte, int) { t.Fatal("a line") })
	}
	if len(l.part) > 16<<10 || string(shown(l.part)) != "99999%" {
		t.Errorf("%d bytes are kept, shown is %q", len(l.part), shown(l.part))
	}
}

func BenchmarkFold(b *testing.B) {
	for _, equal := range []bool{false, true} {
		b.Run(fmt.Sprintf("equal=%v", equal), func(b *testing.B) {
			var w bytes.Buffer
			f := newFolder(&w, 4, false, nil)
			now := int64(0)
			line := []byte("epoch 3 step 123456 loss 0.1234567 throughput 1234.5 samples/s rank 0")
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				now += 1000
				line = strconv.AppendInt(line[:40], int64(i/4), 10)
				if !equal {
					line = strconv.AppendInt(line, int64(i%4), 10)
				}
				f.add(origin{rank: i % 4}, line, now)
				if i%1000 == 0 {
					_ = f.flush()
					w.Reset()
				}
			}
		})
	}
}
