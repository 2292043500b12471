// Package slurmtest puts stand-ins for Slurm's programs on the PATH of a test: links to the test binary,
// which then answers as the test laid down. What they answer is best taken from slurm/testdata, which was
// recorded from real clusters.
//
// The nouns: a Fake is a folder of such programs, an Answer what one says, a Call what it was asked.
//
// A test binary that uses it calls Main first thing in TestMain. No goroutine, no global state: the
// stand-ins find their answers through an environment variable.
//
// Limits: a stand-in answers; it does not behave. Tests of behaviour run on a real Slurm (ci/e2e).
package slurmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// variable tells a stand-in where its answers are.
const variable = "SLURMTEST_DIR"

// Programs are those that are put on the PATH.
var Programs = []string{"sbatch", "squeue", "scontrol", "sacct", "sinfo", "scancel", "srun", "salloc", "sbcast"}

// Answer is what a program does when its arguments contain Args in that order.
type Answer struct {
	Args   []string      `json:"args,omitempty"`
	Stdout string        `json:"stdout,omitempty"`
	Stderr string        `json:"stderr,omitempty"`
	Code   int           `json:"code,omitempty"`
	Hang   bool          `json:"hang,omitempty"` // never ends, and starts a child that does not either
	Delay  time.Duration `json:"delay,omitempty"`
	Script string        `json:"script,omitempty"` // run by /bin/sh instead, with the arguments
}

// Call is one call of a program.
type Call struct {
	Program string   `json:"program"`
	Args    []string `json:"args"`
	Stdin   string   `json:"stdin"`
	Env     []string `json:"env"`
	Pid     int      `json:"pid"`
}

// Fake is a set of stand-ins.
type Fake struct {
	t       testing.TB
	dir     string
	answers map[string][]Answer
}

// New puts the stand-ins into a folder of the test's own. Without answers each fails.
func New(t testing.TB) *Fake {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{t: t, dir: t.TempDir(), answers: map[string][]Answer{}}
	for _, p := range Programs {
		if err := os.Symlink(self, filepath.Join(f.dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	f.write()
	return f
}

// Remove takes a program away, as on a machine without it.
func (f *Fake) Remove(program string) { os.Remove(filepath.Join(f.dir, program)) }

// On lays down an answer. Of several that fit a call the last one counts.
func (f *Fake) On(program string, a Answer) *Fake {
	f.answers[program] = append(f.answers[program], a)
	f.write()
	return f
}

func (f *Fake) write() {
	data, err := json.Marshal(f.answers)
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, ".answers"), data, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// Environ is an environment with the stand-ins before everything else on the PATH, and without the
// configuration of a Slurm that this machine may have. A stand-in under -race would sleep for a second
// at its end.
func (f *Fake) Environ(more ...string) []string {
	return append([]string{
		"PATH=" + f.dir + ":/usr/bin:/bin", variable + "=" + f.dir, "HOME=" + f.dir, "SLURM_CONF=" + f.dir + "/slurm.conf",
		"GORACE=atexit_sleep_ms=0",
	}, more...)
}

// Calls lists the calls so far, in order.
func (f *Fake) Calls() []Call {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, ".calls"))
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	var calls []Call
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var c Call
		if line != "" && json.Unmarshal([]byte(line), &c) == nil {
			calls = append(calls, c)
		}
	}
	return calls
}

// Recorded is a file of slurm/testdata.
func Recorded(t testing.TB, version, name string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	data, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "testdata", version, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Main is the stand-in's own program: it does not return when the test binary was started as one.
func Main() {
	dir, name := os.Getenv(variable), filepath.Base(os.Args[0])
	if dir == "" {
		return
	}
	for _, p := range Programs {
		if p == name {
			os.Exit(stand(dir, name, os.Args[1:]))
		}
	}
}

func stand(dir, name string, args []string) int {
	data, err := os.ReadFile(filepath.Join(dir, ".answers"))
	var answers map[string][]Answer
	if err == nil {
		err = json.Unmarshal(data, &answers)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "slurmtest:", err)
		return 70
	}
	var a *Answer
	for i := range answers[name] {
		if fits(answers[name][i].Args, args) {
			a = &answers[name][i]
		}
	}
	call := Call{Program: name, Args: args, Env: os.Environ(), Pid: os.Getpid()}
	if a == nil || a.Script == "" {
		if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice == 0 && name == "sbatch" {
			in, _ := io.ReadAll(os.Stdin)
			call.Stdin = string(in)
		}
	}
	note(dir, call)
	if a == nil {
		fmt.Fprintf(os.Stderr, "slurmtest: no answer for %s %s\n", name, strings.Join(args, " "))
		return 70
	}
	time.Sleep(a.Delay)
	switch {
	case a.Script != "":
		argv := append([]string{"/bin/sh", "-c", a.Script, name}, args...)
		fmt.Fprintln(os.Stderr, "slurmtest:", syscall.Exec("/bin/sh", argv, os.Environ()))
		return 70
	case a.Hang:
		argv := []string{"/bin/sh", "-c", "sleep 600 & sleep 600"}
		fmt.Fprintln(os.Stderr, "slurmtest:", syscall.Exec("/bin/sh", argv, os.Environ()))
		return 70
	}
	io.WriteString(os.Stdout, a.Stdout)
	io.WriteString(os.Stderr, a.Stderr)
	return a.Code
}

// fits says whether want appears in args, in order.
func fits(want, args []string) bool {
	for _, a := range args {
		if len(want) > 0 && strings.Contains(a, want[0]) {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// note appends a call; lines of one write do not mix.
func note(dir string, c Call) {
	data, err := json.Marshal(c)
	if err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, ".calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	f.Write(append(data, '\n'))
}
