package bootdoc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func sound() *Doc {
	return &Doc{Version: Version, Cluster: strings.Repeat("0", 32), Secret: make([]byte, 32), Name: "c"}
}

func TestCheck(t *testing.T) {
	if err := sound().Check(); err != nil {
		t.Fatal(err)
	}
	for text, spoil := range map[string]func(*Doc){
		"version":        func(d *Doc) { d.Version = 2 },
		"cluster ID":     func(d *Doc) { d.Cluster = "1" },
		"secret":         func(d *Doc) { d.Secret = nil },
		"no name":        func(d *Doc) { d.Name = "" },
		"cluster's name": func(d *Doc) { d.Name = "a/b" },
		"node's name":    func(d *Doc) { d.Node.Name = ".." },
		"owner":          func(d *Doc) { d.Owner = "me" },
		"range of ports": func(d *Doc) { d.PortRange = [2]int{1, 70000} },
	} {
		d := sound()
		spoil(d)
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestNodeName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	d := sound()
	if got, err := d.NodeName(); err != nil || got == "" || strings.Contains(got, ".") || !strings.HasPrefix(host, got) {
		t.Errorf("of host %s: %s, %v", host, got, err)
	}
	d.Node.Name = "n7"
	if got, err := d.NodeName(); err != nil || got != "n7" {
		t.Errorf("%s, %v", got, err)
	}
	t.Setenv("SLURMD_NODENAME", "c0-7")
	slurm := Doc{Job: "12"}
	if got, err := slurm.NodeName(); err != nil || got != "c0-7" {
		t.Errorf("in a Slurm job the node is %q, %v: Slurm calls it c0-7", got, err)
	}
	if got, _ := (&Doc{}).NodeName(); got == "c0-7" {
		t.Error("a cluster outside Slurm takes Slurm's name for the node")
	}
}

// Nodes that come and go on one machine make and remove the cluster's directory, and the user's above it,
// under each other. The last one leaves none; a base that was named is not ours to remove.
func TestMakeNodeDirConcurrently(t *testing.T) {
	tmp := t.TempDir()
	getenv := func(name string) string { return map[string]string{"TMPDIR": tmp}[name] }
	d, named := sound(), sound()
	named.Base = filepath.Join(tmp, "base")
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 200 {
				for _, d := range []*Doc{d, named} {
					dir, err := d.MakeNodeDir(getenv, fmt.Sprintf("n%d", i))
					if err != nil {
						t.Error(err)
						return
					}
					_ = os.Remove(dir)
					RemoveEmpty(filepath.Dir(dir))
				}
			}
		}()
	}
	wait.Wait()
	if left, _ := os.ReadDir(tmp); len(left) != 1 || left[0].Name() != "base" {
		t.Errorf("left: %v, want the base that was named", left)
	}
}

func TestBase(t *testing.T) {
	good := t.TempDir()
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	suffix := fmt.Sprintf("/maniple-%d", os.Getuid())
	for _, test := range []struct {
		want string
		m    map[string]string
	}{
		{good, map[string]string{"SLURM_TMPDIR": good, "TMPDIR": "/nowhere"}},
		{good, map[string]string{"SLURM_TMPDIR": "/nowhere", "TMPDIR": good}},
		{"/tmp", map[string]string{"TMPDIR": "/nowhere/at/all"}},
	} {
		if got, err := Base(env(test.m)); err != nil || got != test.want+suffix {
			t.Errorf("%v: %s, %v", test.m, got, err)
		}
	}
}

// A directory on a file system that other nodes have too is no node's own: the next is taken, or none.
func TestBaseIsLocal(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	shared[int64(st.Type)] = "a network"
	defer delete(shared, int64(st.Type))
	got, err := Base(func(name string) string { return map[string]string{"TMPDIR": dir}[name] })
	switch {
	case err != nil:
		if !strings.Contains(err.Error(), dir+" is on a network, which is not local to the node") || !strings.Contains(err.Error(), "set TMPDIR") {
			t.Errorf("%v", err)
		}
	case strings.HasPrefix(got, dir):
		t.Errorf("%s is taken, which is not local", got)
	}
}
