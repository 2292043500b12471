package gang

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// GANG-4: the end is that of the rank that failed first, as the head says it; its table is TestFirstFailure of rt/head.
func TestRunToItsEnd(t *testing.T) {
	a := newAgent(t)
	var out, errs bytes.Buffer
	var waits []bool
	g, done := begin(t, a, attachTo(t, a), ranks(2), IO{Stdout: &out, Stderr: &errs, Waits: func(on bool) { waits = append(waits, on) }})
	if g.Agent != 7 || g.Process != 1 || g.Counter != 1 {
		t.Errorf("group %+v", g)
	}
	a.send(&fb.GroupUpdateT{Group: g, Phase: fb.GroupPhasePending, Explain: "1 of 2 nodes joined, missing n2"})
	a.running(g, 1, 2)
	a.output(g, 1, 0, 1, 0, "hello\nwor", false)
	a.output(g, 1, 1, 1, 0, "hello\n", false)
	a.send(&fb.NoticeT{Group: g, Text: "node n9 joined late"})
	a.output(g, 1, 0, 1, 9, "ld", false)
	a.ended(g, &fb.GroupEndT{Code: 3, Cause: "rank", Rank: 1, Node: "n1", Reason: "rank 1 on n1 exited with code 3", Tail: "a\nb"})
	a.eofs(g, 2, map[int]uint64{0: 11, 1: 6})
	r := <-done
	if r.err != nil || r.end.Code != 3 || r.end.Rank != 1 || r.end.Ranks != 2 {
		t.Fatalf("%+v", r)
	}
	if !slices.Equal(waits, []bool{true, false}) {
		t.Errorf("it waits: %v", waits)
	}
	if out.String() != "[0-1] hello\n[0] world\n" {
		t.Errorf("stdout %q", out.String())
	}
	if want := "maniple: waiting: 1 of 2 nodes joined, missing n2\nmaniple: node n9 joined late\n"; errs.String() != want {
		t.Errorf("stderr %q, want %q", errs.String(), want)
	}
	if want := "rank 1 on n1 exited with code 3 (of 2 ranks); last lines:\n  a\n  b"; r.end.Report() != want {
		t.Errorf("%q", r.end.Report())
	}
	last := map[string]uint64{}
	for len(last) < 4 || last["0.1"] != OffsetBase(1)+12 {
		m := next[*fb.RankOutputAckT](a)
		last[fmt.Sprintf("%d.%d", m.Rank, m.Stream)] = m.Offset
	}
	if last["1.1"] != OffsetBase(1)+7 || last["1.2"] != OffsetBase(1)+1 {
		t.Errorf("acknowledged %v", last)
	}
}

// GANG-2, GANG-5: the agent restarts; what it sends again is not written again.
func TestReattach(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	var out bytes.Buffer
	g, done := begin(t, a, c, ranks(2), IO{Stdout: &out, Stdin: strings.NewReader("some input")})
	a.crash(true) // before the head answered: it is asked for again
	if again := next[*fb.GroupCreateT](a); *again.Group != *g {
		t.Fatalf("asked for %+v, then %+v", g, again.Group)
	}
	a.running(g, 1, 2)
	in := next[*fb.RankInputT](a)
	if data, _ := a.pay.Load(in); string(data.([]byte)) != "some input" {
		t.Errorf("input %q", data)
	}
	a.output(g, 1, 0, 1, 0, "one\ntwo\n", false)
	a.output(g, 1, 1, 2, 0, "", true)
	for m := next[*fb.RankOutputAckT](a); m.Rank != 0 || m.Offset != OffsetBase(1)+8; m = next[*fb.RankOutputAckT](a) { // the lines wait for their like
	}
	a.crash(true)
	w := next[*fb.GroupWatchT](a)
	if !w.Owner || *w.Group != *g || len(w.Received) != 2 || w.Received[0].Offset != OffsetBase(1)+8 || w.Received[1].Offset != OffsetBase(1)+1 {
		t.Errorf("claimed with %+v", w)
	}
	a.running(g, 1, 2)
	if in := next[*fb.RankInputT](a); in.Offset != 0 { // nobody acknowledged it
		t.Errorf("input from %d", in.Offset)
	}
	a.output(g, 1, 0, 1, 4, "two\nthree\n", false)
	a.ended(g, &fb.GroupEndT{Cause: "ok", Rank: -1})
	a.output(g, 1, 0, 1, 14, "", true)
	a.output(g, 1, 0, 2, 0, "", true)
	a.output(g, 1, 1, 1, 0, "", true)
	if r := <-done; r.err != nil || r.end.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if out.String() != "[0] one\n[0] two\n[0] three\n" {
		t.Errorf("%q", out.String())
	}
}

