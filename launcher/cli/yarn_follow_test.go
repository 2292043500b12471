package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

// master plays an application: each look at it is one state, each call of its log one piece of text and how that ended.
type master struct {
	states []yarn.ApplicationState // the last one stays
	pieces []piece
	froms  []int64
}

type piece struct {
	text string
	err  error
}

func (m *master) follow(said *[]string) *follow {
	return &follow{
		master: func(context.Context) (string, yarn.Report, error) {
			r := yarn.Report{State: m.states[0], Port: 1}
			if len(m.states) > 1 {
				m.states = m.states[1:]
			}
			if r.State != yarn.StateRunning {
				return "", r, &waiting{r}
			}
			return "host:1", r, nil
		},
		log: func(_ context.Context, _ string, _ bool, from int64, there func(), to io.Writer) (int64, error) {
			there()
			m.froms = append(m.froms, from)
			p := m.pieces[0]
			m.pieces = m.pieces[1:]
			n, err := io.WriteString(to, p.text)
			return int64(n), errors.Join(p.err, err)
		},
		say:     func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) },
		before:  func(context.Context, yarn.Report) string { return "--am-memory" },
		expects: func(string) func() { return func() {} },
	}
}

// Output is all of it, or the command says that it is not.
func TestFollowSaysWhatIsMissing(t *testing.T) {
	broken := errors.New("it broke")
	const accepted, running, finished, killed = yarn.StateAccepted, yarn.StateRunning, yarn.StateFinished, yarn.StateKilled
	for name, tt := range map[string]struct {
		master
		want, err string
	}{
		"all":                  {master{states: []yarn.ApplicationState{accepted, running}, pieces: []piece{{"one\ntwo\n", nil}}}, "one\ntwo\n", ""},
		"all in two":           {master{states: []yarn.ApplicationState{running}, pieces: []piece{{"one\n", broken}, {"two\n", nil}}}, "one\ntwo\n", ""},
		"cut near the end":     {master{states: []yarn.ApplicationState{running, finished}, pieces: []piece{{"one\n", broken}}}, "one\n", "only 4 bytes (it broke)"},
		"never reached":        {master{states: []yarn.ApplicationState{running, finished}, pieces: []piece{{"", broken}}}, "", "none of its output came (it broke)"},
		"over before":          {master{states: []yarn.ApplicationState{finished}}, "", "none of its output came"},
		"killed as it runs":    {master{states: []yarn.ApplicationState{running, killed}, pieces: []piece{{"one\n", broken}}}, "one\n", "only 4 bytes"},
		"killed as it waits":   {master{states: []yarn.ApplicationState{accepted, killed}}, "", ""},
		"cut, and then killed": {master{states: []yarn.ApplicationState{running, accepted, killed}, pieces: []piece{{"one\n", broken}}}, "one\n", "only 4 bytes"},
	} {
		var out bytes.Buffer
		var said []string
		err := tt.master.follow(&said).copy(t.Context(), false, &out)
		if out.String() != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q %v %v", name, out.String(), err, said)
		}
		for i, from := range tt.froms {
			if i > 0 && from != int64(len("one\n")) {
				t.Errorf("%s: asked from %v", name, tt.froms)
			}
		}
	}
}

// Another master has a log of its own, which is read from its beginning.
func TestFollowGoesToTheNextMaster(t *testing.T) {
	m := master{states: []yarn.ApplicationState{yarn.StateRunning}, pieces: []piece{{"one\n", errors.New("killed")}, {"two\n", nil}}}
	var said []string
	var out bytes.Buffer
	f := m.follow(&said)
	look := f.master
	f.master = func(ctx context.Context) (string, yarn.Report, error) {
		address, r, err := look(ctx)
		r.Attempt.Number = int32(1 + len(m.froms))
		return address, r, err
	}
	if err := f.copy(t.Context(), false, &out); err != nil || out.String() != "one\ntwo\n" || m.froms[1] != 0 || len(said) != 2 || !strings.Contains(said[0], "attempt 2") || !strings.Contains(said[1], "--am-memory") {
		t.Errorf("%q %v %q %v", out.String(), m.froms, said, err)
	}
}

