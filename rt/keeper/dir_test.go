package keeper_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func readJSON(path string, to any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}

func TestDirectory(t *testing.T) {
	n := boot(t, setup{})
	a := n.agent()
	for path, mode := range map[string]os.FileMode{"": 0o700, "keeper.json": 0o600, "agent.log": 0o600, "head.log": 0o600, "keeper.log": 0o600, "agent.sock": 0o600} {
		info, err := os.Stat(filepath.Join(n.dir(), path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v", path, info, err)
		}
	}
	if info, err := os.Stat(filepath.Dir(n.dir())); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cluster's: %v, %v", info, err)
	}
	// KEEP-6: what programs and daemons put there goes too.
	os.MkdirAll(filepath.Join(n.dir(), "deep", "er"), 0o500)
	a.stop()
	if _, err := os.Stat(filepath.Dir(n.dir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cluster's directory is left: %v", err)
	}
	if _, err := os.Stat(n.base); err != nil {
		t.Errorf("a base that was named is not ours to remove: %v", err)
	}
}

// A node that can't start leaves nothing of what it made, the user's own directory included.
func TestFailedStartLeavesNoDirectory(t *testing.T) {
	tmp := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	n := boot(t, setup{env: []string{"TMPDIR=" + tmp, "SLURM_TMPDIR="}, doc: func(d *bootdoc.Doc) { d.Base, d.PortRange = "", [2]int{port, port} }})
	if ev := n.event("error"); ev["code"] != "PORT" {
		t.Errorf("error: %v", ev)
	}
	n.ended(73)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Nodes of one cluster on one machine share its directory and leave it to each other.
func TestNodesOfOneMachine(t *testing.T) {
	base := t.TempDir()
	var agents []*link
	for i := range 4 {
		n := boot(t, setup{base: base, doc: func(d *bootdoc.Doc) { d.Node.Name = fmt.Sprintf("n%d", i) }})
		agents = append(agents, n.agent())
	}
	for i, a := range agents {
		a.stop()
		_, err := os.Stat(filepath.Join(base, "test"))
		if last := i == len(agents)-1; last != errors.Is(err, os.ErrNotExist) {
			t.Errorf("after node %d: %v", i, err)
		}
	}
}

func TestLongPath(t *testing.T) {
	base := filepath.Join(t.TempDir(), strings.Repeat("long-", 20), strings.Repeat("path-", 20))
	n := boot(t, setup{base: base})
	a := n.agent()
	a.send(&fb.KeeperReadyT{Role: fb.RoleAgent, Agent: 1})
	socket := n.event("ready")["socket"].(string)
	if len(socket) < 200 {
		t.Fatalf("socket %s", socket)
	}
	dialUnix(t, socket)
	got := a.recv("KeeperConn")
	if !got.m.(*fb.KeeperConnT).Unix {
		t.Errorf("got %+v", got.m)
	}
	a.stop()
}

func TestDirectoryIsRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(base string) error
		code string
		exit int
		text string
	}{
		{"open to others", func(base string) error {
			return errors.Join(os.Mkdir(filepath.Join(base, "test"), 0o700), os.Chmod(filepath.Join(base, "test"), 0o755))
		}, "CANNOT_CREATE", 73, "chmod 700"},
		{"a link", func(base string) error { return os.Symlink("/", filepath.Join(base, "test")) }, "CANNOT_CREATE", 73, "not a directory"},
		{"a file", func(base string) error { return os.WriteFile(filepath.Join(base, "test"), nil, 0o600) }, "CANNOT_CREATE", 73, "not a directory"},
		{"another user's", func(base string) error {
			return errors.Join(os.Mkdir(filepath.Join(base, "test"), 0o700), os.Chown(filepath.Join(base, "test"), 12345, 12345))
		}, "REFUSED", 77, "belongs to user 12345"},
		{"a name too long", func(string) error { return nil }, "CANNOT_CREATE", 73, "shorten the name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			if err := test.make(base); errors.Is(err, unix.EPERM) {
				t.Skip("needs root to give a directory away")
			} else if err != nil {
				t.Fatal(err)
			}
			n := boot(t, setup{base: base, doc: func(d *bootdoc.Doc) {
				if test.name == "a name too long" {
					d.Base = filepath.Join(base, strings.Repeat("x", 300))
				}
			}})
			ev := n.event("error")
			if ev["code"] != test.code || !strings.Contains(ev["text"].(string), test.text) {
				t.Errorf("error: %v", ev)
			}
			<-n.over
			if code := n.cmd.ProcessState.ExitCode(); code != test.exit {
				t.Errorf("exit code %d", code)
			}
			if test.name == "a link" {
				if _, err := os.Lstat(filepath.Join(base, "test")); err != nil {
					t.Errorf("what was there is gone: %v", err)
				}
			}
		})
	}
}

