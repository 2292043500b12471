package cli_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binDir has the real program, built once.
var binDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "maniple-cli-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		os.Chmod(dir, 0o755)
		build := exec.Command("go", "build", "-o", filepath.Join(dir, "maniple"), "../cmd/maniple")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		binDir = dir
		return m.Run()
	}())
}

// The commands as users see them, bad input included. Each script has its own home and temporary
// directory; at its end no process and no file of a cluster may be left.
func TestScripts(t *testing.T) {
	host, _ := os.Hostname()
	host, _, _ = strings.Cut(host, ".")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       flag.Lookup("rewrite").Value.String() == "true", // of docs_test.go
		Setup: func(env *testscript.Env) error {
			for _, d := range []string{"home", "t"} {
				if err := os.Mkdir(filepath.Join(env.WorkDir, d), 0o700); err != nil {
					return err
				}
			}
			tmp := filepath.Join(env.WorkDir, "t")
			env.Setenv("PATH", binDir+":"+os.Getenv("PATH"))
			env.Setenv("BIN", binDir)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("TMPDIR", tmp)
			env.Setenv("NODE", host)
			env.Setenv("UID", strconv.Itoa(os.Getuid()))
			env.Setenv("CLI_TEST_MARK", env.WorkDir)
			env.Defer(func() { nothingLeft(env.T(), env.WorkDir, tmp) })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "numpy":
				return exec.Command("python3", "-c", "import numpy").Run() == nil, nil
			}
			return false, fmt.Errorf("no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": await,
			"poke":  poke,
		},
	})
}

// exits runs a program and checks its exit code: exits 64 maniple run --bad.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal())
		}
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// await runs a program until its output has a word: await WORD PROGRAM [ARG...].
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await WORD PROGRAM [ARG...]")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s never came: %v", args[0], err)
		}
	}
}

// nothingLeft checks that a script's clusters are gone: processes by the mark in their environment,
// files by its temporary directory.
func nothingLeft(t testscript.T, mark, tmp string) {
	var left []string
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		left = left[:0]
		procs, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, p := range procs {
			env, err := os.ReadFile(p)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			if err == nil && pid != os.Getpid() && bytes.Contains(env, []byte("CLI_TEST_MARK="+mark+"\x00")) {
				cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
				left = append(left, fmt.Sprintf("process %d: %s", pid, bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
			}
		}
		files, _ := filepath.Glob(filepath.Join(tmp, "maniple-*", "*"))
		left = append(left, files...)
		if len(left) == 0 {
			return
		}
	}
	for _, l := range left {
		if pid, _, ok := strings.Cut(strings.TrimPrefix(l, "process "), ":"); ok && strings.HasPrefix(l, "process ") {
			if n, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(n, syscall.SIGKILL)
			}
		}
	}
	t.Log("left behind:\n  " + strings.Join(left, "\n  "))
	t.FailNow()
}
