package yarn

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/backendtest"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

func TestMain(m *testing.M) {
	backendtest.Main()
	os.Exit(m.Run())
}

// world is an application on stand-ins of YARN's daemons, with a keeper that does nothing in the head's place.
type world struct {
	t       *testing.T
	cluster *yarntest.Cluster
	m       *Master
	s       *session
	app     yarn.ApplicationID
	left    chan int // exit codes of masters that left
}

func newWorld(t *testing.T, nodes int, set ...func(*yarntest.Cluster)) *world {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	size := yarn.Resource{MemoryMB: 4096, VCores: 8}
	w := &world{t: t, cluster: yarntest.New(t, size, size), left: make(chan int, 8)}
	for _, do := range set {
		do(w.cluster)
	}
	client, err := yarn.New(yarn.Config{ResourceManagers: []string{w.cluster.ResourceManager()}, User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r, err := client.Submit(t.Context(), yarn.Submission{Name: "x", Resource: yarn.Resource{MemoryMB: 256}, Launch: yarn.LaunchContext{Commands: []string{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	w.app = r.ID
	cluster, secret := make([]byte, 16), make([]byte, 32)
	rand.Read(cluster)
	rand.Read(secret)
	w.m = &Master{Folder: filepath.Join(t.TempDir(), "own"), Job: Job{
		Cluster: hex.EncodeToString(cluster), Secret: secret, Nodes: nodes, MinNodes: nodes, Wait: time.Minute, Memory: 512 << 20,
		Size: yarn.Resource{MemoryMB: 1024, VCores: 2}, Schedulers: []string{w.cluster.Scheduler()},
	}}
	w.m.exit = func(code int) { w.left <- code }
	w.m.token, w.m.Attempt = w.cluster.Master(r.ID)
	if w.m.relay, err = listen(w.m.Job.Cluster, secret, [2]string{filepath.Join(t.TempDir(), "none"), ""}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.m.relay.end)
	doc := &bootdoc.Doc{Version: bootdoc.Version, Cluster: w.m.Job.Cluster, Secret: secret, Name: "t", Owner: "stdin"}
	s, err := w.m.Start(t.Context(), backend.Request{Doc: doc, Head: true})
	if err != nil {
		t.Fatal(err)
	}
	w.s = s.(*session)
	if ev := w.event(backend.KindHead); ev.Addresses[0] != "127.0.0.1:1" {
		t.Errorf("%+v", ev)
	}
	return w
}

// event is the next one of a kind.
func (w *world) event(kind string) backend.Event {
	w.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case ev, ok := <-w.s.Events():
			if !ok {
				w.t.Fatal("the session is over, and no ", kind)
			}
			if ev.Kind == kind {
				return ev
			}
		case <-late:
			w.t.Fatal("no ", kind)
		}
	}
}

// container is the one of a place, once it is launched.
func (w *world) container(place int) (yarn.ContainerID, boot) {
	w.t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-poll.C {
		got := make(chan *yarn.Container, 1)
		w.s.post(func() { got <- w.s.gang.members[place].container })
		c := <-got
		if c == nil {
			continue
		}
		launch, ok := w.cluster.Launched(c.ID)
		if !ok || len(launch.Tokens) == 0 {
			continue
		}
		credentials, err := yarn.ParseCredentials(launch.Tokens)
		if err != nil {
			w.t.Fatal(err)
		}
		var b boot
		if err := json.Unmarshal(credentials.Secrets[bootSecret], &b); err != nil {
			w.t.Fatal(err)
		}
		for name, value := range launch.Environment { // YJOB-1
			if strings.Contains(value, hex.EncodeToString(b.Doc.Secret)) {
				w.t.Error("the secret is in", name)
			}
		}
		return c.ID, b
	}
	w.t.Fatalf("nothing is launched: %s", w.s.waits())
	return yarn.ContainerID{}, boot{}
}

// node connects as a node's keeper does, and says that it is ready.
func (w *world) node(b boot) (*tls.Conn, *bufio.Scanner) {
	w.t.Helper()
	key := must(keyOf(b.Doc.Cluster, b.Doc.Secret, partyNode))
	master := must(keyOf(b.Doc.Cluster, b.Doc.Secret, partyMaster))
	conn, err := dial(w.t.Context(), b.Master, must(config(key, master.Public().(ed25519.PublicKey))), hello{Node: b.Doc.Node.Name, In: b.Doc.Node.Labels["container"]})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.Write([]byte("{\"event\":\"ready\"}\n"))
	return conn, bufio.NewScanner(conn)
}

// From the first grant to the end: nodes come up, one is preempted and replaced, and a drain reaches all.
func TestSession(t *testing.T) {
	w := newWorld(t, 2)
	if err := w.s.Send(backend.HeadLine([]string{"127.0.0.1:1"})); err != nil {
		t.Fatal(err)
	}
	if own := w.s.Attached(); own.Socket == "" {
		t.Errorf("%+v", own)
	}
	first, b := w.container(0)
	if n := b.Doc.Node; n.Name != "n1" || n.Grant != "YARN" || n.CPUs != 2 || n.Memory != 512<<20 || b.Doc.Head[0] != "127.0.0.1:1" || strings.Join(b.Doc.Expect, " ") != "n1 n2" {
		t.Errorf("%+v", b.Doc)
	}
	_, other := w.container(1)
	w.node(b)
	if ev := w.event(backend.KindReady); ev.Node != "n1" {
		t.Errorf("%+v", ev)
	}
	_, lines := w.node(other)
	if ev := w.event(backend.KindReady); ev.Node != "n2" {
		t.Errorf("%+v", ev)
	}
	w.cluster.End(first, yarn.ExitPreempted)
	if ev := w.event(backend.KindWarning); ev.Node != "n1" || !strings.Contains(ev.Text, "preempted (-102)") {
		t.Errorf("%+v", ev)
	}
	again, b := w.container(0)
	if again == first || b.Doc.Node.Name != "n1" {
		t.Error(again, b.Doc.Node.Name)
	}
	conn, _ := w.node(b)
	w.event(backend.KindReady)
	go func() {
		for lines.Scan() {
			if strings.Contains(lines.Text(), "drain") {
				conn.Close()
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := w.s.Wait(); err != nil {
		t.Error(err)
	}
	if err := w.m.End(3, "the end"); err != nil {
		t.Error(err)
	}
	w.m.Close()
	client := must(yarn.New(yarn.Config{ResourceManagers: []string{w.cluster.ResourceManager()}, User: "alice"}))
	defer client.Close()
	if r, err := client.Report(t.Context(), w.app); err != nil || r.Final != yarn.Failed || ExitCode(r) != 3 || r.Diagnostics != "exit code 3; the end" {
		t.Errorf("%+v %v", r, err)
	}
}

// A node that has no connection any more, of whose container YARN says nothing, has another one in time; one that comes back keeps its own.
func TestNodeOutOfReach(t *testing.T) {
	w := newWorld(t, 2)
	first, b := w.container(0)
	second, other := w.container(1)
	conn, _ := w.node(b)
	w.event(backend.KindReady)
	w.node(other)
	w.event(backend.KindReady)
	gone := func(name string) time.Time {
		for {
			at := make(chan time.Time)
			w.s.post(func() { at <- w.s.away[name] })
			if at := <-at; !at.IsZero() {
				return at
			}
			runtime.Gosched()
		}
	}
	look := func(at time.Time) {
		seen := make(chan bool)
		w.s.post(func() { w.s.overdue(at); close(seen) })
		<-seen
	}
	conn.Close()
	at := gone("n1")
	look(at.Add(awayTime))
	conn, _ = w.node(b) // it comes back
	w.event(backend.KindReady)
	look(at.Add(2 * awayTime))
	conn.Close()
	look(gone("n1").Add(awayTime + time.Second))
	if ev := w.event(backend.KindWarning); ev.Node != "n1" || !strings.Contains(ev.Text, "out of reach for 45s") || !strings.Contains(ev.Text, first.String()) {
		t.Errorf("%+v", ev)
	}
	if again, b := w.container(0); again == first || b.Doc.Node.Name != "n1" {
		t.Error(again, b.Doc.Node.Name)
	}
	late, said := w.node(b) // once it is replaced it is told to end, and its word is not for what has its place
	if late.SetReadDeadline(time.Now().Add(20 * time.Second)); !said.Scan() || !strings.Contains(said.Text(), "no node of the application any more") {
		t.Error(said.Text())
	}
	for said.Scan() { // the end of the connection is that of its reader
	}
	ready := make(chan bool)
	w.s.post(func() { ready <- w.s.gang.members[0].ready })
	if <-ready {
		t.Error("what was replaced is ready")
	}
	kept := make(chan yarn.ContainerID)
	w.s.post(func() { kept <- w.s.gang.members[1].container.ID })
	if id := <-kept; id != second {
		t.Error(id)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// With Hadoop's default calculator YARN grants as many cores as anybody likes, and says one: a node has those that were asked for.
func TestCoresThatAreNotCounted(t *testing.T) {
	w := newWorld(t, 5, (*yarntest.Cluster).SetMemoryAlone)
	for place := range 5 {
		if _, b := w.container(place); b.Doc.Node.CPUs != 2 {
			t.Errorf("%s has %d cores", b.Doc.Node.Name, b.Doc.Node.CPUs)
		}
	}
	said := make(chan int32)
	w.s.post(func() { said <- w.s.gang.members[0].container.Resource.VCores })
	if n := <-said; n != 1 {
		t.Error("YARN said", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// YJOB-3: one that needs more memory than it has ends the application, which says so.
func TestMemoryEndsTheApplication(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	w.node(b)
	w.event(backend.KindReady)
	w.cluster.End(id, yarn.ExitPhysicalMemory)
	if ev := w.event(backend.KindStopping); !strings.Contains(ev.Text, "over its memory (-104)") || !strings.Contains(ev.Text, "--mem") {
		t.Errorf("%+v", ev)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := w.m.End(143, "not this"); err != nil {
		t.Error(err)
	}
	w.m.Close()
	client := must(yarn.New(yarn.Config{ResourceManagers: []string{w.cluster.ResourceManager()}, User: "alice"}))
	defer client.Close()
	if r, err := client.Report(t.Context(), w.app); err != nil || !strings.Contains(r.Diagnostics, "over its memory") {
		t.Errorf("%+v %v", r, err)
	}
}

// A node that no NodeManager starts ends the application in the end, which says what they said.
func TestRefusalsEndTheApplication(t *testing.T) {
	w := newWorld(t, 1, func(c *yarntest.Cluster) {
		for _, n := range c.Nodes() {
			n.SetRefusing(true)
		}
	})
	for try := range maxHopeless - 1 {
		if ev := w.event(backend.KindWarning); ev.Node != "n1" || !strings.Contains(ev.Text, "Unauthorized request") || !strings.Contains(ev.Text, "asked for in") {
			t.Errorf("%+v", ev)
		}
		w.s.post(func() { w.s.apply(w.s.gang.tick(time.Now().Add(time.Second << try))) }) // its pause is over
	}
	if ev := w.event(backend.KindStopping); !strings.Contains(ev.Text, "node n1 on 127.0.0.1") || !strings.Contains(ev.Text, "5th container in a row") {
		t.Errorf("%+v", ev)
	}
	if n := w.cluster.Calls("startContainers"); n != maxHopeless {
		t.Error(n, "containers were tried")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.s.Stop(ctx); err != nil {
		t.Error(err)
	}
}