// Two users with the same cluster name, by the rule for where directories are.
func TestTwoUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be two users")
	}
	tmp := t.TempDir()
	if err := errors.Join(os.Chmod(tmp, 0o777|os.ModeSticky), os.Chmod(filepath.Dir(tmp), 0o755)); err != nil {
		t.Fatal(err)
	}
	exe := copyExecutable(t, tmp)
	var agents []*link
	var nodes []*node
	for _, uid := range []uint32{12345, 54321} {
		n := boot(t, setup{env: []string{"TMPDIR=" + tmp, "SLURM_TMPDIR=", "HOME=/"}, doc: func(d *bootdoc.Doc) { d.Base = "" }, wrap: func(cmd *exec.Cmd) {
			cmd.Path, cmd.Dir = exe, "/"
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		}})
		n.base = filepath.Join(tmp, fmt.Sprintf("maniple-%d", uid))
		nodes, agents = append(nodes, n), append(agents, n.agent())
	}
	for i, n := range nodes {
		info, err := os.Stat(n.dir())
		if err != nil || agents[i].config.NodeDir != n.dir() || info.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Errorf("%s: %v, %v", n.dir(), info, err)
		}
	}
	// The other one can't get in.
	look := exec.Command("ls", nodes[0].dir())
	look.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	if out, err := look.CombinedOutput(); err == nil {
		t.Errorf("another user saw %s", out)
	}
	// Nor is he served where somebody opened the way for him.
	socket := filepath.Join(nodes[0].dir(), "agent.sock")
	for path := socket; path != tmp; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	knock := exec.Command(exe, "knock", socket)
	knock.SysProcAttr = look.SysProcAttr
	if out, err := knock.CombinedOutput(); err != nil || string(out) != "dropped" {
		t.Errorf("another user's connection: %s, %v", out, err)
	}
	agents[0].send(&fb.PortHoldT{Group: group})
	if m := agents[0].recv("PortHeld").m; wire.TypeOf(m) != fb.FrameTypePortHeld {
		t.Errorf("the agent was given %s", wire.TypeOf(m))
	}
	r := agents[0].launch(&fb.ProgramLaunchT{Argv: []string{"id", "-u"}})
	if got := r.lines(r.stdout(), -1)[0]; got != "12345" {
		t.Errorf("a program runs as %s", got)
	}
	r.end()
	for i, a := range agents {
		a.stop()
		if _, err := os.Stat(nodes[i].base); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the user's directory is left: %v", err)
		}
	}
}

// A full disk is said, not crashed on.
func TestFullDisk(t *testing.T) {
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=4k,nr_inodes=3"); err != nil {
		t.Skipf("can't mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	n := boot(t, setup{base: base})
	ev := n.event("error")
	if ev["code"] != "DISK_FULL" || !strings.Contains(ev["text"].(string), "no space") {
		t.Errorf("error: %v", ev)
	}
	n.ended(73)
}

// copyExecutable puts this program where other users can run it.
func copyExecutable(t *testing.T, dir string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keeper.test")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func dialUnix(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := uds.Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}
