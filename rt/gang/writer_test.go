package gang

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// feed gives a writer output of a rank, and keeps count of the offsets.
type feed struct {
	w  *writer
	at map[streamKey]uint64
}

func newFeed(t *testing.T, n int, rio IO) *feed {
	t.Helper()
	if rio.Stdout == nil {
		rio.Stdout = &bytes.Buffer{}
	}
	if rio.Stderr == nil {
		rio.Stderr = &bytes.Buffer{}
	}
	w, err := newWriter(ranks(n), rio, func(*fb.RankOutputAckT) {})
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{w, map[streamKey]uint64{}}
	f.place(1, n)
	return f
}

func (f *feed) place(incarnation uint32, n int) {
	var places []*fb.RankPlaceT
	for r := range n {
		places = append(places, &fb.RankPlaceT{Rank: uint32(r), Agent: uint32(r / 2), NodeRank: uint32(r / 2)})
	}
	f.w.placed(incarnation, places, map[uint32]string{0: "n1", 1: "n2"})
}

func (f *feed) say(incarnation, rank uint32, stream uint8, text string) {
	k := streamKey{incarnation, rank, stream}
	f.w.put(&fb.RankOutputT{Group: &fb.TaskIDT{}, Incarnation: incarnation, Rank: rank, Stream: stream, Offset: OffsetBase(incarnation) + f.at[k]}, []byte(text))
	f.at[k] += uint64(len(text))
}

// GANG-3
func TestALineWaitsNoLongerThanFoldFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out screen
		f := newFeed(t, 2, IO{Stdout: &out})
		defer f.w.close()
		f.say(1, 0, 1, "hello\n")
		time.Sleep(FoldFor - time.Millisecond)
		synctest.Wait()
		if out.String() != "" {
			t.Errorf("%q is written already", out.String())
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if out.String() != "[0] hello\n" {
			t.Errorf("%q", out.String())
		}
		f.say(1, 1, 1, "a\n")
		f.say(1, 0, 1, "a\n")
		synctest.Wait()
		if !strings.HasSuffix(out.String(), "[0-1] a\n") {
			t.Errorf("%q: equal lines of all wait for nobody", out.String())
		}
	})
}

// screen is a writer that may be looked at meanwhile.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A progress bar in a log: its state now and then, not each of its thousand states.
func TestProgressBarWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := newFeed(t, 2, IO{Stdout: &out})
		for i := range 1000 {
			f.say(1, 0, 1, fmt.Sprintf("\r%d of 1000", i+1))
			time.Sleep(30 * time.Millisecond)
		}
		f.say(1, 0, 1, "\ndone\n")
		f.w.close()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if n := len(lines); n < 4 || n > 7 || lines[n-2] != "[0] 1000 of 1000" || lines[n-1] != "[0] done" {
			t.Errorf("%q", lines)
		}
	})
}

func TestSingleRankIsBinarySafe(t *testing.T) {
	var out, errs bytes.Buffer
	f := newFeed(t, 1, IO{Stdout: &out, Stderr: &errs})
	data := "\x00\xff\r\n\rprompt> "
	f.say(1, 0, 1, data)
	f.say(1, 0, 2, "E")
	f.w.close()
	if out.String() != data || errs.String() != "E" {
		t.Errorf("%q and %q", out.String(), errs.String())
	}
}

func TestPrefixes(t *testing.T) {
	for _, tc := range []struct {
		n      int
		prefix Prefix
		want   string
	}{
		{1, PrefixAlways, "[0] a\n[0] b\n"}, {2, PrefixNever, "a\nb\na\n"}, {2, PrefixAuto, "[0-1] a\n[0] b\n"},
	} {
		var out bytes.Buffer
		f := newFeed(t, tc.n, IO{Stdout: &out, Prefix: tc.prefix})
		f.say(1, 0, 1, "a\nb")
		if tc.n > 1 {
			f.say(1, 0, 1, "\n")
			f.say(1, 1, 1, "a\n")
		} else {
			f.w.put(&fb.RankOutputT{Group: &fb.TaskIDT{}, Incarnation: 1, Stream: 1, Offset: OffsetBase(1) + 3, Eof: true}, nil)
		}
		f.w.close()
		if out.String() != tc.want {
			t.Errorf("%d ranks, %v: %q, want %q", tc.n, tc.prefix, out.String(), tc.want)
		}
	}
}

