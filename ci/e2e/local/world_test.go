//go:build e2e

package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	binary string // the maniple under test
	top    string // of the checkout
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("/var/tmp", "maniple-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		os.Chmod(dir, 0o755)
		wd, _ := os.Getwd()
		top = filepath.Clean(filepath.Join(wd, "..", "..", ".."))
		if binary = os.Getenv("MANIPLE_E2E_BINARY"); binary != "" { // a machine without Go
			return m.Run()
		}
		binary = filepath.Join(dir, "maniple")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "./launcher/cmd/maniple")
		build.Dir, build.Env = top, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// world is one test's surroundings: its own temporary folder, state folder and mark.
type world struct {
	t    testing.TB
	dir  string          // work folder of the programs
	tmp  string          // TMPDIR of the cluster
	shm  map[string]bool // what /dev/shm had before
	env  []string
	mark string
}

// newWorld gives a test its surroundings. At the end no process may carry the test's mark and no file
// of a cluster may be left, in the state folder neither.
func newWorld(t testing.TB) *world {
	t.Helper()
	var b [8]byte
	rand.Read(b[:])
	w := &world{t: t, mark: "MANIPLE_E2E=" + hex.EncodeToString(b[:]), shm: map[string]bool{}}
	for _, path := range shared() {
		w.shm[path] = true
	}
	root, err := os.MkdirTemp("/var/tmp", "maniple-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(root, 0o755)
	w.dir, w.tmp = filepath.Join(root, "work"), filepath.Join(root, "tmp")
	for _, d := range []string{w.dir, w.tmp, filepath.Join(root, "state"), filepath.Join(root, "home")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "SLURM_") && !strings.HasPrefix(name, "MANIPLE_") {
			w.env = append(w.env, kv)
		}
	}
	w.env = append(w.env, w.mark, "TMPDIR="+w.tmp, "HOME="+filepath.Join(root, "home"), "XDG_STATE_HOME="+filepath.Join(root, "state"))
	t.Cleanup(func() {
		w.nothingLeft(filepath.Join(root, "state"), filepath.Join(root, "home/.local/state"))
		for _, pid := range w.marked() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		os.RemoveAll(root)
	})
	return w
}

// marked are the live processes that descend from this test, by the mark in their environment.
func (w *world) marked() []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil && bytes.Contains(env, []byte(w.mark)) {
			found = append(found, pid)
		}
	}
	return found
}

func command(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(string(bytes.ReplaceAll(data, []byte{0}, []byte(" "))))
}

// find are the marked processes whose command line has all the words.
func (w *world) find(words ...string) []int {
	return slices.DeleteFunc(w.marked(), func(pid int) bool {
		line := command(pid)
		return slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
}

// one waits for exactly one such process.
func (w *world) one(words ...string) int {
	w.t.Helper()
	var pids []int
	w.wait(10*time.Second, "one process with "+strings.Join(words, " "), func() bool {
		pids = w.find(words...)
		return len(pids) == 1
	})
	return pids[0]
}

// wait polls until ok, or fails the test after the limit.
func (w *world) wait(limit time.Duration, what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("after %s still not: %s\n%s", limit, what, w.logs())
		}
	}
}

// shared are the files in shared memory.
func shared() []string {
	paths, _ := filepath.Glob("/dev/shm/*") // the pattern is valid
	return paths
}

// used tells whether a live process has the file open or mapped.
func used(path string) bool {
	maps, _ := filepath.Glob("/proc/[0-9]*/maps")
	for _, m := range maps {
		if data, err := os.ReadFile(m); err == nil && bytes.Contains(data, []byte(path)) {
			return true
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	return slices.ContainsFunc(fds, func(fd string) bool { target, _ := os.Readlink(fd); return target == path })
}

// nothingLeft checks that neither process nor file of a cluster remains, and no shared memory that nobody
// has any more; in the folders, too, no file may be.
func (w *world) nothingLeft(folders ...string) {
	w.t.Helper()
	var left []string
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left = left[:0]
		for _, pid := range w.marked() {
			left = append(left, fmt.Sprintf("process %d: %s", pid, command(pid)))
		}
		// What torch and others leave in TMPDIR is theirs.
		ours, _ := filepath.Glob(filepath.Join(w.tmp, "maniple-*", "*"))
		for _, dir := range append(ours, folders...) {
			if filepath.Base(dir) == ".environments" { // what was installed stays for the next cluster
				continue
			}
			filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err == nil && (!d.IsDir() || !slices.Contains(folders, dir)) {
					left = append(left, path)
				}
				return nil
			})
		}
		for _, path := range shared() {
			if !w.shm[path] && !used(path) {
				left = append(left, path)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	w.t.Errorf("left behind:\n%s\n%s", strings.Join(left, "\n"), w.logs())
}

// logs are the daemons' logs, for messages.
func (w *world) logs() string {
	var all strings.Builder
	filepath.WalkDir(w.tmp, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".log") {
			data, _ := os.ReadFile(path)
			fmt.Fprintf(&all, "--- %s\n%s\n", path, data[max(0, len(data)-4000):])
		}
		return nil
	})
	return all.String()
}

// process is a maniple command under way.
type process struct {
	w    *world
	cmd  *exec.Cmd
	out  safeBuffer
	err  safeBuffer
	done chan struct{}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs maniple in the background, in a process group of its own as a shell does.
func (w *world) start(stdin string, args ...string) *process {
	w.t.Helper()
	return w.launch(stdin, w.env, binary, args...)
}

// launch is start for any program.
func (w *world) launch(stdin string, env []string, program string, args ...string) *process {
	w.t.Helper()
	p := &process{w: w, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = w.dir, env
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if stdin != "" {
		p.cmd.Stdin = strings.NewReader(stdin)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// code waits for the command's end and returns its exit code, 128+N for a signal.
func (p *process) code(limit time.Duration) int {
	p.w.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.cmd.Process.Signal(syscall.SIGABRT) // its goroutines
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.cmd.Process.Kill()
		}
		p.w.t.Fatalf("%v did not end in %s\nstdout: %s\nstderr: %s\n%s", p.cmd.Args, limit, p.out.String(), p.err.String(), p.w.logs())
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// run runs maniple to its end.
func (w *world) run(args ...string) (code int, out, errs string) {
	w.t.Helper()
	p := w.start("", args...)
	code = p.code(4 * time.Minute) // torch is slow to import on a busy machine
	return code, p.out.String(), p.err.String()
}

// must runs maniple and fails the test unless it ends with 0.
func (w *world) must(args ...string) string {
	w.t.Helper()
	code, out, errs := w.run(args...)
	if code != 0 {
		w.t.Fatalf("maniple %s: exit code %d\nstdout: %s\nstderr: %s\n%s", strings.Join(args, " "), code, out, errs, w.logs())
	}
	return out
}

// file writes a program or data into the work folder.
func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// read is a file of the work folder, "" if there is none.
func (w *world) read(name string) string {
	data, _ := os.ReadFile(filepath.Join(w.dir, name))
	return string(data)
}

// torch is the Python of the cached environment with torch.
func torch(t testing.TB) string { return cached(t, "demo") }

// cached is the Python of a cached environment.
func cached(t testing.TB, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(top, "ci/python/env.sh"), name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ci/python/env.sh %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}
