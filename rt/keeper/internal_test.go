package keeper

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestPortRange(t *testing.T) {
	for _, test := range []struct{ asked, ephemeral, want [2]int }{
		{[2]int{}, [2]int{32768, 60999}, [2]int{20000, 32767}},
		{[2]int{30000, 30100}, [2]int{32768, 60999}, [2]int{30000, 30100}},
		{[2]int{}, [2]int{1024, 60999}, [2]int{61000, 65535}},
		{[2]int{}, [2]int{15000, 65535}, [2]int{1024, 14999}},
		{[2]int{}, [2]int{1024, 65535}, [2]int{20000, 32767}}, // nothing is outside
	} {
		low, high := portRange(test.asked, test.ephemeral)
		if got := [2]int{low, high}; got != test.want {
			t.Errorf("asked %v, ephemeral %v: %v", test.asked, test.ephemeral, got)
		}
	}
}

// A daemon that writes without end does not fill the disk, and what it said last is kept.
func TestLogsAreCut(t *testing.T) {
	d := directory{path: t.TempDir()}
	log, err := os.OpenFile(filepath.Join(d.path, "agent.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Truncate(logLimit); err != nil {
		t.Fatal(err)
	}
	log.WriteString("last words\n")
	now := time.Now()
	next := d.tend(now)
	if next.Sub(now) != tendTime {
		t.Errorf("next time in %v", next.Sub(now))
	}
	log.WriteString("and on\n")
	if data, err := os.ReadFile(log.Name()); err != nil || string(data) != "and on\n" {
		t.Errorf("the log holds %d bytes, %v", len(data), err)
	}
	if data, err := os.ReadFile(log.Name() + ".1"); err != nil || len(data) != logKept || !bytes.HasSuffix(data, []byte("last words\n")) {
		t.Errorf("aside are %d bytes, %v", len(data), err)
	}
	if d.tend(now.Add(time.Second)) != next {
		t.Error("it is done more often than needed")
	}
}

// A daemon that can't be started is tried again without anything else that happens, and the node ends soon.
func TestStartsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newEvents(io.Discard)
		k := &keeper{doc: &bootdoc.Doc{}, out: out, log: slog.New(slog.DiscardHandler), posts: make(chan func()), dir: directory{path: filepath.Join(t.TempDir(), "gone")}}
		k.head = &daemon{k: k, name: "head", role: fb.RoleHead}
		k.hosts = true
		k.agent = &daemon{k: k, name: "agent", role: fb.RoleAgent}
		began := time.Now()
		k.startDaemons()
		for k.stop == nil {
			if k.wake.IsZero() {
				t.Fatal("nothing wakes the loop for another try")
			}
			k.turn(time.Time{})
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		out.close()
	})
}

// Where there may be no more processes the user is told that, and not to report a bug.
func TestTooFewProcesses(t *testing.T) {
	for _, tt := range []struct {
		how, said string
		code      int
		want      string
	}{
		{"keeper: start the head: resource temporarily unavailable", "", exitCreate, "ulimit -u"},
		{"exit status 2", "runtime: failed to create new OS thread (have 6 already; errno=11)\nfatal error: newosproc\n\ngoroutine 1:\n", exitCreate, "ulimit -u"},
		{"exit status 2", "panic: out of ideas\n", exitBug, "saying: panic: out of ideas; report it"},
	} {
		out := newEvents(io.Discard)
		k := &keeper{name: "n1", out: out, log: slog.New(slog.DiscardHandler), dir: directory{path: t.TempDir()}}
		d := &daemon{k: k, name: "head"}
		if err := os.WriteFile(filepath.Join(k.dir.path, "head.log"), []byte(tt.said), 0o600); err != nil {
			t.Fatal(err)
		}
		for range loopDeaths {
			d.died(tt.how)
		}
		if end := k.stop; end == nil || end.code != tt.code || !strings.Contains(end.reason, tt.want) {
			t.Errorf("%s %q: %+v", tt.how, tt.said, end)
		}
		out.close()
	}
}
