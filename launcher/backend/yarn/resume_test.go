package yarn

import (
	"bufio"
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/head/journal"
	"github.com/maniple-hpc/maniple/yarn"
)

// nodeKeeper is a node's keeper behind its station: what it is told, and what it says.
type nodeKeeper struct {
	st   *station
	told *bufio.Scanner
	out  *os.File
}

// station starts the station of a container, whose keeper says that it is ready.
func (w *world) station(id yarn.ContainerID, b boot) *nodeKeeper {
	w.t.Helper()
	st, err := newStation(b, id.String(), w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	first, ok := st.next(dialTime)
	if !ok {
		w.t.Fatal("no master")
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	st.toKeeper = inW
	go st.run(first)
	go st.fromKeeper(outR)
	w.t.Cleanup(func() { outW.Close() })
	k := &nodeKeeper{st: st, told: bufio.NewScanner(inR), out: outW}
	k.says(`{"event":"ready","agent":7}`)
	return k
}

func (k *nodeKeeper) says(line string) { k.out.WriteString(line + "\n") }

// hears waits for a line with a text in it.
func (k *nodeKeeper) hears(t *testing.T, text string) {
	t.Helper()
	if !k.heard(text) {
		t.Errorf("the keeper of %s was not told %s", k.st.name, text)
	}
}

// heard tells whether one came before the keeper's input ended.
func (k *nodeKeeper) heard(text string) bool {
	for k.told.Scan() {
		if strings.Contains(k.told.Text(), text) {
			return true
		}
	}
	return false
}

// dies breaks all that a master has, as the end of its process does.
func (w *world) dies() {
	w.t.Helper()
	w.m.master.Close()
	w.m.journal.Close()
	w.m.relay.listener.Close()
	w.m.relay.mu.Lock()
	for conn := range w.m.relay.open {
		conn.Close()
	}
	w.m.relay.mu.Unlock()
}

// successor is the world's next master, before it does anything. Meanwhile is done once YARN has started it.
func (w *world) successor(meanwhile ...func()) *world {
	w.t.Helper()
	w.cluster.NextAttempt(w.app)
	for _, do := range meanwhile {
		go do()
	}
	next := &world{t: w.t, cluster: w.cluster, app: w.app, m: &Master{Job: w.m.Job, Folder: filepath.Join(w.t.TempDir(), "own")}}
	next.m.exit = func(code int) { w.left <- code }
	next.m.token, next.m.Attempt = w.cluster.Master(w.app)
	var err error
	if next.m.relay, err = listen(w.m.Job.Cluster, w.m.Job.Secret, [2]string{}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(next.m.relay.end)
	if err := next.m.Recover(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return next
}

// starts begins the session of a successor.
func (w *world) starts() {
	w.t.Helper()
	doc := &bootdoc.Doc{Version: bootdoc.Version, Cluster: w.m.Job.Cluster, Secret: w.m.Job.Secret, Name: "t2", Owner: "stdin", Epoch: w.m.Life}
	s, err := w.m.Start(w.t.Context(), backend.Request{Doc: doc, Head: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s.(*session)
}

func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.s.Stop(ctx); err != nil {
		w.t.Error(err)
	}
}

// YJOB-7: a master that comes after another one has its nodes, which do not notice, and the head's journal as it was told last.
func TestNextMasterGoesOn(t *testing.T) {
	w := newWorld(t, 2)
	id, b := w.container(0)
	one := w.station(id, b)
	id, b = w.container(1)
	two := w.station(id, b)
	w.event(backend.KindReady)
	w.event(backend.KindReady)
	head, _, err := journal.DialCopy(t.Context(), w.s.doc.Journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := head.Copy([]byte("all"), true); err != nil {
		t.Fatal(err)
	}
	if err := head.Copy([]byte(" and more"), false); err != nil {
		t.Fatal(err)
	}
	w.dies()
	for alone := false; !alone; {
		one.st.mu.Lock()
		alone = one.st.conn == nil
		one.st.mu.Unlock()
	}
	one.says(`{"event":"error","text":"said to nobody"}`)
	next := w.successor()
	if !next.m.Resumed() || next.m.Life != 0 || string(next.m.copies.data) != "all and more" || next.m.copies.seq < 2 {
		t.Fatalf("%+v %q", next.m.kept, next.m.copies.data)
	}
	next.starts()
	one.hears(t, `"head":["127.0.0.1:1"]`)
	two.hears(t, `"head":["127.0.0.1:1"]`)
	if got := strings.Join(next.s.Nodes(), " "); got != "n1 n2" {
		t.Error(got)
	}
	if ev := next.event(backend.KindError); ev.Node != "n1" || ev.Text != "said to nobody" {
		t.Errorf("%+v", ev)
	}
	if again, have, err := journal.DialCopy(t.Context(), next.s.doc.Journal); err != nil || string(have) != "all and more" {
		t.Errorf("%q %v", have, err)
	} else if err := again.Copy([]byte("anew"), true); err != nil {
		t.Error(err)
	}
	for late := time.Now().Add(20 * time.Second); ; { // a node that was too slow to be waited for comes again
		one.st.mu.Lock()
		journal, attempt := string(one.st.journal), one.st.attempt
		one.st.mu.Unlock()
		if journal == "anew" && attempt == 2 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%q of attempt %d", journal, attempt)
		}
		runtime.Gosched()
	}
	if n := w.cluster.Calls("startContainers"); n != 2 {
		t.Error(n, "containers were started")
	}
	// What goes now is replaced, as ever.
	next.cluster.End(id, yarn.ExitPreempted)
	if ev := next.event(backend.KindWarning); ev.Node != "n2" || !strings.Contains(ev.Text, "preempted") {
		t.Errorf("%+v", ev)
	}
	next.container(1)
	two.hears(t, `{"abandon":"this container is no node`) // it was never gone, and its place is another one's
	drained := make(chan bool, 1)                         // the test may be over, if it failed
	go func() {
		drained <- one.heard("drain")
		one.says(`{"event":"end"}`)
		one.out.Close()
		one.st.mu.Lock()
		if c := one.st.conn; c != nil { // the master may have closed it already
			c.Close()
		}
		one.st.mu.Unlock()
	}()
	next.stop()
	select {
	case ok := <-drained:
		if !ok {
			t.Error("the keeper of n1 was not told to drain")
		}
	case <-time.After(10 * time.Second):
		t.Error("the keeper of n1 was told nothing")
	}
}

// A master that no node of the one before it answers, or only such as know nothing of the journal, begins anew.
func TestNextMasterBeginsAnew(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	k := w.station(id, b)
	w.event(backend.KindReady)
	k.st.mu.Lock()
	k.st.journal = nil
	k.st.mu.Unlock()
	w.dies()
	next := w.successor()
	if next.m.Resumed() || next.m.Life != 1 {
		t.Errorf("%+v", next.m.kept)
	}
	next.starts()
	if fresh, b := next.container(0); fresh == id || b.Doc.Epoch != 1 || b.Attempt != 2 {
		t.Errorf("%s %+v", fresh, b)
	}
	next.stop()
}

// YJOB-7: nodes of which a ResourceManager that was started anew learns after the next master has registered are waited for, and one of which it learns
// later still has its place, as long as nobody else does.
func TestLateNodesGoOn(t *testing.T) {
	w := newWorld(t, 5)
	ids, keepers := w.stations(5)
	head, _, err := journal.DialCopy(t.Context(), w.s.doc.Journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := head.Copy([]byte("all"), true); err != nil {
		t.Fatal(err)
	}
	full, other := w.cluster.Nodes()[0], w.cluster.Nodes()[1]
	full.SetAway(true)
	other.SetAway(true)
	w.dies()
	next := w.successor(func() {
		for w.cluster.Calls("registerApplicationMaster") < 2 {
			runtime.Gosched()
		}
		full.SetAway(false)
	})
	if !next.m.Resumed() || len(next.m.kept) != 4 {
		t.Fatalf("%+v", next.m.kept)
	}
	next.starts()
	other.SetAway(false)
	for _, k := range keepers {
		k.hears(t, `"head":["127.0.0.1:1"]`)
	}
	for place, id := range ids {
		if got, _ := next.container(place); got != id {
			t.Errorf("place %d has %s, and had %s", place, got, id)
		}
	}
	next.stop()
}

// What is found when the program has begun anew does not run beside it.
func TestLateNodesAreGivenBack(t *testing.T) {
	w := newWorld(t, 5)
	ids, keepers := w.stations(5)
	for _, k := range keepers {
		k.st.mu.Lock()
		k.st.journal = nil
		k.st.mu.Unlock()
	}
	other := w.cluster.Nodes()[1]
	other.SetAway(true)
	w.dies()
	next := w.successor()
	if next.m.Resumed() {
		t.Fatalf("%+v", next.m.kept)
	}
	next.starts()
	other.SetAway(false)
	for late := time.Now().Add(20 * time.Second); !w.cluster.Ended(ids[4]); runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatal("the node of the life before runs on")
		}
	}
	if fresh, b := next.container(4); fresh == ids[4] || b.Doc.Epoch != 1 {
		t.Errorf("%s %+v", fresh, b)
	}
	next.stop()
}

// stations are those of all places, with what they are in.
func (w *world) stations(n int) (ids []yarn.ContainerID, keepers []*nodeKeeper) {
	w.t.Helper()
	for place := range n {
		id, b := w.container(place)
		ids, keepers = append(ids, id), append(keepers, w.station(id, b))
		w.event(backend.KindReady)
	}
	return ids, keepers
}

// YJOB-5: no other master comes to a container whose folder its NodeManager has removed: without its own it ends.
func TestForgottenContainerEnds(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	k := w.station(id, b)
	w.event(backend.KindReady)
	if err := os.RemoveAll(k.st.dir); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.dies()
	for k.told.Scan() { // until there is nobody any more who could tell anything
	}
	if took := time.Since(began); took > orphanTime/10 {
		t.Errorf("it ended after %v", took)
	}
}

// One of a program that waits to be placed ends beside its master, too: nothing could start there, and YARN may never speak of it.
func TestForgottenContainerEndsWithTheProgram(t *testing.T) {
	w := newWorld(t, 2)
	_, keepers := w.stations(2)
	if err := os.RemoveAll(keepers[1].st.dir); err != nil {
		t.Fatal(err)
	}
	w.s.post(func() { w.s.waiting(true) })
	for keepers[1].told.Scan() {
	}
	links := make(chan []string)
	for late := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		w.s.post(func() { links <- slices.Sorted(maps.Keys(w.s.links)) })
		if now := <-links; slices.Equal(now, []string{"n1"}) {
			break
		} else if time.Now().After(late) {
			t.Fatalf("there are connections of %v", now)
		}
	}
	w.stop()
}

// A node answers a newer master, and no older one.
func TestOldMasterIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	w.station(id, b)
	w.event(backend.KindReady)
	w.dies()
	next := w.successor()
	var c yarn.Container
	for _, k := range next.m.master.Registered().Containers {
		c = k
	}
	if v, err := w.m.call(t.Context(), c); err == nil {
		t.Errorf("%+v", v.handover)
	}
}

// YJOB-7: what the head wrote is not said to be kept before the node that is there has it, or is cut off.
func TestCopiesWaitForNodes(t *testing.T) {
	c := newCopies(nil, 0)
	for _, answers := range []bool{true, false} {
		ours, theirs := net.Pipe()
		l := newLink(ours, nil)
		lines := make(chan string, 100)
		go func() {
			for in := bufio.NewScanner(theirs); in.Scan(); {
				lines <- in.Text()
			}
		}()
		c.add(l)
		kept := make(chan struct{})
		go func() {
			c.keep([]byte("x"), false)
			close(kept)
		}()
		for !strings.Contains(<-lines, `"journal":"eA=="}`) {
		}
		select {
		case <-kept:
			t.Error("it was not waited for")
		case <-time.After(100 * time.Millisecond):
		}
		if answers && !c.takes(l, []byte(`{"kept":1}`)) {
			t.Error("the answer was not understood")
		}
		<-kept
		l.close()
		c.remove(l)
	}
}
