package keeper_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestProgramEnds(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	for i, test := range []struct {
		script    string
		code, sig int32
		out, err  string
	}{
		{"echo out; echo err >&2", 0, 0, "out", "err"},
		{"exit 7", 7, 0, "", ""},
		{"kill -TERM $$", 0, int32(unix.SIGTERM), "", ""},
		{"kill -KILL $$", 0, int32(unix.SIGKILL), "", ""},
		{"cat; echo $MANIPLE_GROUP $MANIPLE_INCARNATION $MANIPLE_RANK", 0, 0, fmt.Sprintf("3.1.42 2 %d", 5), ""},
	} {
		m := sh(test.script)
		m.Incarnation, m.Rank = 2, uint32(i+1)
		r := a.launch(m)
		if r.state.Phase != fb.RankPhaseRunning || r.state.Pid == 0 || r.state.Started == 0 || len(r.files) != 2 {
			t.Fatalf("%s: started as %+v with %d descriptors", test.script, r.state, len(r.files))
		}
		end := r.end()
		if end.Code != test.code || end.Signal != test.sig || end.Error != "" || end.Wall == 0 || end.MaxRss == 0 {
			t.Errorf("%s: ended as %+v", test.script, end)
		}
		if got := strings.Join(r.lines(r.stdout(), -1), ";"); got != test.out {
			t.Errorf("%s: stdout %q", test.script, got)
		}
		if got := strings.Join(r.lines(r.stderr(), -1), ";"); got != test.err {
			t.Errorf("%s: stderr %q", test.script, got)
		}
		r.forget()
	}
	a.stop()
}

func TestProgramCPUTimeAndCore(t *testing.T) {
	t.Parallel()
	n := boot(t, setup{})
	a := n.agent()
	dir := t.TempDir()
	m := sh("ulimit -c unlimited; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; kill -QUIT $$")
	m.Cwd = dir
	end := a.launch(m).end()
	if end.Signal != int32(unix.SIGQUIT) || end.CpuTime < uint64(10*time.Millisecond) {
		t.Errorf("ended as %+v", end)
	}
	if pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern"); strings.TrimSpace(string(pattern)) == "core" && !end.Core {
		t.Error("the core was not told")
	}
	a.stop()
}

func TestProgramInput(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	m := sh("cat")
	m.Stdin = true
	r := a.launch(m)
	if !r.state.Stdin || len(r.files) != 3 {
		t.Fatalf("started as %+v with %d descriptors", r.state, len(r.files))
	}
	if _, err := r.stdin().WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	if got := r.lines(r.stdout(), 1)[0]; got != "hello" {
		t.Errorf("got %q", got)
	}
	r.stdin().Close()
	a.send(&fb.ProgramSignalT{Group: group})
	if end := r.end(); end.Code != 0 || end.Signal != 0 {
		t.Errorf("ended as %+v", end)
	}
	a.stop()
}

func TestProgramTerminal(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	r := a.launch(&fb.ProgramLaunchT{Argv: []string{"sh", "-c", "tty; stty size; read x; stty size; echo got $x; read y; echo over >/dev/tty"}, Pty: true, Rows: 33, Cols: 111})
	if !r.state.Pty || len(r.files) != 1 {
		t.Fatalf("started as %+v with %d descriptors", r.state, len(r.files))
	}
	first := r.lines(r.stdout(), 2)
	if !strings.HasPrefix(first[0], "/dev/pts/") || strings.TrimSpace(first[1]) != "33 111" {
		t.Errorf("terminal %q", first)
	}
	a.send(&fb.ProgramResizeT{Group: group, Rows: 50, Cols: 60})
	a.send(&fb.PortHoldT{Group: group}) // answered after the resize
	a.recv("PortHeld")
	if _, err := r.files[0].WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.Join(r.lines(r.stdout(), 3), "|"), "\r", "")
	if got != "word|50 60|got word" {
		t.Errorf("got %q", got)
	}
	if _, err := r.files[0].WriteString("\x04"); err != nil { // end of input
		t.Fatal(err)
	}
	if got := r.lines(r.stdout(), -1); strings.TrimSpace(got[0]) != "over" {
		t.Errorf("got %q", got)
	}
	if end := r.end(); end.Code != 0 {
		t.Errorf("ended as %+v", end)
	}
	a.stop()
}

