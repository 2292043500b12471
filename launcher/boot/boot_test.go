package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend/backendtest"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

func TestMain(m *testing.M) {
	backendtest.Main()
	os.Exit(m.Run())
}

// world is a test's own home and temporary directory.
func world(t *testing.T) func(string) string {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{"HOME": dir + "/home", "TMPDIR": dir + "/tmp"}
	for _, d := range env {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", env["TMPDIR"]) // of the keepers
	return func(k string) string { return env[k] }
}

func nodes(scripts ...string) []bootdoc.Node {
	list := FakeNodes(len(scripts), bootdoc.Node{CPUs: 1})
	for i, s := range scripts {
		list[i].Labels = map[string]string{"script": s}
	}
	return list
}

func up(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Backend = &local.Backend{}
	c, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c.Stop(ctx)
}

// A cluster is found by name as soon as it is up, and not once it has ended.
func TestUpFindDown(t *testing.T) {
	getenv := world(t)
	if _, err := Find(getenv, ""); !errors.Is(err, ErrNone) {
		t.Fatalf("found a cluster before there is one: %v", err)
	}
	c := up(t, Options{Nodes: nodes("", ""), Getenv: getenv, Embedded: true})
	if _, err := c.Publish(getenv); err != nil {
		t.Fatal(err)
	}
	ep, err := Find(getenv, "")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(ep.Nodes, " ") != "n1 n2" || !ep.Here() || !strings.HasSuffix(ep.Socket, "/default/n1/agent.sock") {
		t.Errorf("%+v", ep)
	}
	if list := List(getenv); len(list) != 1 || list[0].Name != "default" {
		t.Errorf("%d clusters are listed", len(list))
	}
	stop(t, c)
	if _, err := Find(getenv, ""); !errors.Is(err, ErrNone) {
		t.Errorf("found it after its end: %v", err)
	}
	if _, err := os.Stat(c.Endpoint.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left", c.Endpoint.Dir)
	}
}

// BOOT-1, BOOT-2: the endpoint file is this user's alone and holds no secret of the cluster.
func TestEndpointFile(t *testing.T) {
	getenv := world(t)
	var secret []byte
	c := up(t, Options{Name: "e", Nodes: nodes(""), Getenv: getenv, Embedded: true, Share: func(d *bootdoc.Doc) error {
		secret = d.Secret
		return nil
	}})
	path, err := c.Publish(getenv)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(getenv("HOME"), ".local/state/maniple/jobs/local/e@"+local.HostName(), "endpoint.json"); path != want {
		t.Errorf("it is at %s, want %s", path, want)
	}
	for p := path; p != filepath.Join(getenv("HOME"), ".local/state"); p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(secret)
	if len(secret) != 32 || bytes.Contains(data, bytes.Trim(quoted, `"`)) || bytes.Contains(data, secret) {
		t.Error("the secret is in the endpoint file")
	}
	if !bytes.Contains(data, []byte("PRIVATE KEY")) || !bytes.Contains(data, []byte(c.Endpoint.Cluster)) {
		t.Errorf("no credential in it:\n%s", data)
	}
}

// BOOT-3: the note of a cluster whose keeper was killed is removed when it is seen.
func TestStaleEndpoint(t *testing.T) {
	getenv := world(t)
	c := up(t, Options{Name: "s", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	path, err := c.Publish(getenv)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(c.Endpoint.Pid, syscall.SIGKILL)
	for range c.session.Events() {
	}
	if _, err := Find(getenv, "s"); !errors.Is(err, ErrNone) {
		t.Errorf("it is handed out: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left", path)
	}
	// Its directory is left by a keeper that could not clean up; the name can be used again.
	old := time.Now().Add(-time.Hour)
	os.Chtimes(c.Endpoint.Dir, old, old)
	again := up(t, Options{Name: "s", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	stop(t, again)
}

// BOOT-4: what is missing is named, with what a node said, and nothing is left running.
func TestJoinFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		scripts []string
		min     int
		want    string
	}{
		{"silent", []string{"", "silent", "silent"}, 0, "1 of 3 nodes joined, missing n[2-3] after 200ms"},
		{"error", []string{"", "error"}, 0, "n2 could not start: the node's directory: no space left on device"},
		{"crash", []string{"crash"}, 0, "n1 could not start: exit status 2: panic: out of ideas"},
		{"too few", []string{"", "crash", "crash"}, 2, " could not start: exit status 2"},
		{"enough", []string{"", "", "crash"}, 2, ""},
		{"enough in time", []string{"", "", "silent"}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			getenv := world(t)
			started := &countingBackend{}
			cluster, err := Up(t.Context(), Options{
				Backend: started, Name: "j", Nodes: nodes(c.scripts...), MinNodes: c.min, Getenv: getenv, Embedded: true, JoinTimeout: 200 * time.Millisecond,
			})
			if err == nil {
				stop(t, cluster)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if (c.want == "") != (err == nil) || !strings.Contains(text, c.want) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
			started.session.Wait() // all have ended, or this never returns
			left, _ := filepath.Glob(filepath.Join(getenv("TMPDIR"), "*"))
			if c.want == "" { // of a cluster that stood, the keepers clean up, and these are scripts
				left, _ = filepath.Glob(filepath.Join(getenv("TMPDIR"), "*/*"))
			}
			if len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// BOOT-5: of two of one name the second is refused; others are not in the way.
func TestTwoOfOneName(t *testing.T) {
	getenv := world(t)
	up(t, Options{Name: "a", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	_, err := Up(t.Context(), Options{Backend: &local.Backend{}, Name: "a", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	if !errors.Is(err, ErrUp) {
		t.Errorf("a second cluster of the name: %v", err)
	}
	up(t, Options{Name: "b", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	if list := List(getenv); len(list) != 2 {
		t.Errorf("%d clusters are listed, want 2", len(list))
	}
}

// An embedded cluster ends with its command, by kill -9 too.
func TestOwnerDies(t *testing.T) {
	if os.Getenv("BOOT_TEST_OWNER") != "" {
		c, err := Up(context.Background(), Options{Backend: &local.Backend{}, Name: "o", Nodes: nodes("", ""), Embedded: true})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("up " + c.Endpoint.Dir + "\n")
		select {}
	}
	getenv := world(t)
	owner := exec.Command(os.Args[0], "-test.run", "^TestOwnerDies$")
	owner.Env = append(os.Environ(), "BOOT_TEST_OWNER=1", "HOME="+getenv("HOME"))
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := out.Read(buf)
	dir, ok := strings.CutPrefix(strings.TrimSpace(string(buf[:n])), "up ")
	if !ok || len(liveNodes(dir)) != 2 {
		t.Fatalf("not up: %q", buf[:n])
	}
	owner.Process.Kill()
	owner.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := (&Endpoint{Dir: dir}).Gone(ctx); err != nil {
		t.Errorf("its keepers live on: %v", err)
	}
}

// Signals are for the keepers that were there when a cluster was looked for, not for those of a later one of its name.
func TestSignalsOfALaterCluster(t *testing.T) {
	getenv := world(t)
	base, err := bootdoc.Base(getenv)
	if err != nil {
		t.Fatal(err)
	}
	before := (&Endpoint{Dir: filepath.Join(base, "l")}).Keepers()
	c := up(t, Options{Name: "l", Nodes: nodes("", ""), Getenv: getenv, Embedded: true})
	if _, err := c.Publish(getenv); err != nil {
		t.Fatal(err)
	}
	ep, err := Find(getenv, "l")
	if err != nil || ep.ID(getenv) != c.Endpoint.Cluster || c.Endpoint.Cluster == "" {
		t.Fatalf("%+v is taken for %q: %v", ep, ep.ID(getenv), err)
	}
	other := *ep
	other.Start++
	if id := other.ID(getenv); id != "" {
		t.Errorf("a keeper that is not noted is of %s", id)
	}
	if n := before.Signal(true); n != 0 || len(ep.Keepers()) != 2 {
		t.Errorf("%d keepers of a later cluster took a signal, %d live", n, len(ep.Keepers()))
	}
	now := ep.Keepers()
	if n := now.Signal(true); n != 2 {
		t.Errorf("%d keepers took a signal", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := ep.Gone(ctx); err != nil {
		t.Error(err)
	}
	if n := now.Signal(false); n != 0 {
		t.Errorf("%d dead keepers took a signal", n)
	}
}

// A home that cannot be written, or is none: the note goes to the node's own directory and is found.
func TestHomeReadOnly(t *testing.T) {
	getenv := world(t)
	env := func(k string) string {
		if k == "HOME" {
			return "/proc/nowhere"
		}
		return getenv(k)
	}
	dir, err := StateDir(env)
	if err != nil || !strings.HasPrefix(dir, getenv("TMPDIR")) {
		t.Fatalf("state goes to %s: %v", dir, err)
	}
	c := up(t, Options{Name: "h", Nodes: nodes(""), Getenv: env, Embedded: true})
	path, err := c.Publish(env)
	if err != nil || !strings.HasPrefix(path, dir) {
		t.Fatalf("%s: %v", path, err)
	}
	c.Endpoint.Remove()
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", ".x", "-x", "a/b", "a b", "ä", strings.Repeat("x", 65)} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	for _, name := range []string{"default", "123", "123_4", "123+1", "a.b-c"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := Find(func(string) string { return "" }, "../x"); err == nil {
		t.Error("a path is taken for a name")
	}
}

// MANIPLE_ADDRESS wins, unless a name is given.
func TestAddress(t *testing.T) {
	getenv := world(t)
	c := up(t, Options{Name: "m", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	env := func(k string) string {
		if k == "MANIPLE_ADDRESS" {
			return "unix:" + c.Endpoint.Socket
		}
		return getenv(k)
	}
	ep, err := Find(env, "")
	if err != nil || ep.Socket != c.Endpoint.Socket || ep.Name != "m" {
		t.Errorf("%+v %v", ep, err)
	}
	if _, err := Find(env, "other"); !errors.Is(err, ErrNone) {
		t.Errorf("--cluster other: %v", err)
	}
	for address, want := range map[string]error{"m": nil, "other": ErrNone} {
		env := func(k string) string {
			if k == "MANIPLE_ADDRESS" {
				return address
			}
			return getenv(k)
		}
		if ep, err := Find(env, ""); !errors.Is(err, want) || err == nil && ep.Socket != c.Endpoint.Socket {
			t.Errorf("the name %s: %+v %v", address, ep, err)
		}
	}
}

// What an embedded cluster announces is in the user's own state directory, for this user alone, and is gone
// once it is taken back; what another cluster of the same job wrote since stays.
func TestAnnounce(t *testing.T) {
	getenv := world(t)
	c := up(t, Options{Name: "13", Nodes: nodes(""), Getenv: getenv, Embedded: true})
	if err := c.Announce(getenv); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(getenv("HOME"), ".local/state/maniple/jobs/local/13@"+local.HostName(), "endpoint.json")
	for p := path; p != filepath.Join(getenv("HOME"), ".local/state"); p = filepath.Dir(p) {
		if info, err := os.Stat(p); err != nil || info.Mode()&0o077 != 0 {
			t.Fatal(info, err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(c.Endpoint.Cluster), []byte("another"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Withdraw()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another cluster's was taken away: %v", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Withdraw()
	if _, err := os.Stat(filepath.Join(getenv("HOME"), ".local/state/maniple")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
	// Without a home that can be written nothing is left elsewhere.
	submit := t.TempDir()
	for _, home := range []string{"", "/proc/nowhere"} {
		err := c.Announce(func(k string) string {
			switch k {
			case "HOME":
				return home
			case "SLURM_SUBMIT_DIR":
				return submit
			}
			return getenv(k)
		})
		if left, _ := os.ReadDir(submit); err == nil || len(left) > 0 {
			t.Errorf("HOME=%s: %v, %v", home, err, left)
		}
	}
}

// BOOT-3: a job that Slurm put back into the queue runs elsewhere under its ID, and does not take the note of
// its first run, which a lost node could not remove, for a cluster that is up. Nor does a job of the same ID.
func TestEndpointOfAnEarlierRun(t *testing.T) {
	for _, tt := range []struct {
		env   []string
		found bool
	}{
		{nil, true},
		{[]string{"SLURM_JOB_ID=13"}, true},
		{[]string{"SLURM_JOB_ID=13", "SLURM_RESTART_COUNT=1"}, true},
		{[]string{"SLURM_JOB_ID=13", "SLURM_RESTART_COUNT=2"}, false},
		{[]string{"SLURM_JOB_ID=14", "SLURM_RESTART_COUNT=2"}, true},
		{[]string{"SLURM_JOB_ID=13", "SLURM_JOB_START_TIME=1000"}, true},
		{[]string{"SLURM_JOB_ID=13", "SLURM_JOB_START_TIME=2000"}, false},
	} {
		home := world(t)
		getenv := func(k string) string {
			for _, kv := range tt.env {
				if v, ok := strings.CutPrefix(kv, k+"="); ok {
					return v
				}
			}
			return home(k)
		}
		ep := &Endpoint{Version: EndpointVersion, Kind: "slurm", Name: "13", Cluster: "c", Host: "n7", Pid: 1, Epoch: 1, Since: time.Unix(990, 0)}
		state, err := StateDir(getenv)
		if err == nil {
			ep.path = ep.file(state)
			err = ep.write(state)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(List(getenv)); n == 1 != tt.found {
			t.Errorf("%v: %d are listed", tt.env, n)
		}
		ep.write(state)
		if _, err := Find(getenv, "13"); err == nil != tt.found {
			t.Errorf("%v: %v", tt.env, err)
		}
		if _, err := os.Stat(ep.path); err == nil != tt.found {
			t.Errorf("%v: its file: %v", tt.env, err)
		}
	}
}
