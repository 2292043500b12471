package yarn

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
)

// YJOB-7: a master of which a node has gone says nothing to be kept any more until YARN has answered that it is the master.
func TestCutOffMasterKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := time.Now()
		c := newCopies(nil, 0)
		c.answered, c.trust = func() time.Time { return answered }, time.Minute
		ours, theirs := net.Pipe()
		l := newLink(ours, nil)
		go func() {
			for in := bufio.NewScanner(theirs); in.Scan(); {
			}
		}()
		c.add(l)
		c.remove(l)
		took := func() time.Duration {
			began := time.Now()
			c.keep([]byte("x"), false)
			return time.Since(began)
		}
		if d := took(); d > 0 {
			t.Error("YARN answered a moment ago, and it waited for", d)
		}
		time.Sleep(2 * time.Minute)
		go func() {
			time.Sleep(10 * time.Second)
			c.mu.Lock()
			answered = time.Now()
			c.mu.Unlock()
		}()
		if d := took(); d < 10*time.Second || d > 11*time.Second {
			t.Error("YARN answered after 10 s, and it waited for", d)
		}
		time.Sleep(2 * time.Minute)
		if d := took(); d > 0 {
			t.Error("no node has gone since YARN's last answer, and it waited for", d)
		}
		c.lost = time.Now()
		c.close()
		if d := took(); d > 0 {
			t.Error("YARN was told of the end, and it waited for", d)
		}
		l.close()
		theirs.Close()
	})
}

// A master whose node has a later one leaves, whatever YARN can tell it.
func TestOldMasterLeaves(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	k := w.station(id, b)
	w.event("ready")
	w.m.master.Close() // cut off from YARN
	w.successor()
	select {
	case code := <-w.left:
		if code != exitLeft {
			t.Error(code)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
	k.out.Close()
	w.dies()
	w.stop()
}

// headSays is a head's keeper that says something.
type headSays struct {
	backend.Session
	events chan backend.Event
}

func (h headSays) Events() <-chan backend.Event { return h.events }

// A master whose head can't be started for want of the container's folder leaves that to the next one. Any other reason is the application's end.
func TestMasterWithoutItsFolderLeaves(t *testing.T) {
	w := newWorld(t, 1)
	for _, there := range []bool{true, false} {
		if !there {
			if err := os.RemoveAll(filepath.Dir(w.m.Folder)); err != nil {
				t.Fatal(err)
			}
		}
		h := headSays{events: make(chan backend.Event, 1)}
		s := &session{m: w.m, head: h, posts: make(chan func(), 8)}
		h.events <- backend.Event{Kind: backend.KindError, Text: "no such file"}
		go s.followHead(backend.Event{Kind: backend.KindHead})
		for range 3 { // that there is a head, that it may be for the next master, and that there is none
			(<-s.posts)()
		}
		if len(w.left) == 0 != there {
			t.Errorf("with its folder %v: told %v, %d left", there, s.untold, len(w.left))
		}
	}
	w.stop()
}

// Which copy of the journal is the newest: by the attempt that wrote it, and then by how much of it there is. A master that called on a node and
// died before it had sent anything makes that node's copy no newer.
func TestNewestJournal(t *testing.T) {
	w := newWorld(t, 4)
	id, _ := w.container(0)
	v := func(node string, attempt int32, seq uint64, journal string) survivor {
		ours, theirs := net.Pipe()
		theirs.Close()
		return survivor{handover: handover{Node: node, Attempt: attempt, Seq: seq}, container: yarn.Container{ID: id}, journal: []byte(journal), link: newLink(ours, nil)}
	}
	for want, all := range map[string][]survivor{
		"n2": {v("n1", 0, 0, ""), v("n2", 1, 7, "a"), v("n3", 1, 6, "b")},
		"n3": {v("n1", 1, 9, "a"), v("n2", 2, 9, "b"), v("n3", 2, 10, "c")},
		"n4": {v("n1", 1, 9, "a"), v("n4", 2, 9, "b")},
	} {
		list := w.m.choose(all)
		if len(list) != len(all) || list[0].Node != want {
			t.Errorf("%+v, want %s first", list, want)
		}
		for _, v := range all {
			v.link.close()
		}
	}
	w.stop()
}

// A node tells whose journal it has, and takes none of a master that is over for that of its next one.
func TestStationKnowsWhoWrote(t *testing.T) {
	s := &station{attempt: 3}
	s.heard([]byte(`{"seq":5,"journal":"eA==","whole":true}`), 2)
	if s.wrote != 2 || s.seq != 5 || string(s.journal) != "x" {
		t.Errorf("%+v", s)
	}
}

// A node whose process is not there yet is called again.
func TestNodeIsCalledAgain(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	next := &Master{Job: w.m.Job, Attempt: w.m.Attempt, relays: []string{"127.0.0.1:1"}}
	next.Attempt.Number++
	c := yarn.Container{ID: id, Node: yarn.NodeID{Host: "127.0.0.1"}}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(meeting(next.Job.Cluster, id.String())[0]))
	if err != nil {
		t.Fatal(err)
	}
	go func() { // the first call finds somebody else there
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.Close()
		l.Close()
		w.station(id, b)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), meetTime)
	defer cancel()
	v, err := next.call(ctx, c)
	if err != nil || v.Node != "n1" {
		t.Fatalf("%+v %v", v.handover, err)
	}
	v.link.close()
	w.dies()
	w.stop()
}

