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
	"slices"
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
	if os.Getenv(actionVariable) != "" {
		os.Exit(playLauncher())
	}
	if os.Getenv(roleVariable) != "" {
		os.Exit(playMaster())
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	for _, b := range testbeds {
		if b.dir != "" && os.Getenv(b.variable) == "" {
			b.script("down.sh")
		}
	}
	os.Exit(code)
}

// testbed is a real YARN, brought up by the first test that asks for it. Its variable names the folder of one
// that is up already, for work on the tests.
type testbed struct {
	variable string
	settings []string
	programs []string // that it needs

	once sync.Once
	err  string
	dir  string
	conf *conf.Conf
	rm   conf.ResourceManager
	rms  []string // where clients find all of them
}

var (
	simple = &testbed{variable: "MANIPLE_E2E_YARN", programs: []string{"java", "mvn", "curl", "ss"}}
	secure = &testbed{variable: "MANIPLE_E2E_YARN_SECURE", programs: []string{"java", "mvn", "curl", "ss", "apt-get", "dpkg"}, settings: kerberized}
	apart  = &testbed{variable: "MANIPLE_E2E_YARN_APART", programs: append([]string{"ip", "nsenter"}, simple.programs...), settings: apartness}                   // in soak
	twin   = &testbed{variable: "MANIPLE_E2E_YARN_TWIN", programs: simple.programs, settings: []string{"NAMENODES=2", "DATANODES=3", "REPLICATION=2", "NODES=1"}} // in soak
	paired = &testbed{variable: "MANIPLE_E2E_YARN_PAIRED", programs: simple.programs, settings: []string{"MANAGERS=2"}}                                           // in soak
	strict = &testbed{variable: "MANIPLE_E2E_YARN_STRICT", programs: simple.programs, settings: []string{"VMEM_CHECK=true", "NODES=1", "NM_MB=28000", "NM_VCORES=18", "LOG_FORMATS=IFile,TFile", "LOG_COMPRESSION=gz"}}
)

// kerberized: and cores are not counted, and memory is rounded up, as Hadoop has it where a site says nothing.
var kerberized = []string{"KERBEROS=1", "NODES=1", "NM_MB=6144", "DATA_PROTECTION=integrity,privacy", "CALCULATOR=Default", "LEAST_MB=1024"}

// testbeds are taken down at the end.
var testbeds = []*testbed{simple, secure, twin, paired, strict, apart}

// apartness: each NodeManager has a network, and room for two of three containers. nm1 finds them again when it is started anew, and of what nm2 is silent about
// for 40 s is given up.
var apartness = []string{"NETNS=1", "NM_MB=1024", "NM_RECOVERY=nm1", "NM_EXPIRY_MS=40000", "AM_ATTEMPTS=100"}

// up brings the testbed up.
func (b *testbed) up(t *testing.T) *testbed {
	t.Helper()
	for _, program := range b.programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getuid() == 0 { // ci/suite/prepare.sh would have installed it
				t.Fatalf("a testbed of Hadoop needs %s", program)
			}
			t.Skipf("a testbed of Hadoop needs %s", program)
		}
	}
	b.once.Do(func() {
		if b.dir = os.Getenv(b.variable); b.dir == "" {
			b.dir = "/var/tmp/maniple-e2e/hadoop/" + b.variable[len("MANIPLE_E2E_"):] + "-" + strconv.Itoa(os.Getpid())
			if out, err := b.script("up.sh", "OWNER="+strconv.Itoa(os.Getpid())); err != nil {
				b.err = err.Error() + "\n" + out
				return
			}
		}
		var err error
		if b.conf, err = conf.Load(filepath.Join(b.dir, "conf", "rm")); err == nil {
			var list []conf.ResourceManager
			if list, err = b.conf.ResourceManagers(); err == nil {
				b.rm = list[0]
			}
			for _, m := range list {
				b.rms = append(b.rms, m.Client)
			}
		}
		if err != nil {
			b.err = err.Error()
		}
	})
	if b.err != "" {
		t.Fatal("the Hadoop testbed does not come up: ", b.err)
	}
	return b
}

func up(t *testing.T) *testbed {
	t.Helper()
	return simple.up(t)
}

// script runs one of the testbed's scripts: its name and arguments, and more than the testbed's settings.
func (b *testbed) script(line string, env ...string) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	words := strings.Fields(line)
	words[0] = filepath.Join(filepath.Dir(here), "..", "testbed", "hadoop", words[0])
	cmd := exec.CommandContext(ctx, "bash", words...)
	cmd.Env = slices.Concat(os.Environ(), b.settings, []string{"DIR=" + b.dir}, env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// client is one of the user.
func (b *testbed) client(t *testing.T, user string) *yarn.Client {
	t.Helper()
	c, err := yarn.New(yarn.Config{ResourceManagers: b.rms, User: user})
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