// GANG-5: the death of the client's own node ends the gang with a node's code; a detached gang may live on.
func TestNodeGone(t *testing.T) {
	for _, tc := range []struct {
		name     string
		said     string // by the agent, before it went
		detached bool
		limit    time.Duration
		want     string
	}{
		{"told", "its keeper was killed", false, goneLimit, "node n1 died: its keeper was killed"},
		{"not told", "", false, awayLimit, "node n1 died: its keeper and its agent are gone"},
		{"detached", "its keeper was killed", true, goneLimit, "node n1 died: its keeper was killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAgent(t)
			s := ranks(2)
			s.Detached = tc.detached
			g, done := begin(t, a, attachTo(t, a), s, IO{})
			a.running(g, 1, 2)
			began := time.Now()
			if tc.said != "" {
				a.send(&fb.NodeLeavingT{Agent: 7, Reason: tc.said})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_ = a.link.Close(ctx, tc.said)
			} else {
				a.crash(false)
			}
			r := <-done
			if tc.detached {
				if !errors.Is(r.err, ErrDead) || errors.Is(r.err, os.ErrNotExist) || !strings.Contains(r.err.Error(), tc.want) {
					t.Errorf("%v", r.err)
				}
			} else if r.err != nil || r.end.Code != 137 || r.end.Cause != "node" || r.end.Node != "n1" || r.end.Report() != tc.want {
				t.Errorf("%+v, %v, says %q", r.end, r.err, r.end.Report())
			}
			if took := time.Since(began); took > tc.limit {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// What a cluster ends with is the code of a gang whose end no head could tell any more, goodbye or not.
func TestClusterEnds(t *testing.T) {
	for _, tc := range []struct {
		code    int
		goodbye bool
	}{{0, true}, {137, true}, {137, false}} {
		a := newAgent(t)
		c := attachTo(t, a)
		_, done := begin(t, a, c, ranks(1), IO{})
		a.send(&fb.DrainT{Reason: "node n2 died", ExitCode: int32(tc.code), Now: true})
		a.send(&fb.ShutdownT{Reason: "node n2 died"})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if tc.goodbye {
			_ = a.link.Close(ctx, "leaving")
		} else if _, err := c.Query(ctx, "nodes", ""); err != nil { // answered after what was said before
			t.Error(err)
		} else {
			a.crash(false)
		}
		r := <-done
		if tc.code == 0 {
			if !errors.Is(r.err, ErrDead) || !strings.Contains(r.err.Error(), "node n2 died") {
				t.Errorf("%+v", r)
			}
		} else if r.err != nil || r.end.Code != tc.code || r.end.Report() != "node n2 died" {
			t.Errorf("%+v", r)
		}
	}
}

func TestConnectSaysWhyNot(t *testing.T) {
	a := newAgent(t)
	for _, tc := range []struct {
		name string
		ep   Endpoint
		want string
	}{
		{"nowhere", Endpoint{}, "no address"},
		{"no socket", Endpoint{Socket: filepath.Join(t.TempDir(), "agent.sock")}, "is the cluster up?"},
		{"refused", Endpoint{Socket: a.path, Build: "old"}, "too old"},
		{"no credential", Endpoint{Addresses: []string{"127.0.0.1:1"}}, "credential"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			began := time.Now()
			_, err := Connect(t.Context(), tc.ep)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "gang: ") {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	// One that does not answer is given up with the context.
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, Endpoint{Socket: ln.Addr().String()}); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("%v", err)
	}
}

// Any stream that ends at an agent's socket will do.
func TestConnectOverABridge(t *testing.T) {
	a := newAgent(t)
	dials := 0
	c, err := Connect(t.Context(), Endpoint{Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, "unix", a.path)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, done := begin(t, a, c, ranks(1), IO{})
	a.crash(true)
	next[*fb.GroupCreateT](a)
	a.running(g, 1, 1)
	a.ended(g, &fb.GroupEndT{Code: 2, Cause: "rank", Rank: 0})
	a.eofs(g, 1, nil)
	if r := <-done; r.err != nil || r.end.Code != 2 || dials != 2 {
		t.Errorf("%+v after %d dials", r, dials)
	}
}

func TestRawMode(t *testing.T) {
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	defer m.Close()
	if err := unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	s, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := unix.IoctlSetWinsize(int(s.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99}); err != nil {
		t.Fatal(err)
	}
	before, _ := unix.IoctlGetTermios(int(s.Fd()), unix.TCGETS)
	tty := rawMode(s)
	raw, _ := unix.IoctlGetTermios(int(s.Fd()), unix.TCGETS)
	if raw.Lflag&(unix.ISIG|unix.ICANON|unix.ECHO) != 0 || raw.Iflag&unix.ICRNL != 0 {
		t.Errorf("not raw: %+v", raw)
	}
	if rows, cols := tty.size(); rows != 33 || cols != 99 {
		t.Errorf("%d x %d", rows, cols)
	}
	tty.restore()
	if after, _ := unix.IoctlGetTermios(int(s.Fd()), unix.TCGETS); *after != *before {
		t.Errorf("not as it was: %+v, %+v", after, before)
	}
	if !isTerminal(s) || rawMode(null(t)) != nil {
		t.Error("what is a terminal?")
	}
}

func null(t *testing.T) *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestQueries(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	if raw, err := c.Query(t.Context(), "nodes", ""); err != nil || string(raw) != `{"from":7}` {
		t.Errorf("%s, %v", raw, err)
	}
	if _, err := c.Query(t.Context(), "bad", ""); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Query(ctx, "hang", ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if n := len(c.queries); n != 0 {
		t.Errorf("%d queries are left", n)
	}
}

func TestInputIsBoundedByItsWindow(t *testing.T) {
	a := newAgent(t)
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	g, done := begin(t, a, attachTo(t, a), ranks(1), IO{Stdin: bytes.NewReader(big)})
	a.running(g, 1, 1)
	var got []byte
	for len(got) < len(big) {
		m := next[*fb.RankInputT](a)
		data, _ := a.pay.Load(m)
		if m.Offset != uint64(len(got)) {
			t.Fatalf("offset %d after %d bytes", m.Offset, len(got))
		}
		got = append(got, data.([]byte)...)
		if len(got)%inputWindow == 0 { // all that may be on its way is here: nothing more comes until it is acknowledged
			select {
			case m := <-a.got:
				if m, ok := m.(*fb.RankInputT); ok {
					t.Fatalf("%d bytes beyond the window", m.Offset-uint64(len(got)))
				}
			case <-time.After(20 * time.Millisecond):
			}
			a.send(&fb.RankInputAckT{Group: g, Incarnation: 1, Offset: uint64(len(got))})
		} else if len(got)%(64<<10) == 0 && len(got) > len(big)-inputWindow {
			a.send(&fb.RankInputAckT{Group: g, Incarnation: 1, Offset: uint64(len(got))})
		}
	}
	if !bytes.Equal(got, big) {
		t.Error("not what was typed")
	}
	if m := next[*fb.RankInputT](a); !m.Eof || m.Offset != uint64(len(big)) {
		t.Errorf("%+v", m)
	}
	a.ended(g, &fb.GroupEndT{Cause: "ok", Rank: -1})
	a.eofs(g, 1, nil)
	<-done
}

// What the reader did not take stays in the file for whoever comes next.
func TestInputLeavesTheRest(t *testing.T) {
	a := newAgent(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	g, done := begin(t, a, attachTo(t, a), ranks(1), IO{Stdin: r})
	a.running(g, 1, 1)
	if _, err := w.WriteString("mine"); err != nil {
		t.Fatal(err)
	}
	next[*fb.RankInputT](a)
	a.ended(g, &fb.GroupEndT{Cause: "ok", Rank: -1})
	a.eofs(g, 1, nil)
	<-done
	if _, err := w.WriteString("yours"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, _ := r.Read(buf); string(buf[:n]) != "yours" {
		t.Errorf("%q is left", buf[:n])
	}
}

func TestContextStopsTheGang(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan result, 1)
	go func() {
		end, err := Run(ctx, c, ranks(1), IO{})
		done <- result{end, err}
	}()
	g := next[*fb.GroupCreateT](a).Group
	cancel()
	if m := next[*fb.GroupCancelT](a); m.Mode != fb.CancelModeStop {
		t.Errorf("%+v", m)
	}
	a.ended(g, &fb.GroupEndT{Code: 143, Cause: "cancelled", Rank: -1})
	if r := <-done; r.err != nil || r.end.Code != 143 {
		t.Errorf("%+v", r)
	}
}

// A node that died sends no end of its output: the end of the gang does not wait for ever.
func TestEndWithoutAllOutput(t *testing.T) {
	a := newAgent(t)
	var out bytes.Buffer
	g, done := begin(t, a, attachTo(t, a), ranks(2), IO{Stdout: &out})
	a.running(g, 1, 2)
	a.output(g, 1, 0, 1, 0, "half a li", false)
	a.ended(g, &fb.GroupEndT{Code: 137, Cause: "node", Rank: -1, Node: "n2", Reason: "n2 died"})
	if r := <-done; r.err != nil || r.end.Report() != "n2 died" {
		t.Errorf("%+v", r)
	}
	if out.String() != "[0] half a li\n" {
		t.Errorf("%q", out.String())
	}
}

func TestWatchIsAskedAgain(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	task := c.mint()
	done := make(chan result, 1)
	go func() {
		end, err := c.Watch(t.Context(), task, nil)
		done <- result{end, err}
	}()
	next[*fb.GroupWatchT](a)
	a.crash(true)
	w := next[*fb.GroupWatchT](a)
	if w.Owner {
		t.Error("a watcher claims the group")
	}
	a.ended(w.Group, &fb.GroupEndT{Code: 9, Cause: "rank", Rank: 0})
	if r := <-done; r.err != nil || r.end.Code != 9 {
		t.Errorf("%+v", r)
	}
}

func TestNothingIsLeft(t *testing.T) {
	a := newAgent(t)
	before := runtime.NumGoroutine()
	for range 20 {
		c, err := Connect(t.Context(), Endpoint{Socket: a.path})
		if err != nil {
			t.Fatal(err)
		}
		g, done := begin(t, a, c, ranks(1), IO{Stdin: strings.NewReader("x")})
		a.running(g, 1, 1)
		a.ended(g, &fb.GroupEndT{Cause: "ok", Rank: -1})
		a.eofs(g, 1, nil)
		<-done
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	limit := time.After(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); runtime.NumGoroutine() > before+2; {
		select {
		case <-tick.C:
		case <-limit:
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// GANG-2, GANG-5: a client that comes in the place of another one has the rest of the gang's output, and its end.
func TestResume(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	var out bytes.Buffer
	done := make(chan result, 1)
	group := id.Task{Agent: 3, Process: 1, Counter: 4}
	go func() {
		s := ranks(2)
		s.Detached = true
		end, err := Resume(t.Context(), c, group, s, IO{Stdout: &out})
		done <- result{end, err}
	}()
	w := next[*fb.GroupWatchT](a)
	if !w.Owner || *w.Group != *taskT(group) || len(w.Received) != 0 {
		t.Errorf("claimed with %+v", w)
	}
	a.running(w.Group, 1, 2)
	a.output(w.Group, 1, 0, 1, 100, "late\n", false) // what was before is the other one's
	if m := next[*fb.RankOutputAckT](a); m.Offset != OffsetBase(1)+105 {
		t.Errorf("acknowledged %+v", m)
	}
	a.ended(w.Group, &fb.GroupEndT{Code: 4, Cause: "rank", Rank: 1})
	a.eofs(w.Group, 2, map[int]uint64{0: 105, 1: 7})
	if r := <-done; r.err != nil || r.end.Code != 4 || out.String() != "[0] late\n" {
		t.Errorf("%+v %q", r, out.String())
	}
}