func TestRepetitionsAndGaps(t *testing.T) {
	var out bytes.Buffer
	var acks []uint64
	w, err := newWriter(ranks(1), IO{Stdout: &out, Stderr: &out}, func(m *fb.RankOutputAckT) { acks = append(acks, m.Offset-OffsetBase(1)) })
	if err != nil {
		t.Fatal(err)
	}
	put := func(offset uint64, text string, eof bool) {
		w.put(&fb.RankOutputT{Group: &fb.TaskIDT{}, Incarnation: 1, Stream: 1, Offset: OffsetBase(1) + offset, Eof: eof}, []byte(text))
	}
	put(0, "abc", false)
	put(0, "abc", false)
	put(1, "bcde", false)
	put(2, "c", false)
	put(5, "", true)
	put(5, "", true)
	w.close()
	if out.String() != "abcde" || len(acks) == 0 || acks[len(acks)-1] != 6 {
		t.Errorf("%q, acknowledged %v", out.String(), acks)
	}
}

// What an agent that was cut off sends once more, of a program that has begun anew meanwhile, is not written twice, and it hears that it is here.
func TestRepetitionsOfAnEarlierIncarnation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out screen
		acks := make(chan *fb.RankOutputAckT, 100)
		w, err := newWriter(ranks(2), IO{Stdout: &out, Stderr: &bytes.Buffer{}}, func(a *fb.RankOutputAckT) { acks <- a })
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{w, map[streamKey]uint64{}}
		f.place(1, 2)
		whole := &fb.RankOutputT{Group: &fb.TaskIDT{}, Incarnation: 1, Rank: 0, Stream: 1, Offset: OffsetBase(1), Eof: true}
		heard := func() {
			t.Helper()
			time.Sleep(2 * FoldFor)
			synctest.Wait()
			for len(acks) > 0 {
				if a := <-acks; a.Incarnation == 1 && a.Rank == 0 && a.Offset == OffsetBase(1)+6 {
					return
				}
			}
			t.Error("its agent does not hear that it is here")
		}
		f.w.put(whole, []byte("once\n"))
		heard()
		f.place(2, 2)
		f.w.put(whole, []byte("once\n"))
		f.say(1, 1, 1, "late\n") // of which there was nothing yet
		f.say(2, 0, 1, "anew\n")
		heard()
		w.close()
		if text := out.String(); strings.Count(text, "once") != 1 || strings.Count(text, "late") != 1 || strings.Count(text, "anew") != 1 {
			t.Errorf("%q", text)
		}
	})
}

func TestExpand(t *testing.T) {
	n := names{job: "42", gang: "train", user: "me", node: "n3", rank: 7, nodeRank: 1}
	for pattern, want := range map[string]string{
		"%x-%j-%t.out": "train-42-7.out", "%4t": "0007", "%N.%n.%u": "n3.1.me", "100%%": "100%", "%": "%", "a%": "a%", "%q%t": "%q7", "%10j": "0000000042",
		"plain": "plain", "%%t": "%t",
	} {
		if got := expand(pattern, n); got != want {
			t.Errorf("%q: %q, want %q", pattern, got, want)
		}
	}
}

