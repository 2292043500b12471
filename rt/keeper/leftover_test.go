package keeper_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// cluster boots a node of a cluster of its own.
func cluster(t *testing.T, base, name string, env ...string) *node {
	t.Helper()
	return boot(t, setup{base: base, env: env, doc: func(d *bootdoc.Doc) { d.Name = name }})
}

// leave kills a node's keeper, whose agent does not sweep, under a program, and gives the program's word.
func leave(t *testing.T, n *node) (word, key string) {
	t.Helper()
	a := n.agent()
	word = unique(t) + "-" + n.cluster
	r := a.launch(sh(family(word)))
	r.lines(r.stdout(), 2)
	n.cmd.Process.Kill()
	<-n.over
	if len(alive(t, word)) == 0 {
		t.Fatal("nothing to sweep")
	}
	return word, a.config.NodeKey
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// A keeper that starts ends what dead nodes of its user left, and touches nothing of those that live, one
// that is stopped and one that is just making its directory included.
func TestLeftoversOfDeadNodes(t *testing.T) {
	base := t.TempDir()
	dead := cluster(t, base, "dead")
	type living struct {
		*node
		agent *link
		rank  *rank
		word  string
	}
	var all []*living
	for _, name := range []string{"living", "stopped"} {
		l := &living{node: cluster(t, base, name), word: unique(t) + "-" + name}
		l.agent = l.node.agent()
		l.rank = l.agent.launch(sh(family(l.word)))
		l.rank.lines(l.rank.stdout(), 2)
		until(t, "family is up", func() bool { return len(alive(t, l.word)) >= 4 })
		all = append(all, l)
	}
	stopped := all[1].cmd.Process
	if err := stopped.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer stopped.Signal(unix.SIGCONT)
	starting := filepath.Join(base, "starting", "n1")
	if err := os.MkdirAll(starting, 0o700); err != nil {
		t.Fatal(err)
	}
	word, _ := leave(t, dead)
	next := cluster(t, base, "next")
	a := next.agent()
	gone(t, word)
	until(t, "the dead node's directory gone", func() bool { return missing(filepath.Dir(dead.dir())) })
	until(t, "the log tells of it", func() bool {
		log, err := os.ReadFile(filepath.Join(next.dir(), "keeper.log"))
		return err == nil && strings.Contains(string(log), "swept what a dead node left") && strings.Contains(string(log), dead.dir())
	})
	a.stop() // it waits for the sweep's end
	if err := stopped.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if missing(starting) {
		t.Error("the directory of a keeper that was just starting is gone")
	}
	for _, l := range all {
		if n := len(alive(t, l.word)); n < 4 {
			t.Errorf("%s: %d processes run", l.cluster, n)
		}
		for _, name := range []string{"keeper.json", "agent.sock", "agent.log"} {
			if missing(filepath.Join(l.dir(), name)) {
				t.Errorf("%s: %s is gone", l.cluster, name)
			}
		}
		l.rank.signal(unix.SIGKILL, true, 0)
		l.rank.end()
		l.agent.stop()
	}
}

// Keepers that start at the same moment, one in the dead node's own place, do not stand in each other's way.
func TestLeftoversAreSweptOnce(t *testing.T) {
	base := t.TempDir()
	word, _ := leave(t, cluster(t, base, "dead"))
	var nodes []*node
	for i := range 6 {
		nodes = append(nodes, cluster(t, base, []string{"dead", fmt.Sprint("next-", i)}[min(i, 1)]))
	}
	for _, n := range nodes {
		a := n.agent()
		if a.config.NodeDir != n.dir() || missing(filepath.Join(n.dir(), "keeper.json")) {
			t.Errorf("%s has lost its directory", n.cluster)
		}
		r := a.launch(sh("echo works"))
		if got := r.lines(r.stdout(), 1)[0]; got != "works" {
			t.Errorf("%s: %q", n.cluster, got)
		}
		r.end()
		a.stop()
	}
	gone(t, word)
}

// Who starts a cluster from what is left of a dead node is not ended by it.
func TestLeftoversSpareTheirOwnChildren(t *testing.T) {
	base := t.TempDir()
	dead := cluster(t, base, "dead")
	word, key := leave(t, dead)
	cluster(t, base, "child", "MANIPLE_NODE_KEY="+key).agent().stop()
	if missing(dead.dir()) || len(alive(t, word)) == 0 {
		t.Error("swept by a process of its own")
	}
	cluster(t, base, "next").agent().stop()
	gone(t, word)
	if !missing(dead.dir()) {
		t.Error("left for good")
	}
}
