//go:build e2e && soak

package yarn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	hdfsfiles "github.com/maniple-hpc/maniple/launcher/hdfs"
	"github.com/maniple-hpc/maniple/yarn"
)

// stateOf is what a NameNode says that it is.
func (b *testbed) stateOf(t *testing.T, name string) string {
	t.Helper()
	r, err := http.Get("http://" + b.conf.Get("dfs.namenode.http-address.ha."+name) + "/jmx?qry=Hadoop:service=NameNode,name=NameNodeStatus")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	for _, state := range []string{"active", "standby"} {
		if strings.Contains(string(text), `"State" : "`+state+`"`) {
			return state
		}
	}
	t.Fatalf("%s %v", text, err)
	return ""
}

// keepsOnHDFS submits two ranks that write checkpoints to HDFS until a file is there.
func (g *gateway) keepsOnHDFS(enough string) (id string) {
	g.t.Helper()
	python, top := devPython(g.t)
	g.write("keeps.py", keepScript)
	id = g.submit(append(small, "-N", "2", "--ntasks-per-node", "1", "--files", "keeps.py", "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--",
		python, "keeps.py", enough, fmt.Sprintf("hdfs://ha/user/alice/keeps-%d", time.Now().UnixNano()))...)
	e2e.Until(g.t, limit, "both ranks write checkpoints", func() bool { return strings.Count(g.logs(id), "keeps ") == 2 })
	return id
}

// brings submits a program with a file that nobody has brought yet, and others, and gives what comes of it, later.
func (g *gateway) brings(others ...string) <-chan e2e.Result {
	g.t.Helper()
	name := fmt.Sprintf("brought-%d", time.Now().UnixNano())
	g.write(name, strings.Repeat(name, 100_000))
	cmd := g.command(within(g.t), append([]string{"submit", "--on", "yarn", "--follow", "-N", "1", "-n", "1", "--files", strings.Join(append(others, name+"#brought"), ",")}, append(small, "--", "wc", "-c", "brought")...)...)
	done := make(chan e2e.Result, 1)
	go func() { done <- e2e.Do(g.t, cmd) }()
	return done
}