func TestFiles(t *testing.T) {
	for _, tc := range []struct {
		name        string
		out, err    string
		add         bool
		want        map[string]string
		stdout, say string
	}{
		{name: "one per rank", out: "o-%t", want: map[string]string{"o-0": "0 out\n0 err\n", "o-1": "1 out\n1 err\n", "o-2": "2 out\n2 err\n"}},
		{name: "stderr apart", out: "o-%t", err: "e-%t", want: map[string]string{"o-1": "1 out\n", "e-1": "1 err\n"}},
		{name: "only stderr", err: "e-%t", want: map[string]string{"e-2": "2 err\n"}, stdout: "[0] 0 out\n[1] 1 out\n[2] 2 out\n"},
		{name: "one for all", out: "all", want: map[string]string{"all": "[0] 0 out\n[0] 0 err\n[1] 1 out\n[1] 1 err\n[2] 2 out\n[2] 2 err\n"}},
		{name: "one per node", out: "%N-%n", want: map[string]string{"n1-0": "[0] 0 out\n[0] 0 err\n[1] 1 out\n[1] 1 err\n", "n2-1": "2 out\n2 err\n"}},
		{name: "added to", out: "o-%t", add: true, want: map[string]string{"o-0": "before\n0 out\n0 err\n"}},
		{name: "truncated", out: "o-%t", want: map[string]string{"o-0": "0 out\n0 err\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "o-0"), []byte("before\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			f := newFeed(t, 3, IO{Stdout: &out, Output: tc.out, Error: tc.err, Append: tc.add, Dir: dir})
			for r := range uint32(3) {
				f.say(1, r, 1, fmt.Sprint(r, " out\n"))
				f.say(1, r, 2, fmt.Sprint(r, " err\n"))
			}
			f.w.close()
			for name, want := range tc.want {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
					t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
				}
			}
			if out.String() != tc.stdout {
				t.Errorf("stdout %q, want %q", out.String(), tc.stdout)
			}
		})
	}
}

// Every rank has its file from the gang's start on, as with srun: one that prints nothing an empty one, also
// where an earlier run left something. A restart empties none.
func TestSilentRanksHaveFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"o-1", "e-n2", "all"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of an earlier run\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want map[string]string) {
		t.Helper()
		left, _ := os.ReadDir(dir)
		for name, text := range want {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if len(left) != len(want) {
			t.Errorf("files: %v, want %d", left, len(want))
		}
	}
	f := newFeed(t, 3, IO{Output: "o-%t", Error: "e-%N", Dir: dir})
	f.say(1, 0, 1, "first\n")
	f.place(2, 3)
	f.w.close()
	check(map[string]string{"o-0": "first\n", "o-1": "", "o-2": "", "e-n1": "", "e-n2": "", "all": "of an earlier run\n"})

	f = newFeed(t, 3, IO{Output: "o-%t", Dir: dir, Append: true})
	f.w.close()
	check(map[string]string{"o-0": "first\n", "o-1": "", "o-2": "", "e-n1": "", "e-n2": "", "all": "of an earlier run\n"})

	var errs bytes.Buffer
	f = newFeed(t, 2, IO{Output: "%t/o", Dir: dir, Stderr: &errs})
	f.w.close()
	if f.w.lost == nil || strings.Count(errs.String(), "no such file") != 2 {
		t.Errorf("files that can't be made: %v, %q", f.w.lost, errs.String())
	}
}

// A restart of the gang goes on where the files are.
func TestRestartTruncatesNothing(t *testing.T) {
	dir := t.TempDir()
	f := newFeed(t, 2, IO{Output: "o-%t", Dir: dir})
	f.say(1, 0, 1, "first\n")
	f.place(2, 2)
	f.say(2, 0, 1, "second\n")
	f.say(1, 0, 1, "late\n")
	f.w.close()
	if got, _ := os.ReadFile(filepath.Join(dir, "o-0")); string(got) != "first\nsecond\nlate\n" {
		t.Errorf("%q", got)
	}
}

func TestMoreFilesThanMayBeOpen(t *testing.T) {
	dir := t.TempDir()
	const n = openFiles + 50
	f := newFeed(t, n, IO{Output: "o-%t", Dir: dir})
	for i := range 3 {
		for r := range uint32(n) {
			f.say(1, r, 1, fmt.Sprintln(i))
		}
	}
	f.w.close()
	for r := range n {
		if got, _ := os.ReadFile(filepath.Join(dir, fmt.Sprint("o-", r))); string(got) != "0\n1\n2\n" {
			t.Fatalf("rank %d: %q", r, got)
		}
	}
}