// Of two nodes on a machine one may wait at a port at which the other might: it is not taken for that one.
func TestNodeOfAnotherContainerIsNotTaken(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	k := w.station(id, b)
	w.event(backend.KindReady)
	next := &Master{Job: w.m.Job, Attempt: w.m.Attempt, relays: []string{"127.0.0.1:1"}}
	next.Attempt.Number++
	cfg, err := config(must(keyOf(next.Job.Cluster, next.Job.Secret, partyMaster)), must(keyOf(next.Job.Cluster, next.Job.Secret, partyNode)).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	at, other := meeting(next.Job.Cluster, id.String())[0], id
	for !slices.Contains(meeting(next.Job.Cluster, other.String()), at) || other == id {
		other.Number++
	}
	ctx, cancel := context.WithTimeout(t.Context(), meetTime)
	defer cancel()
	v, _, err := next.callOnce(ctx, yarn.Container{ID: other, Node: yarn.NodeID{Host: "127.0.0.1"}}, cfg)
	if err == nil {
		t.Errorf("%+v", v.handover)
	}
	w.s.post(func() { w.s.links["n1"].send([]byte(`{"still":"here"}`)) })
	k.hears(t, "still")
	w.dies()
	w.stop()
}

// What YARN says before there is a session is taken in, also much of it, and when the first of it ends the application.
func TestManyEarlyEvents(t *testing.T) {
	w := newWorld(t, 1)
	w.m.mu.Lock()
	w.m.session = nil
	for range 500 {
		w.m.early = append(w.m.early, am.Refused{Err: errors.New("refused")})
	}
	w.m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		w.m.catchUp(w.s)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it hangs")
	}
	if why := w.m.Blame(""); why != "refused" {
		t.Error(why)
	}
	w.stop()
}

// A file that an older build put where its folder is now is used, and not removed: applications may name it.
func TestStoreOfOlderBuild(t *testing.T) {
	dir := t.TempDir()
	s, file := storeIn(t, dir, localFiles{}, "one")
	first, err := s.Put(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	at := first.URL.Path[:strings.LastIndex(first.URL.Path, "/")]
	if err := errors.Join(os.RemoveAll(at), os.WriteFile(at, []byte("one"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Put(t.Context(), file); err != nil || r.URL.Path != at || r.Size != 3 {
		t.Errorf("%+v %v", r, err)
	}
	if err := os.WriteFile(at, []byte("on"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Put(t.Context(), file); err == nil || !strings.Contains(err.Error(), "remove it when") {
		t.Errorf("%+v %v", r, err)
	}
}
