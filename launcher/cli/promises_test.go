package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/launcher/cli"
)

// shell runs maniple in a home of its own, without terminal and cluster, and gives its streams and exit code.
func shell(t *testing.T, home string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "maniple"), args...)
	cmd.Dir = home
	// A terminal that can do all: what is written to a pipe must not follow it.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "TERM=xterm-256color", "CLICOLOR_FORCE=1"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// CLI-1, CLI-2: a command that fails writes messages to stderr, the last of which is its error, and nothing
// to stdout but, with --json, a record of that; its exit code is the table's for that kind. Why no node can take a gang (78) is told in several
// lines.
func TestErrorsAreLines(t *testing.T) {
	kinds := map[int]bool{}
	for _, e := range cli.ErrorCodes {
		kinds[e.Exit] = true
	}
	home := t.TempDir()
	for _, c := range []struct {
		code int
		args string
	}{
		{64, "run --ntask 2 -- true"}, {64, "run -n 2"}, {64, "runn"}, {64, "run -n two -- true"}, {64, "cancel"}, {64, "demo --ranks"}, {64, "version x"},
		{64, "up --fake-nodes none"}, {64, "completion tcsh"},
		{69, "nodes"}, {69, "explain"}, {69, "logs"}, {69, "down"}, {69, "cancel --all"}, {69, "exec -- true"}, {69, "exec --json -- true"},
		{127, "run -- ./absent"}, {126, "run -- /"}, {78, "run -N 3 -- true"}, {78, "run -n 1 --gpus-per-task 99 -- true"},
	} {
		stdout, stderr, code := shell(t, home, strings.Fields(c.args)...)
		if code != c.code || !kinds[code] {
			t.Errorf("%s: exit code %d, want %d, which the table has: %v\n%s", c.args, code, c.code, kinds[code], stderr)
		}
		if strings.Contains(c.args, "--json") {
			var said struct{ Event, Code string }
			if err := json.Unmarshal([]byte(stdout), &said); err != nil || said.Event != "error" || said.Code == "" {
				t.Errorf("%s: %q is no record of its error", c.args, stdout)
			}
		} else if stdout != "" {
			t.Errorf("%s: its error is data: %q", c.args, stdout)
		}
		last := ""
		for line := range strings.Lines(stderr) {
			switch {
			case strings.HasPrefix(line, "maniple: "):
				last = strings.TrimSuffix(line, "\n")
			case code != 78:
				t.Errorf("%s: %q is no message", c.args, line)
			}
		}
		if strings.ContainsAny(stderr, "\x1b\r") {
			t.Errorf("%s: writes for a terminal: %q", c.args, stderr)
		}
		if strings.Count(last, ": ") < 2 && code != 78 || strings.HasSuffix(last, ".") {
			t.Errorf("%s: %q does not say what and why", c.args, last)
		}
	}
}

// CLI-1, CLI-4: stdout is data, free of escape sequences, and with --json each line of it is an object with
// its version.
func TestStdoutIsData(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct {
		args string
		code int
	}{
		{"version", 0}, {"status", 0}, {"config", 0}, {"doctor", 0}, {"run -n 2 -- echo hi", 0}, {"up --cluster p", 0}, {"nodes --cluster p", 0}, {"explain --cluster p", 0},
		{"status --cluster p", 0}, {"run --cluster p -n 2 -- false", 1}, {"logs --cluster p --of head", 0}, {"cancel --cluster p --all", 0}, {"down --cluster p", 0},
	} {
		args := strings.Fields(c.args)
		for _, asJSON := range []bool{false, true} {
			run := args
			if asJSON {
				run = append([]string{args[0], "--json"}, args[1:]...)
			}
			if asJSON && (args[0] == "up" || args[0] == "down") {
				continue // it is up, or down; up_down.txtar has their records
			}
			stdout, stderr, code := shell(t, home, run...)
			if code != c.code {
				t.Errorf("%q: exit code %d, want %d: %s", run, code, c.code, stderr)
			}
			if strings.ContainsAny(stdout+stderr, "\x1b\r") {
				t.Errorf("%q writes for a terminal: %q %q", run, stdout, stderr)
			}
			for line := range strings.Lines(stdout) {
				var record struct{ Version int }
				switch {
				case strings.HasPrefix(line, "maniple: "):
					t.Errorf("%q: a message among the data: %s", run, line)
				case asJSON && (json.Unmarshal([]byte(line), &record) != nil || record.Version != 1):
					t.Errorf("%q: no record with a version: %s", run, line)
				}
			}
			if asJSON && stdout == "" {
				t.Errorf("%q: no record", run)
			}
		}
	}
}
