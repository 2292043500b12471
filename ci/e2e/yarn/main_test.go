//go:build e2e

// Package yarn tests the clients of package yarn against real daemons of Hadoop: a ResourceManager and two
// NodeManagers of ci/e2e/testbed/hadoop, brought up once for the package and taken down after it.
package yarn

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// limit is that of a step on a busy machine.
const limit = 90 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(playMaster())
	}
	code := m.Run()
	if bed != nil && os.Getenv("MANIPLE_E2E_YARN") == "" {
		bed.script("down.sh")
	}
	os.Exit(code)
}

// testbed is the real YARN.
type testbed struct {
	dir string
	rm  conf.ResourceManager
}

var (
	once  sync.Once
	bed   *testbed
	upErr string
)

// up gives the testbed, brought up by the first test that asks for it. MANIPLE_E2E_YARN names the folder of
// one that is up already, for work on the tests.
func up(t *testing.T) *testbed {
	t.Helper()
	for _, program := range []string{"java", "curl", "ss"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("a testbed of Hadoop needs %s", program)
		}
	}
	once.Do(func() {
		bed = &testbed{dir: os.Getenv("MANIPLE_E2E_YARN")}
		if bed.dir == "" {
			bed.dir = "/var/tmp/maniple-e2e/hadoop/" + strconv.Itoa(os.Getpid())
			if out, err := bed.script("up.sh", "OWNER="+strconv.Itoa(os.Getpid())); err != nil {
				upErr = err.Error() + "\n" + out
				return
			}
		}
		c, err := conf.Load(filepath.Join(bed.dir, "conf", "rm"))
		if err == nil {
			var list []conf.ResourceManager
			if list, err = c.ResourceManagers(); err == nil {
				bed.rm = list[0]
			}
		}
		if err != nil {
			upErr = err.Error()
		}
	})
	if upErr != "" {
		t.Fatal("the Hadoop testbed does not come up: ", upErr)
	}
	return bed
}

// script runs one of the testbed's scripts: its name and arguments, and settings.
func (b *testbed) script(line string, env ...string) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	words := strings.Fields(line)
	words[0] = filepath.Join(filepath.Dir(here), "..", "testbed", "hadoop", words[0])
	cmd := exec.CommandContext(ctx, "bash", words...)
	cmd.Env = append(append(os.Environ(), "DIR="+b.dir), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// client is one of the user.
func (b *testbed) client(t *testing.T, user string) *yarn.Client {
	t.Helper()
	c, err := yarn.New(yarn.Config{ResourceManagers: []string{b.rm.Client}, User: user})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