func TestProgramCannotStart(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("train.py", "print()", 0o644)
	noLine := write("noline", "hello", 0o755)
	badLine := write("badline", "#!/no/such/interpreter\n", 0o755)
	for i, test := range []struct {
		argv []string
		cwd  string
		cpus []uint32
		code int32
		text string
	}{
		{[]string{"no-such-program"}, "/", nil, 127, "not found in PATH"},
		{[]string{"train.py"}, dir, nil, 127, "there is train.py in"},
		{[]string{"./nothing"}, dir, nil, 127, "no such file"},
		{nil, "/", nil, 127, "no program"},
		{[]string{plain}, "/", nil, 126, "not executable"},
		{[]string{"./train.py"}, dir, nil, 126, "not executable"},
		{[]string{dir}, "/", nil, 126, "is a directory"},
		{[]string{noLine}, "/", nil, 126, "first line"},
		{[]string{badLine}, "/", nil, 127, "interpreter"},
		{[]string{"true"}, "/no/such/dir", nil, 126, "working directory"},
		{[]string{"true"}, plain, nil, 126, "not a directory"},
		{[]string{"true"}, "/", []uint32{1000}, 126, "CPU"},
		{[]string{"true", strings.Repeat("x", 200<<10)}, "/", nil, 126, "larger"},
	} {
		r := a.launch(&fb.ProgramLaunchT{Rank: uint32(i), Argv: test.argv, Cwd: test.cwd, Cpus: test.cpus})
		if r.state.Phase != fb.RankPhaseEnded || r.state.Code != test.code || !strings.Contains(r.state.Error, test.text) {
			t.Errorf("%.30q in %s: %+v", test.argv, test.cwd, r.state)
		}
	}
	// The binding of the one that could not be bound is not left on the next.
	r := a.launch(&fb.ProgramLaunchT{Rank: 100, Argv: []string{"sh", "-c", "grep Cpus_allowed_list /proc/self/status"}})
	want, _ := os.ReadFile("/proc/self/status")
	if got := r.lines(r.stdout(), -1)[0]; !strings.Contains(string(want), got) {
		t.Errorf("CPUs of a program without binding: %s", got)
	}
	a.stop()
}

