package sweep

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// SWEEP-4: of many directories beside each other only those of keepers that are surely dead are swept, of
// their processes all and no others.
func TestLeftovers(t *testing.T) {
	at := here()
	if at == (Place{}) {
		t.Fatal("this kernel tells no boot or pid namespace")
	}
	if link, err := os.Readlink("/proc/self/ns/pid"); err != nil || link != fmt.Sprintf("pid:[%d]", at.PIDs) || len(at.Boot) < 32 {
		t.Errorf("%+v, but the namespace is %s, %v", at, link, err)
	}
	self, err := Self("own", 1)
	if err != nil || self.Place != at || !self.Alive() {
		t.Fatalf("own record: %+v, %v", self, err)
	}
	base := t.TempDir()
	var held []*os.File
	defer func() {
		for _, f := range held {
			f.Close()
		}
	}()
	elsewhere, rebooted := at, at
	elsewhere.PIDs++
	rebooted.Boot = "0" + at.Boot[1:] + "x"
	for _, c := range []struct {
		name   string
		keeper Keeper // of pid 1<<30, which is nobody's, unless it names one
		mode   os.FileMode
		locked bool
		env    []string // of its process, beside the mark
		swept  bool
	}{
		{name: "dead", keeper: Keeper{Place: at}, swept: true},
		{name: "dead of a job", keeper: Keeper{Place: at, Job: "4711"}, env: []string{"SLURM_JOB_ID=4711"}, swept: true},
		{name: "dead of a job that it hides", keeper: Keeper{Place: at, Job: "4711"}, swept: true},
		{name: "held", keeper: Keeper{Place: at}, locked: true},
		{name: "alive without a lock", keeper: Keeper{Place: at, PID: self.PID, Started: self.Started}},
		{name: "before the last boot", keeper: Keeper{Place: rebooted}},
		{name: "another pid namespace", keeper: Keeper{Place: elsewhere}},
		{name: "of an unknown place"},
		{name: "open to others", keeper: Keeper{Place: at}, mode: 0o755},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mode == 0 {
				c.mode = 0o700
			}
			if c.keeper.PID == 0 {
				c.keeper.PID = 1 << 30
			}
			c.keeper.NodeKey = "leftover-" + c.name
			dir := filepath.Join(base, c.name, "n1")
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "deep", "er"), 0o700), os.Chmod(dir, c.mode)); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(c.keeper)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, bootdoc.KeeperName), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.locked {
				lock, err := Lock(dir)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, lock)
			}
			cmd := exec.Command("sh", "-c", `trap "" TERM HUP INT; while :; do sleep 0.3; done`)
			cmd.Env = append(append(Mark{NodeKey: c.keeper.NodeKey}.Strings(), c.env...), "PATH="+os.Getenv("PATH"))
			cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
			start(t, cmd)
			waitFor(t, func() bool { _, ok := ReadMark(cmd.Process.Pid); return ok })
			var told []string
			Leftovers(base, func(dir string, ended int, err error) {
				if told = append(told, dir); ended == 0 || err != nil {
					t.Errorf("%s: %d ended, %v", dir, ended, err)
				}
			})
			p, err := Read(cmd.Process.Pid)
			if runs := err == nil && !p.Dead(); runs == c.swept {
				t.Errorf("its process runs: %v", runs)
			}
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) != c.swept {
				t.Errorf("its directory: %v", err)
			}
			if c.swept != slices.Equal(told, []string{dir}) || !c.swept && len(told) > 0 {
				t.Errorf("told of %v", told)
			}
		})
	}
	// A keeper that has made its directory, and locked it or not, but not written its name into it.
	starting := filepath.Join(base, "starting", "n1")
	if err := os.MkdirAll(starting, 0o700); err != nil {
		t.Fatal(err)
	}
	Leftovers(base, func(dir string, _ int, _ error) { t.Errorf("told of %s", dir) })
	if _, err := os.Stat(starting); err != nil {
		t.Error(err)
	}
}

// The lock of a directory that was removed is worth nothing, though another is there by its name.
func TestLockOfARemovedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "n1")
	mkdir := func() {
		t.Helper()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !leadsTo(dir, f) {
		t.Error("it is the same one")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if leadsTo(dir, f) {
		t.Error("it is not there any more")
	}
	if _, err := Lock(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("locked, though it is not there: %v", err)
	}
	mkdir()
	if leadsTo(dir, f) {
		t.Error("it is another one")
	}
}
