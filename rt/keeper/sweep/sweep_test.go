package sweep

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

func TestParseStat(t *testing.T) {
	rest := " S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0\n"
	for _, name := range []string{"sh", "a b", "x) Z 1 1 1", "(", ")", ""} {
		p, err := parseStat([]byte("42 (" + name + ")" + rest))
		if want := (Process{PID: 42, Parent: 7, Group: 8, Session: 9, Started: 123456, State: 'S'}); err != nil || p != want {
			t.Errorf("%q: %+v, %v", name, p, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (sh", "x (sh)" + rest, "42 (sh) S 7 8", "42 (sh) S 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 x 0", ")("} {
		if p, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("42 (sh) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0\n"))
	f.Add([]byte("MANIPLE_NODE_KEY=x\x00MANIPLE_RANK=3\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseStat(data)
		if m, ok := parseMark(data); ok && m.NodeKey == "" {
			t.Error("a mark without a key")
		}
	})
}

func TestMark(t *testing.T) {
	want := Mark{NodeKey: "abc", Group: "3.1.42", Incarnation: 7, Rank: 9}
	cmd := exec.Command("sleep", "600")
	cmd.Env = append(want.Strings(), "BIG="+strings.Repeat("x", 100<<10))
	start(t, cmd)
	var m Mark
	waitFor(t, func() (ok bool) { m, ok = ReadMark(cmd.Process.Pid); return ok }) // Start returns before it has an environment
	if m != want {
		t.Errorf("read %+v", m)
	}
	if _, ok := ReadMark(os.Getpid()); ok {
		t.Error("the test has a mark")
	}
	for _, entry := range want.Strings() {
		if !Marks(entry) {
			t.Errorf("%s is not taken for a mark", entry)
		}
	}
	for _, entry := range []string{"MANIPLE_RANKS=1", "MANIPLE_RANK", "RANK=1", ""} {
		if Marks(entry) {
			t.Errorf("%s is taken for a mark", entry)
		}
	}
}

// SWEEP-1.
func TestSignalReachesTheSameProcessOnly(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	start(t, cmd)
	p, err := Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	later := p
	later.Started++
	if err := later.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if q, err := Read(p.PID); err != nil || q.Dead() {
		t.Fatalf("a process that only shares the number was hit: %+v, %v", q, err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Errorf("to one that is gone: %v", err)
	}
}

// Kill spares those who share a process group with a target.
func TestKillSparesTheGroup(t *testing.T) {
	cmds := []*exec.Cmd{exec.Command("sleep", "600"), exec.Command("sleep", "600")}
	cmds[0].SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	start(t, cmds[0])
	cmds[1].SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pgid: cmds[0].Process.Pid}
	start(t, cmds[1])
	var table Table
	all, err := table.All()
	if err != nil {
		t.Fatal(err)
	}
	target, err := Read(cmds[0].Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := Kill([]Process{target}, all); err != nil {
		t.Error(err)
	}
	_ = cmds[0].Wait()
	if p, err := Read(cmds[1].Process.Pid); err != nil || p.Dead() {
		t.Errorf("the other one: %+v, %v", p, err)
	}
}

// SWEEP-2: by mark, by descent, by a known session; and nobody else.
func TestSweep(t *testing.T) {
	mark := Mark{NodeKey: "sweep-" + t.Name() + "-mine"}
	other := Mark{NodeKey: "sweep-" + t.Name() + "-other"}
	path := "PATH=" + os.Getenv("PATH")
	stubborn := `trap "" TERM HUP INT; while :; do sleep 0.3; done`
	run := func(script string, env ...string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(env, path)
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		start(t, cmd)
		return cmd
	}
	marked := run(stubborn, mark.Strings()...)
	child := run(`env -i PATH="$PATH" sh -c '`+stubborn+`' & wait`, mark.Strings()...)
	session := run(`sh -c '` + stubborn + `' & wait`)
	spared := []*exec.Cmd{
		run("sleep 600", other.Strings()...),
		run("sleep 600"),
		run("sleep 600", append(mark.Strings(), "SLURM_JOB_ID=99123")...),
	}
	if os.Geteuid() == 0 { // who may signal it
		other := exec.Command("sleep", "600")
		other.Env = mark.Strings()
		other.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
		start(t, other)
		spared = append(spared, other)
	}
	known, err := Read(session.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stale := Process{PID: spared[1].Process.Pid, Started: 1}
	waitFor(t, func() bool { return children(t, child.Process.Pid) > 0 && children(t, session.Process.Pid) > 0 })
	ended, err := Sweep(mark.NodeKey, "", known, stale)
	if err != nil || ended < 5 {
		t.Errorf("%d ended, %v", ended, err)
	}
	for _, cmd := range []*exec.Cmd{marked, child, session} {
		if p, err := Read(cmd.Process.Pid); err == nil && !p.Dead() {
			t.Errorf("%q runs on", cmd.Args)
		}
	}
	for i, cmd := range spared {
		if p, err := Read(cmd.Process.Pid); err != nil || p.Dead() {
			t.Errorf("bystander %d was ended", i)
		}
	}
	if ended, err := Sweep(mark.NodeKey, ""); ended != 0 || err != nil {
		t.Errorf("the second time: %d, %v", ended, err)
	}
	if _, err := Sweep("", ""); err == nil {
		t.Error("without a key everything would be meant")
	}
}

// Killing goes on as long as something ends, also when a look at the node takes longer than the patience.
func TestEffort(t *testing.T) {
	e := Effort{Patience: 5 * time.Second}
	now := time.Now()
	for left := 100; left > 90; left-- {
		if e.Over(now, left) {
			t.Fatalf("given up with %d left, though fewer and fewer are", left)
		}
		now = now.Add(7 * time.Second)
	}
	if !e.Over(now, 91) || !e.Over(now, 95) {
		t.Error("goes on, though nothing ends")
	}
	e = Effort{Patience: 5 * time.Second}
	for range 5 {
		if e.Over(now, 3) {
			t.Error("given up too early")
		}
		now = now.Add(time.Second)
	}
	if !e.Over(now.Add(time.Second), 3) {
		t.Error("goes on, though nothing ends")
	}
}

// A Table reads again what may have changed: own processes always, others' when one is new under its number
// or lost its parent.
func TestTableBesideOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to start another user's processes")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	own, other := exec.Command("sleep", "600"), exec.Command("sh", "-c", `sh -c 'sleep 600 & wait' & wait`)
	other.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	start(t, own)
	start(t, other)
	var table Table
	find := func(pid int) (is Process) {
		t.Helper()
		all, err := table.All()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.PID == pid {
				is = p
			}
		}
		return is
	}
	child := func(of int) (pid int) {
		t.Helper()
		waitFor(t, func() bool {
			all, err := table.All()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				if p.Parent == of {
					pid = p.PID
				}
			}
			return pid != 0
		})
		return pid
	}
	middle := child(other.Process.Pid)
	last := child(middle)
	defer unix.Kill(last, unix.SIGKILL)
	if !find(own.Process.Pid).Own || find(last).Own {
		t.Error("whose they are")
	}
	known := table.others[last]
	known.State = '?'
	table.others[last] = known
	if find(last).State != '?' {
		t.Error("another's is read at every look")
	}
	if err := unix.Kill(middle, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return find(last).Parent == os.Getpid() })
}

// SWEEP-3.
func TestRemoveDir(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "maniple-7", "job", "n1")
	put := func(k Keeper) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, bootdoc.KeeperName), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(Keeper{PID: 1 << 30, NodeKey: "next"})
	if err := RemoveDir(dir, "dead"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("another keeper's directory was removed: %v", err)
	}
	put(Keeper{PID: 1 << 30, NodeKey: "dead"})
	if err := RemoveDir(dir, "dead"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(base, "maniple-7")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is empty above it is left: %v", err)
	}
	if err := RemoveDir(dir, "dead"); err != nil {
		t.Errorf("the second time: %v", err)
	}
	// One that can't be removed as a whole is still known for the dead keeper's: the next one tries again.
	put(Keeper{PID: 1 << 30, NodeKey: "dead"})
	busy := filepath.Join(dir, "busy")
	if err := os.Mkdir(busy, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", busy, "tmpfs", 0, "size=4k"); err == nil {
		if err := RemoveDir(dir, "dead"); !errors.Is(err, unix.EBUSY) {
			t.Errorf("a part of it is busy: %v", err)
		}
		if k, err := ReadKeeper(dir); err != nil || k.NodeKey != "dead" {
			t.Errorf("nobody knows whose it is: %+v, %v", k, err)
		}
		if err := unix.Unmount(busy, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveDir(dir, "dead"); err != nil {
		t.Error(err)
	}
	// Held by a keeper that is just taking it over.
	put(Keeper{PID: 1 << 30, NodeKey: "dead"})
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := RemoveDir(dir, "dead"); !errors.Is(err, ErrHeld) {
		t.Errorf("held: %v", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a held directory was removed: %v", err)
	}
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func children(t *testing.T, pid int) (n int) {
	t.Helper()
	var table Table
	all, err := table.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Parent == pid {
			n++
		}
	}
	return n
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("it never came to that")
		}
	}
}