// HDFS-4: of two NameNodes the active one is killed, and the other one made active: what is being written goes on, and so do checkpoints of a program and a submission that bring
// their files meanwhile; its master dies, and is followed by one that finds its files there. The first one comes back as standby, and is not asked twice.
// Then both are standby for ten seconds, and who waits is told why.
func TestNameNodeFailsOver(t *testing.T) {
	g := gatewayOn(t, twin.up(t))
	enough := filepath.Join(g.home, "enough")
	id := g.keepsOnHDFS(enough)
	alice := g.hdfs(yarn.Config{User: "alice"})
	defer alice.Close()
	name, some := fmt.Sprintf("/user/alice/held-%d", time.Now().UnixNano()), e2e.Parts(3 << 19)[0].Bytes
	held, err := alice.CreateFile(name, 1, 1<<20, 0o600)
	if err == nil {
		_, err = held.Write(some)
	}
	if err != nil {
		t.Fatal(err)
	}
	daemon(t, g, "kill nn")
	written := make(chan error, 1)
	go func() {
		_, err := held.Write(some)
		written <- errors.Join(err, hdfsfiles.Closed(t.Context(), held))
	}()
	brought := g.brings()
	time.Sleep(time.Second) // nobody is active
	daemon(t, g, "active nn2")
	if err := <-written; err != nil {
		t.Error(err)
	}
	if got, err := alice.ReadFile(name); err != nil || !bytes.Equal(got, append(some, some...)) {
		t.Errorf("what was being written over the failover are %d bytes: %v", len(got), err)
	}
	if r := <-brought; r.Code != 0 || !strings.Contains(r.Stdout, "brought") {
		t.Errorf("%+v", r)
	}
	kill(t, id, "yarn-master")

	daemon(t, g, "start nn")
	daemon(t, g, "wait")
	if nn, nn2 := g.b.stateOf(t, "nn"), g.b.stateOf(t, "nn2"); nn != "standby" || nn2 != "active" {
		t.Fatal(nn, nn2)
	}
	bob := g.hdfs(yarn.Config{User: "bob"}) // who begins with the standby
	defer bob.Close()
	began := time.Now()
	if _, err := bob.Stat("/user/alice"); err != nil || time.Since(began) > limit {
		t.Error(err, time.Since(began))
	}
	daemon(t, g, "standby nn2")
	brought = g.brings("hdfs://ha" + name + "#held") // by the file system's name, which no machine has
	time.Sleep(10 * time.Second)
	daemon(t, g, "active nn")
	if r := <-brought; r.Code != 0 || !strings.Contains(r.Stdout, "brought") || !strings.Contains(r.Stderr, "not supported in state standby") {
		t.Errorf("%+v", r)
	}

	if err := os.WriteFile(enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := g.over(id); r.Final != yarn.Succeeded || r.Attempt.Number != 2 {
		t.Errorf("%+v", r)
	}
	if text := g.logs(id); strings.Count(text, "kept ") != 2 {
		t.Error(text)
	}
	if r := g.run("logs", id); r.Code != 0 || strings.Count(r.Stdout, "kept ") != 2 { // which YARN has brought to HDFS
		t.Errorf("%+v", r)
	}
}

// Of two ResourceManagers the active one is killed, and the other one made active: an application of two nodes goes on, and a submission waits for it meanwhile. The first one comes
// back as standby, and is not asked twice; an application's master dies, and is followed. Then both are standby for ten seconds, and who waits is told why.
func TestResourceManagerFailsOver(t *testing.T) {
	g := gatewayOn(t, paired.up(t))
	c := g.counts(t, false)
	goesOn := func(after string) {
		t.Helper()
		had := c.said()
		c.goOn("they go on after "+after, &had, false)
		e2e.Until(t, limit, "it is known to run", func() bool { return strings.Contains(c.run("explain", c.id).Stdout, "is RUNNING") })
	}
	submitted := func(brought <-chan e2e.Result, said string) {
		t.Helper()
		if r := <-brought; r.Code != 0 || !strings.Contains(r.Stdout, "brought") || !strings.Contains(r.Stderr, said) {
			t.Errorf("%+v", r)
		}
	}

	daemon(t, g, "kill rm")
	brought := g.brings()
	time.Sleep(time.Second) // nobody is active
	daemon(t, g, "active rm2")
	submitted(brought, "")
	goesOn("the first one's death")

	daemon(t, g, "start rm")
	daemon(t, g, "wait")
	began := time.Now()
	if r := c.run("status", c.id); r.Code != 0 || time.Since(began) > limit/3 {
		t.Errorf("the standby, which is asked first, costs %v: %+v", time.Since(began), r)
	}
	kill(t, c.id, "yarn-master")
	goesOn("the master's death")

	daemon(t, g, "standby rm2")
	brought = g.brings()
	time.Sleep(10 * time.Second)
	daemon(t, g, "active rm")
	submitted(brought, "submit: YARN has no answer yet: ")
	goesOn("the time without an active one")
	c.ends()
}

// writing is which DataNodes have a part of what is being written, larger than so much.
func (b *testbed) writing(least int64) (names []string) {
	for _, name := range []string{"dn", "dn2", "dn3"} {
		found, _ := filepath.Glob(filepath.Join(b.dir, name, "current", "BP-*", "current", "rbw", "blk_*"))
		if slices.ContainsFunc(found, func(path string) bool {
			info, err := os.Stat(path)
			return err == nil && info.Size() > least
		}) {
			names = append(names, name)
		}
	}
	return names
}

// HDFS-6: a DataNode is killed, of which the NameNode does not learn for ten minutes: what was being written to it goes on, at whatever length, what a program writes
// goes on, and what is brought is brought to others.
func TestDataNodeIsLost(t *testing.T) {
	g := gatewayOn(t, twin.up(t))
	t.Setenv("HADOOP_USER_NAME", "alice")
	env := map[string]string{"HADOOP_CONF_DIR": filepath.Join(g.b.dir, "conf", "rm")}
	fs, err := hdfsfiles.OpenSpill(fmt.Sprintf("hdfs://ha/user/alice/lost-%d", time.Now().UnixNano()), func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	enough := filepath.Join(g.home, "enough")
	id := g.keepsOnHDFS(enough)
	some := e2e.Parts(20 << 20)[0].Bytes
	long, err := fs.Create("long")
	if err == nil {
		_, err = long.Write(some[:11<<20+17])
	}
	if err != nil {
		t.Fatal(err)
	}
	short, err := fs.Create("short")
	if err == nil {
		_, err = short.Write(some[:1<<20])
	}
	if err != nil {
		t.Fatal(err)
	}
	e2e.Until(t, limit, "two have it", func() bool { return len(g.b.writing(8<<20)) == 2 })
	victim := g.b.writing(8 << 20)[0]
	daemon(t, g, "kill "+victim)
	defer func() {
		daemon(t, g, "start "+victim)
		daemon(t, g, "wait")
	}()
	for _, f := range []struct {
		name    string
		to      io.WriteCloser
		at, end int
	}{{"long", long, 11<<20 + 17, len(some)}, {"short", short, 1 << 20, 3 << 19}} {
		began := time.Now()
		_, err := f.to.Write(some[f.at:f.end])
		if err = errors.Join(err, f.to.Close()); err != nil {
			t.Error(f.name, err)
			continue
		}
		t.Logf("%s is written after %v", f.name, time.Since(began))
		r, err := fs.Open(f.name)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, f.end)
		if n, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, some[:f.end]) {
			t.Error(f.name, n, err)
		}
		r.Close()
	}
	for range 4 { // each to two of three, of which one is dead
		if r := <-g.brings(); r.Code != 0 || !strings.Contains(r.Stdout, "brought") {
			t.Errorf("%+v", r)
		}
	}
	if err := os.WriteFile(enough, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := g.over(id); r.Final != yarn.Succeeded {
		t.Errorf("%+v", r)
	}
	if text := g.logs(id); strings.Count(text, "kept ") != 2 {
		t.Error(text)
	}
}