// KEEP-4, and what a program has from the keeper.
func TestProgramSurroundings(t *testing.T) {
	inherited, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	runtime.LockOSThread() // the keeper inherits this thread's mask of blocked signals
	defer runtime.UnlockOSThread()
	blocked := unix.Sigset_t{Val: [16]uint64{1<<(unix.SIGUSR2-1) | 1<<(unix.SIGTERM-1)}}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, nil); err != nil {
		t.Fatal(err)
	}
	n := boot(t, setup{wrap: ignoreInterrupt(t, inherited)})
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &blocked, nil); err != nil {
		t.Fatal(err)
	}
	a := n.agent()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hold := &fb.PortHoldT{Group: group}
	a.send(hold)
	a.recv("PortHeld")
	first := a.launch(&fb.ProgramLaunchT{Rank: 1, Stdin: true, Argv: []string{"cat"}})
	m := &fb.ProgramLaunchT{Argv: []string{exe, "fds"}, Cpus: []uint32{1}}
	m.Env = []string{"PATH=/bin", "MANIPLE_RANK=99", "MANIPLE_NODE_KEY=stolen"}
	r := a.launch(m)
	var fds []string
	for _, line := range r.lines(r.stdout(), -1) {
		key, value, _ := strings.Cut(line, ":")
		switch {
		case key == "SigIgn" || key == "SigBlk":
			set, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if set &^= 3 << 31; set != 0 { // 32 and 33 are the C library's own, no program may touch them
				t.Errorf("signals are not default: %s", line)
			}
		case key == "Cpus_allowed_list":
			if strings.TrimSpace(value) != "1" {
				t.Errorf("not bound to CPU 1: %s", line)
			}
		case strings.HasPrefix(line, "oom"):
			if line != "oom 500" {
				t.Errorf("not preferred when memory runs out: %s", line)
			}
		default:
			fds = append(fds, line)
		}
	}
	fds = slices.DeleteFunc(fds, func(s string) bool {
		return strings.HasSuffix(s, "/fd") || strings.Contains(s, "anon_inode:[event") || strings.Contains(s, "/sys/fs/cgroup") // of the helper itself
	})
	if len(fds) != 3 || !strings.HasPrefix(fds[0], "0 /dev/null") || !strings.HasPrefix(fds[1], "1 pipe:") || !strings.HasPrefix(fds[2], "2 pipe:") {
		t.Errorf("descriptors of a program: %q", fds)
	}
	mine, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", n.cmd.Process.Pid))
	if before, _ := os.ReadFile("/proc/self/oom_score_adj"); string(mine) != string(before) {
		t.Errorf("the keeper's own preference stayed at %s", mine)
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", first.state.Pid))
	if err != nil || !strings.Contains(string(environ), "MANIPLE_NODE_KEY="+a.config.NodeKey+"\x00") {
		t.Errorf("no mark in the environment: %v", err)
	}
	a.stop()
}

func TestLaunchIsIdempotent(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	r := a.launch(sh("sleep 100"))
	again := a.launch(r.m)
	if again.state.Pid != r.state.Pid || again.state.Phase != fb.RankPhaseRunning || len(again.files) != 2 {
		t.Errorf("the second launch gave %+v", again.state)
	}
	r.signal(unix.SIGTERM, false, 0)
	if end := r.end(); end.Signal != int32(unix.SIGTERM) {
		t.Errorf("ended as %+v", end)
	}
	if again := a.launch(r.m); again.state.Phase != fb.RankPhaseEnded || again.state.Pid != r.state.Pid {
		t.Errorf("a launch after the end gave %+v", again.state)
	}
	r.forget()
	if fresh := a.launch(r.m); fresh.state.Pid == r.state.Pid || fresh.state.Phase != fb.RankPhaseRunning {
		t.Errorf("a launch after it was forgotten gave %+v", fresh.state)
	}
	a.stop()
}

func TestStoppedBeforeStart(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	m := sh("sleep 100")
	m.Group, m.Env, m.Cwd = group, os.Environ(), "/"
	a.send(m)
	r := &rank{l: a, m: m}
	r.signal(unix.SIGTERM, true, time.Second)
	for r.next().Phase != fb.RankPhaseEnded { // it may have been started before the signal came
	}
	if r.state.Signal != int32(unix.SIGTERM) {
		t.Errorf("ended as %+v", r.state)
	}
	a.stop()
}

// Batch systems hand on limits that are too small; whatever else is limited is somebody's wish.
func TestProgramsGetRaisedLimits(t *testing.T) {
	n := boot(t, setup{wrap: func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `ulimit -Sn 256 && ulimit -Hn 4321 && ulimit -St 70000 && ulimit -Sc 3 && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}})
	a := n.agent()
	r := a.launch(sh("ulimit -Sn; ulimit -St; ulimit -Sc"))
	if got := strings.Join(r.lines(r.stdout(), 3), " "); got != "4321 70000 3" {
		t.Errorf("nofile, CPU time and core of a program are %s, want 4321 70000 3", got)
	}
	log, err := os.ReadFile(filepath.Join(n.dir(), "keeper.log"))
	if err != nil || !strings.Contains(string(log), "ULIMIT_NOFILE") {
		t.Errorf("the log does not say that 4321 files are few: %v\n%s", err, log)
	}
	r.end()
	a.stop()
}
