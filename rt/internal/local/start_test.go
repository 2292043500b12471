package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// command puts a program named maniple on PATH, which notes how it is called.
func command(t *testing.T, script string) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\ncalls=" + dir + "/calls\necho \"$@\" >> $calls\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "maniple"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		data, err := os.ReadFile(dir + "/calls")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(data)), "\n")
	}
}

const stays = "\nexec >&- 2>&-\nread nothing\necho end >> $calls"

// A cluster is ended by who brought it up, and by nobody else: not where the command failed, nor where another program was quicker.
func TestWhoBroughtItUpEndsIt(t *testing.T) {
	for _, c := range []struct {
		name, job, script string
		ends              bool
		fails             string
		alone             bool
	}{
		{"here", "", `echo '{"cluster":"go-1","kind":"local","socket":"/s"}'` + stays, true, "", false},
		{"job", "7", `echo warning >&2; echo '{"cluster":"7","kind":"slurm","socket":"/s"}'` + stays, true, "", false},
		{"beside", "7", `echo '{"cluster":"go-1","kind":"local","socket":"/s"}'` + stays, true, "", true},
		{"joined", "7", `echo '{"cluster":"7","kind":"slurm","socket":"/s","joined":true}'`, false, "", false},
		{"failed", "7", "echo 'maniple: up: no room' >&2\necho '{\"event\":\"error\",\"code\":\"DISK_FULL\"}'\nexit 73", false, "maniple: up: no room", false},
		{"silent", "7", "exit 1", false, "no cluster could be started", false},
		{"elsewhere", "7", `echo '{"cluster":"7","kind":"slurm"}'` + stays, true, "no node on this machine", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SLURM_JOB_ID", c.job)
			calls := command(t, c.script)
			path, guard, err := Start(t.Context(), Node{}, c.alone)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) || err == nil && path != "/s" {
				t.Fatalf("%q, %v; want %q", path, err, c.fails)
			}
			if (guard != nil) != (c.ends && c.fails == "") {
				t.Errorf("guarded: %v", guard != nil)
			}
			if guard != nil {
				if got := calls(); len(got) != 1 {
					t.Errorf("it ended by itself: %q", got)
				}
				guard.End(true)
			}
			got := calls()
			if want := "up --json --idle never --with-stdin --"; !strings.HasPrefix(got[0], want) || strings.Contains(got[0], "--or-join") != (c.job != "" && !c.alone) {
				t.Errorf("called with %q", got[0])
			}
			if ended := len(got) == 2 && got[1] == "end"; ended != c.ends || len(got) > 2 {
				t.Errorf("%q", got)
			}
		})
	}
}

// Who gives up while a cluster is brought up ends it: the command sees the end of its standard input.
func TestGivingUp(t *testing.T) {
	calls := command(t, "read nothing\necho end >> $calls")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, guard, err := Start(ctx, Node{}, false); !errors.Is(err, context.DeadlineExceeded) || guard != nil {
		t.Errorf("%v", err)
	}
	if got := calls(); len(got) != 2 || got[1] != "end" {
		t.Errorf("%q", got)
	}
}