// A standard output that nobody reads any more is no break of the connection, which would be mended for ever.
func TestFollowEndsWithItsOutput(t *testing.T) {
	closed, w := io.Pipe()
	closed.Close()
	m := master{states: []yarn.ApplicationState{yarn.StateRunning}, pieces: []piece{{"one\n", nil}}}
	if err := m.follow(new([]string)).copy(t.Context(), false, w); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	m = master{states: []yarn.ApplicationState{yarn.StateAccepted}}
	if err := m.follow(new([]string)).copy(ctx, false, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// What goes wrong for one of output and messages is told at once, and what YARN says no to while it is followed is no break of the connection.
func TestFollowSaysFaults(t *testing.T) {
	closed, w := io.Pipe()
	closed.Close()
	m := master{states: []yarn.ApplicationState{yarn.StateRunning}}
	f := m.follow(new([]string))
	f.log = func(ctx context.Context, _ string, messages bool, _ int64, _ func(), to io.Writer) (int64, error) {
		if messages {
			<-ctx.Done() // they come until the end of the application
			return 0, context.Cause(ctx)
		}
		n, err := io.WriteString(to, "one\n")
		return int64(n), err
	}
	err := f.both(t.Context(), w, io.Discard)
	if fault := (*Fault)(nil); !errors.As(err, &fault) || fault.exitCode() != ExitCreate || !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	m = master{states: []yarn.ApplicationState{yarn.StateRunning}, pieces: []piece{{"one\n", errors.New("it broke")}}}
	f = m.follow(new([]string))
	look := f.master
	f.master = func(ctx context.Context) (string, yarn.Report, error) {
		if len(m.pieces) == 0 {
			return "", yarn.Report{}, &Fault{Name: "REFUSED", What: "logs", Why: "the ticket has expired", Do: "kinit"}
		}
		return look(ctx)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.copy(ctx, false, io.Discard); err == nil || !strings.Contains(err.Error(), "ticket has expired") {
		t.Error(err)
	}
}

// heard are lines of a command's messages, each with the time at which it came.
type heard struct {
	began time.Time
	mu    sync.Mutex
	lines []string
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf("%v %s", time.Since(h.began).Round(time.Second), strings.TrimSpace(string(b))))
	return len(b), nil
}

// Who follows an application is told within 2 s what is waited for: a ResourceManager, the master, or that YARN starts one; and nothing as long as all answer.
func TestFollowSaysWhatIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := &heard{began: time.Now()}
		c := &call{app: &app{stderr: said}, page: &page{name: "logs"}}
		id := yarn.ApplicationID{ClusterTimestamp: 17, Number: 1}
		site := &site{at: []string{"a:8032", "b:8032"}}
		asks := 0
		f := &follow{say: c.say, expects: c.expects, states: true, pause: 200 * time.Millisecond}
		f.master = func(context.Context) (string, yarn.Report, error) {
			defer c.expects(site.managers())()
			r := yarn.Report{ID: id, State: yarn.StateRunning, Port: 1}
			switch asks++; {
			case asks == 1:
				time.Sleep(10 * time.Second)
			case time.Since(said.began) < 15*time.Second:
				r.State = yarn.StateAccepted
				return "", r, &waiting{r}
			}
			return "host:1", r, nil
		}
		f.log = func(_ context.Context, _ string, _ bool, from int64, there func(), to io.Writer) (int64, error) {
			switch {
			case asks == 1:
				return 0, errors.New("it broke")
			case from == 0:
				time.Sleep(5 * time.Second)
			}
			there()
			time.Sleep(time.Hour) // it has nothing to print
			n, err := io.WriteString(to, "one\n")
			return int64(n), err
		}
		var out bytes.Buffer
		if err := f.copy(t.Context(), false, &out); err != nil || out.String() != "one\n" {
			t.Error(err, out.String())
		}
		want := []string{
			"2s maniple: logs: waits for YARN's ResourceManager at a:8032 or b:8032 to answer",
			"12s maniple: logs: waits for YARN to start the master: application_17_0001 is ACCEPTED",
			"17s maniple: logs: waits for the master of application_17_0001 at host:1 to answer",
		}
		said.mu.Lock()
		defer said.mu.Unlock()
		if !slices.Equal(said.lines, want) {
			t.Errorf("%q", said.lines)
		}
	})
}

// Who asks YARN for something while no ResourceManager answers is told why within some seconds, and once a minute.
func TestWhyYARNDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := &heard{began: time.Now()}
		c := &call{app: &app{stderr: said}, page: &page{name: "submit"}}
		cfg := yarn.Config{ResourceManagers: []string{"a:8032", "b:8032"}, User: "alice", RetryFor: 150 * time.Second, Waits: c.noAnswer()}
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is there") }
		s := &site{}
		if err := s.open(cfg); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 2 {
			if _, err := s.Metrics(t.Context()); err == nil {
				t.Error("somebody answered")
			}
		}
		if _, err := s.watch.Metrics(t.Context()); err == nil { // who watches says what that means
			t.Error("somebody answered")
		}
		said.mu.Lock()
		defer said.mu.Unlock()
		if len(said.lines) != 2 || !strings.Contains(said.lines[0], "maniple: submit: YARN has no answer yet: ") || !strings.Contains(said.lines[0], "nobody is there") || strings.HasPrefix(said.lines[0], "1m") {
			t.Errorf("%q", said.lines)
		}
	})
}