func TestFilesThatCanNotBeMade(t *testing.T) {
	for _, pattern := range []string{"missing/o-%t", "missing/all", "/proc/nothing/%t"} {
		if _, err := newWriter(ranks(2), IO{Output: pattern, Dir: t.TempDir()}, nil); err == nil {
			t.Errorf("%s: nothing is wrong", pattern)
		}
	}
	// A disk that fills up is said once, and the run goes on.
	var errs bytes.Buffer
	f := newFeed(t, 1, IO{Output: "/dev/full", Append: true, Stderr: &errs})
	f.say(1, 0, 1, "x")
	f.say(1, 0, 1, "y")
	f.w.close()
	if strings.Count(errs.String(), "no space left") != 1 {
		t.Errorf("%q", errs.String())
	}
}

// Output that comes before it is known where the rank runs waits for its file's name.
func TestEarlyOutputWaitsForItsPlace(t *testing.T) {
	dir := t.TempDir()
	w, err := newWriter(ranks(1), IO{Output: "%N", Dir: dir, Stdout: os.Stdout, Stderr: os.Stderr}, func(*fb.RankOutputAckT) {})
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{w, map[streamKey]uint64{}}
	f.say(1, 0, 1, "early\n")
	f.place(1, 1)
	w.close()
	if got, _ := os.ReadFile(filepath.Join(dir, "n1")); string(got) != "early\n" {
		t.Errorf("%q", got)
	}
}

// A reader that does not read stops the writer, not the run.
type stuck struct{ gate chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.gate; return len(p), nil }

func TestAStuckReaderStopsNothingElse(t *testing.T) {
	a := newAgent(t)
	out := stuck{make(chan struct{})}
	ints := make(chan Interrupt)
	g, done := begin(t, a, attachTo(t, a), ranks(1), IO{Stdout: out, Interrupts: ints})
	a.running(g, 1, 1)
	for i := range uint64(10) {
		a.output(g, 1, 0, 1, i, "x", false)
	}
	ints <- Interrupted
	next[*fb.GroupCancelT](a)
	close(out.gate)
	a.ended(g, &fb.GroupEndT{Cause: "ok", Rank: -1})
	a.eofs(g, 1, map[int]uint64{0: 10})
	<-done
}

func TestTerminalsLastLine(t *testing.T) {
	term := &terminal{width: 20}
	var out bytes.Buffer
	f := newFolder(&out, 2, false, term)
	show := func() string {
		f.release(1 << 62)
		term.draw(&f.buf)
		_ = f.flush()
		s := out.String()
		out.Reset()
		return s
	}
	term.status("[0] 10%")
	if got := show(); got != "[0] 10%" {
		t.Errorf("%q", got)
	}
	if got := show(); got != "" {
		t.Errorf("drawn again: %q", got)
	}
	f.add(origin{rank: 1}, []byte("a line"), 0)
	if got := show(); got != "\r\x1b[K[1] a line\n[0] 10%" {
		t.Errorf("%q", got)
	}
	term.status("[0] a very long state that would wrap")
	if got := show(); got != "\r\x1b[K[0] a very long sta" {
		t.Errorf("%q", got)
	}
	term.status("")
	if got := show(); got != "\r\x1b[K" {
		t.Errorf("%q", got)
	}
}

// A million lines of four ranks.
func BenchmarkWriter(b *testing.B) {
	for _, equal := range []bool{false, true} {
		b.Run(fmt.Sprintf("million lines equal=%v", equal), func(b *testing.B) {
			var blocks [4][]byte
			for r := range blocks {
				for i := 0; len(blocks[r]) < 32<<10; i++ {
					who := r
					if equal {
						who = 0
					}
					blocks[r] = fmt.Appendf(blocks[r], "epoch 3 step %06d loss 0.1234567 rank %d\n", i, who)
				}
			}
			lines := bytes.Count(blocks[0], []byte("\n"))
			for b.Loop() {
				null, _ := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
				w, err := newWriter(ranks(4), IO{Stdout: null, Stderr: null}, func(*fb.RankOutputAckT) {})
				if err != nil {
					b.Fatal(err)
				}
				offset := OffsetBase(1)
				for n := 0; n < 1_000_000; n += 4 * lines {
					for r := range blocks {
						w.put(&fb.RankOutputT{Group: &fb.TaskIDT{}, Incarnation: 1, Rank: uint32(r), Stream: 1, Offset: offset}, blocks[r])
					}
					offset += uint64(len(blocks[0]))
				}
				w.close()
				null.Close()
			}
		})
	}
}
