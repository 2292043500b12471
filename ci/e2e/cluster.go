package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Cluster is the testbed.
type Cluster struct {
	Dir     string // its folder, seen by all nodes
	Conf    string // SLURM_CONF
	Shared  string // a folder that all may write
	User    string // the ordinary user that tests act as
	Home    string
	UID     int
	GID     int
	Nodes   int
	Version string // of Slurm
	Binary  string // maniple
	Top     string // of the checkout
}

var (
	once    sync.Once
	cluster *Cluster
	upErr   error
	upText  string
)

// Main runs the tests of a package and takes the testbed down afterwards.
func Main(m *testing.M) (code int) {
	defer func() {
		if cluster != nil && os.Getenv("MANIPLE_E2E_SLURM") == "" {
			cluster.script(context.Background(), "down.sh")
		}
	}()
	return m.Run()
}

// Slurm is the testbed, brought up by the first test that asks for it. MANIPLE_E2E_SLURM names the folder
// of one that is up already, for work on the tests.
func Slurm(t testing.TB) *Cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a testbed of network namespaces needs root: run `sudo go test -tags e2e ./ci/e2e/...`")
	}
	once.Do(func() { cluster, upText, upErr = bringUp() })
	if upErr != nil {
		t.Fatalf("the Slurm testbed does not come up: %v\n%s", upErr, upText)
	}
	cluster.settle(t)
	return cluster
}

// settle waits until Slurm has cleaned up after the test before: a node whose job completes still is not
// given to the next one, which then gets others than a test names.
func (c *Cluster) settle(t testing.TB) {
	t.Helper()
	var jobs string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := c.Command(t.Context(), "/", "squeue", "-h").Output()
		if jobs = string(out); err == nil && jobs == "" {
			return
		}
	}
	t.Logf("jobs of before are still there:\n%s", jobs)
}

func bringUp() (*Cluster, string, error) {
	_, here, _, _ := runtime.Caller(0)
	c := &Cluster{Top: filepath.Dir(filepath.Dir(filepath.Dir(here)))}
	c.Dir = os.Getenv("MANIPLE_E2E_SLURM")
	var text string
	if c.Dir == "" {
		c.Dir = fmt.Sprintf("/var/tmp/maniple-e2e/slurm-%d", os.Getpid())
		out, err := c.script(context.Background(), "up.sh", "OWNER="+strconv.Itoa(os.Getpid()))
		if text = out; err != nil {
			return nil, text, err
		}
	}
	data, err := os.ReadFile(filepath.Join(c.Dir, "env"))
	if err != nil {
		return nil, text, err
	}
	vars := map[string]string{}
	for _, line := range strings.Split(string(data), "\n") {
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok {
			vars[name] = value
		}
	}
	c.Conf, c.Shared, c.User, c.Home = vars["SLURM_CONF"], vars["MANIPLE_TESTBED_SHARED"], vars["MANIPLE_TESTBED_USER"], vars["MANIPLE_TESTBED_HOME"]
	c.Version = vars["MANIPLE_TESTBED_VERSION"]
	c.Nodes, _ = strconv.Atoi(vars["MANIPLE_TESTBED_NODES"])
	u, err := user.Lookup(c.User)
	if err != nil {
		return nil, text, err
	}
	c.UID, _ = strconv.Atoi(u.Uid)
	c.GID, _ = strconv.Atoi(u.Gid)
	c.Binary = filepath.Join(c.Dir, "bin", "maniple")
	// MANIPLE_BINARY: one that was built already, by a suite that tests it in several packages.
	build := exec.Command("go", "build", "-trimpath", "-o", c.Binary, "./launcher/cmd/maniple")
	if built := os.Getenv("MANIPLE_BINARY"); built != "" {
		build = exec.Command("install", "-D", "-m", "755", built, c.Binary)
	}
	build.Dir, build.Env = c.Top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, string(out), fmt.Errorf("build: %w", err)
	}
	os.Chmod(filepath.Dir(c.Binary), 0o755)
	return c, text, nil
}

// script runs one of the testbed's scripts. Its time is bounded: installing packages takes minutes.
func (c *Cluster) script(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(c.Top, "ci/e2e/testbed", name))
	cmd.Env = append(os.Environ(), "DIR="+c.Dir)
	for _, a := range args {
		if name, _, ok := strings.Cut(a, "="); ok && name == strings.ToUpper(name) && !strings.ContainsAny(name, " -/") {
			cmd.Env = append(cmd.Env, a)
		} else {
			cmd.Args = append(cmd.Args, a)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // daemons keep no stream of ours, but to be sure
	err := cmd.Run()
	return out.String(), err
}

// Node runs testbed/node.sh: crash, boot, unplug, plug, slurmd-stop, slurmd-start, exec.
func (c *Cluster) Node(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.script(context.WithoutCancel(t.Context()), "node.sh", args...)
	if err != nil {
		t.Fatalf("node.sh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Python is one with torch that the user may run; with a name, one with the packages of ci/python/NAME.txt.
func (c *Cluster) Python(t testing.TB, name ...string) string {
	t.Helper()
	out, err := c.script(t.Context(), "python.sh", name...)
	if err != nil {
		t.Fatalf("no Python: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// Folder is a folder of the test's own that all nodes and the user can write; removed at its end.
func (c *Cluster) Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(c.Shared, "t-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	os.Chown(dir, c.UID, c.GID)
	t.Cleanup(func() {
		if t.Failed() {
			for _, path := range globs(dir, "*.out", "*.log") {
				if data, err := os.ReadFile(path); err == nil {
					t.Logf("%s:\n%s", filepath.Base(path), clip(string(data)))
				}
			}
		}
		os.RemoveAll(dir)
	})
	return dir
}

func globs(dir string, patterns ...string) []string {
	var all []string
	for _, p := range patterns {
		list, _ := filepath.Glob(filepath.Join(dir, p)) // the patterns are valid
		all = append(all, list...)
	}
	return all
}

func clip(s string) string {
	if len(s) > 6000 {
		return s[:3000] + "\n[...]\n" + s[len(s)-3000:]
	}
	return s
}
