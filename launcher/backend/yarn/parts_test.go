package yarn

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// YJOB-1: what a container is handed comes out of its token file, and is not there afterwards; its tokens are.
func TestSecretIsTakenOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	token := yarn.Token{Identifier: []byte("i"), Password: []byte("p"), Kind: yarn.KindHDFS, Service: "s"}
	data, err := pack(yarn.Credentials{Tokens: map[string]yarn.Token{"a": token}}, jobSecret, Job{Version: jobVersion, Secret: []byte("a secret"), Command: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var job Job
	c, err := unpack(file, jobSecret, &job)
	if err != nil || string(job.Secret) != "a secret" || job.Command[0] != "x" {
		t.Fatalf("%+v %v", job, err)
	}
	left, err := yarn.ReadCredentials(file)
	if got, ok := left.Find(yarn.KindHDFS, ""); err != nil || !ok || len(left.Secrets) != 0 || len(c.Secrets) != 0 || string(got.Password) != "p" {
		t.Errorf("%v %v", left, err)
	}
	if after, _ := os.ReadFile(file); bytes.Contains(after, []byte("YSBzZWNyZXQ")) || !bytes.Contains(data, []byte("YSBzZWNyZXQ")) {
		t.Error("the secret is still in the file, or was never there")
	}
	if _, err := unpack(file, jobSecret, &job); err == nil || !strings.Contains(err.Error(), "maniple submit --on yarn") {
		t.Error(err)
	}
}

// open starts a relay and gives its address.
func openRelay(t *testing.T, joined func(string, string, *link)) (*relay, string, []byte) {
	t.Helper()
	dir, secret := t.TempDir(), bytes.Repeat([]byte{7}, 32)
	logs := [2]string{filepath.Join(dir, "out"), filepath.Join(dir, "err")}
	for _, f := range logs {
		if err := os.WriteFile(f, []byte(filepath.Base(f)+" begins\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := listen("c", secret, logs)
	if err != nil {
		t.Fatal(err)
	}
	r.joined, r.head = joined, func() where { return where{[]string{"1.2.3.4:5"}, "for nodes"} }
	r.serve()
	t.Cleanup(r.end)
	return r, fmt.Sprintf("127.0.0.1:%d", r.port()), secret
}

func TestRelayAnswersItsOwn(t *testing.T) {
	r, address, secret := openRelay(t, func(string, string, *link) { t.Error("a client joined as a node") })
	a, err := NewAccess("c", secret)
	if err != nil {
		t.Fatal(err)
	}
	addresses, waits, err := a.Head(t.Context(), address)
	if err != nil || !slices.Equal(addresses, []string{"1.2.3.4:5"}) || waits != "for nodes" {
		t.Error(addresses, waits, err)
	}
	if conn, err := a.dial(t.Context(), address, hello{Node: "n1"}); err == nil {
		conn.Read(make([]byte, 1)) // until it is closed
		conn.Close()
	}
	var out bytes.Buffer
	if n, err := a.Log(t.Context(), address, true, 4, nil, &out); err != nil || n != 7 || out.String() != "begins\n" {
		t.Error(n, err, out.String())
	}
	for _, stranger := range []*Access{must(NewAccess("c", bytes.Repeat([]byte{8}, 32))), must(NewAccess("d", secret)), {}} {
		if _, _, err := stranger.Head(t.Context(), address); err == nil {
			t.Error("a stranger was answered")
		}
	}
	// Who follows gets what comes, and the end with the application's.
	read, write := io.Pipe()
	go func() {
		_, err := a.Log(t.Context(), address, false, 0, func() {}, write)
		write.CloseWithError(err)
	}()
	lines := bufio.NewScanner(read)
	for _, want := range []string{"out begins", "and ends"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q %v", lines.Text(), lines.Err())
		}
		if f, err := os.OpenFile(r.logs[0], os.O_APPEND|os.O_WRONLY, 0); want == "out begins" && err == nil {
			f.WriteString("and ends\n")
			f.Close()
		}
	}
	r.end()
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("%q %v", lines.Text(), lines.Err())
	}
}

// A NodeManager that is started anew gives the folders of containers that it has forgotten other names, and removes them: what was printed is there as long as its master.
func TestLogWithoutItsName(t *testing.T) {
	r, address, secret := openRelay(t, nil)
	f, err := os.Open(r.logs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	name := r.logs[0]
	if r.logs[0] = written(f); written(nil) != "" {
		t.Error("there is no file")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := must(NewAccess("c", secret)).Log(t.Context(), address, false, 0, nil, &out); err != nil || out.String() != "out begins\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}

// YJOB-6: an application that prints elsewhere has no output, which is all of it at its end, and no reason to ask again.
func TestLogOfWhatPrintsElsewhere(t *testing.T) {
	r, address, secret := openRelay(t, nil)
	r.logs = [2]string{}
	a := must(NewAccess("c", secret))
	if n, err := a.Log(t.Context(), address, false, 0, nil, io.Discard); n != 0 || err != nil {
		t.Error(n, err)
	}
	connected := func(n int) {
		for there := -1; there != n; runtime.Gosched() {
			r.mu.Lock()
			there = len(r.open)
			r.mu.Unlock()
		}
	}
	connected(0)
	over := make(chan error, 1)
	go func() {
		_, err := a.Log(t.Context(), address, true, 0, func() {}, io.Discard)
		over <- err
	}()
	connected(1)
	select {
	case err := <-over:
		t.Error("it ended before the application:", err)
	case <-time.After(50 * time.Millisecond):
	}
	r.end()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// YJOB-6: a connection that is cut, with a farewell of TLS or without, is not taken for the end of the output.
func TestLogSaysThatItWasCut(t *testing.T) {
	r, address, secret := openRelay(t, nil)
	read, write := io.Pipe()
	over := make(chan error, 1)
	go func() {
		_, err := must(NewAccess("c", secret)).Log(t.Context(), address, false, 0, func() {}, write)
		over <- err
	}()
	if line, err := bufio.NewReader(read).ReadString('\n'); err != nil || line != "out begins\n" {
		t.Fatalf("%q %v", line, err)
	}
	r.mu.Lock()
	for conn := range r.open {
		conn.Close()
	}
	r.mu.Unlock()
	if err := <-over; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// YJOB-5: a node's lines go both ways, and the master's end is the end of its input.
func TestRelayCarriesANode(t *testing.T) {
	joined := make(chan *link, 1)
	r, address, secret := openRelay(t, func(name, _ string, l *link) {
		if name != "n1" {
			t.Error(name)
		}
		joined <- l
		l.in.Scan()
		if got := l.in.Text(); got != `{"event":"ready"}` {
			t.Error(got)
		}
		if err := l.send([]byte("drain")); err != nil {
			t.Error(err)
		}
		l.in.Scan() // until the end
	})
	key := must(keyOf("c", secret, partyNode))
	master := must(keyOf("c", secret, partyMaster))
	cfg := must(config(key, master.Public().(ed25519.PublicKey)))
	conn, err := dial(t.Context(), []string{"127.0.0.1:1", address}, cfg, hello{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-joined
	conn.Write([]byte("{\"event\":\"ready\"}\n"))
	line := make([]byte, 6)
	if _, err := conn.Read(line); err != nil || string(line) != "drain\n" {
		t.Errorf("%q %v", line, err)
	}
	r.end()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(line); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(n, err)
	}
}

func TestOwnVariables(t *testing.T) {
	environ := []string{"PATH=/bin", "CONTAINER_ID=c", "PWD=/x", "A=b", "APP_SUBMIT_TIME_ENV=1", "HOME=/home/"}
	if got := own(environ); !slices.Equal(got, []string{"CONTAINER_ID=c", "PWD=/x", "HOME=/home/"}) {
		t.Error(got)
	}
	m := &Master{Job: Job{Env: []string{"K=V"}}}
	if got := m.Environ(environ); !slices.Equal(got, []string{"PATH=/bin", "A=b", "K=V"}) {
		t.Error(got)
	}
}

// Values that memory has no room for go to the container's folder on each of the machine's disks, which YARN removes.
func TestDisks(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	env := map[string]string{"LOCAL_DIRS": one + "," + two + ",/nowhere", "CONTAINER_ID": "container_1_1_1_2"}
	want := []string{filepath.Join(one, "container_1_1_1_2"), filepath.Join(two, "container_1_1_1_2")}
	for _, dir := range want {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got := disks(func(name string) string { return env[name] }); !slices.Equal(got, want) {
		t.Error(got)
	}
	if got := disks(func(string) string { return "" }); got != nil {
		t.Error(got)
	}
}

// Values take so little that a worker on each core may map all of them, where the NodeManager counts address space.
func TestStoreShare(t *testing.T) {
	dir := t.TempDir()
	site := func(key, value string) {
		text := "<configuration><property><name>" + key + "</name><value>" + value + "</value></property></configuration>"
		if err := os.WriteFile(filepath.Join(dir, "yarn-site.xml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const gib = 1 << 30
	for _, tc := range []struct {
		key, value string
		memory     int64
		cores      int
		want       int64
	}{
		{"x", "y", 20 * gib, 2, 6 * gib},                 // what the agent takes elsewhere
		{"x", "y", 20 * gib, 16, (42*gib - 21*gib) / 17}, // 16 workers, and another process, have 42 GiB of addresses, and reserve some
		{"x", "y", gib, 64, minStore},
		{"yarn.nodemanager.vmem-pmem-ratio", "3", 10 * gib, 16, (30*gib - 21*gib) / 17},
		{"yarn.nodemanager.vmem-check-enabled", "false", 10 * gib, 16, 0},
	} {
		site(tc.key, tc.value)
		if got := storeShare(dir, tc.memory, tc.cores); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
	if got := storeShare("/nowhere", 20*gib, 16); got != 21*gib/17 {
		t.Error(got)
	}
}

// Where address space is counted, containers have enough for what is only reserved.
func TestAddressSpace(t *testing.T) {
	for _, tc := range []struct {
		check, ratio, groups string
		master, node         int64
	}{{"", "", "", 3901, 2926}, {"true", "4", "", 2049, 1537}, {"false", "", "", 1024, 1408}, {"true", "100", "", 1024, 1408}, {"", "", "true", 1024, 1408}, {"", "", "false", 3901, 2926}} {
		c := conf.New()
		if tc.check != "" {
			c.Set("yarn.nodemanager.vmem-check-enabled", tc.check)
		}
		if tc.groups != "" {
			c.Set("yarn.nodemanager.resource.memory.enforced", tc.groups)
		}
		if tc.ratio != "" {
			c.Set("yarn.nodemanager.vmem-pmem-ratio", tc.ratio)
		}
		a := Application{Master: yarn.Resource{MemoryMB: 1024}, Job: Job{Size: yarn.Resource{MemoryMB: 1408, VCores: 2}}}
		grown := a.AddressSpace(c)
		if a.Master.MemoryMB != tc.master || a.Job.Size.MemoryMB != tc.node || grown != (tc.master > 1024) {
			t.Errorf("%+v: %v, %v", tc, a.Master, a.Job.Size)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		r    yarn.Report
		want int
	}{
		{yarn.Report{State: yarn.StateFinished, Final: yarn.Succeeded, Diagnostics: diagnostics(0, "")}, 0},
		{yarn.Report{State: yarn.StateFinished, Final: yarn.Failed, Diagnostics: diagnostics(3, "rank 1")}, 3},
		{yarn.Report{State: yarn.StateFinished, Final: yarn.Failed, Diagnostics: "Attempt recovered after RM restart" + diagnostics(75, "node n2")}, 75},
		{yarn.Report{State: yarn.StateFinished, Final: yarn.Failed, Diagnostics: "what"}, 1},
		{yarn.Report{State: yarn.StateKilled, Final: yarn.Killed, Diagnostics: "exit code 0"}, 143},
		{yarn.Report{State: yarn.StateFailed, Final: yarn.Failed, Diagnostics: "AM exited with exit code 1"}, 1},
	} {
		if got := ExitCode(tt.r); got != tt.want {
			t.Errorf("%+v: %d", tt.r, got)
		}
	}
}

func TestQueueShare(t *testing.T) {
	leaf := func(name string, most float32) yarn.Queue {
		return yarn.Queue{Name: name, MaxCapacity: most, State: yarn.QueueRunning}
	}
	root := yarn.Queue{Name: "root", MaxCapacity: 1, Children: []yarn.Queue{
		leaf("default", 1), leaf("auto", 0), {Name: "science", MaxCapacity: 0.5, State: yarn.QueueRunning, Children: []yarn.Queue{leaf("gpu", 0.5)}},
		{Name: "labelled", MaxCapacity: 0.25, DefaultLabel: "big"},
	}}
	for name, want := range map[string]queue{
		"default": {share: 1}, "gpu": {share: 0.25}, "root.science.gpu": {share: 0.25}, "auto": {share: 1}, "labelled": {share: 0.25, label: "big"},
	} {
		if got, leaves := findQueue(root, name); got != want || leaves != nil {
			t.Error(name, got, leaves)
		}
	}
	for _, name := range []string{"science", "nosuch"} {
		if got, leaves := findQueue(root, name); got != (queue{share: 1}) || strings.Join(leaves, " ") != "auto default gpu labelled" {
			t.Error(name, got, leaves)
		}
	}
	// A FairScheduler names queues by their path, makes those that are not there, and tells of each its part of the whole cluster.
	fair := yarn.Queue{Name: "root", MaxCapacity: 1, Children: []yarn.Queue{leaf("root.default", 0.1), {Name: "root.users", MaxCapacity: 0.1, Children: []yarn.Queue{leaf("root.users.alice", 0.1)}}}}
	if got, _ := findQueue(yarn.Queue{Name: "root", MaxCapacity: 0.5, Scheduler: "FairScheduler"}, "root"); got.share != 1 {
		t.Error(got)
	}
	for _, name := range []string{"default", "root.users.alice", "root.users.bob"} {
		if got, leaves := findQueue(fair, name); got != (queue{share: 1, fair: true}) || len(leaves) != 2 {
			t.Error(name, got, leaves)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
