package head

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/head/journal"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func testLoop(t *testing.T, dir string) *loop {
	t.Helper()
	l := newLoop(New(Config{Cluster: testCluster}), nil, nil, bootdoc.Clock("n1", os.Getenv), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := l.openJournal(filepath.Join(dir, "head.journal"), journal.Options{}); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.effects, err = l.core.Open(l.now(), nil); err != nil {
		t.Fatal(err)
	}
	l.turn(context.Background())
	t.Cleanup(func() { _ = l.journal.Close() })
	return l
}

// joinAgent has the core admit and register an agent, without links.
func joinAgent(l *loop, name string) id.Agent {
	number := id.Agent(l.core.state.nextAgent)
	l.step(Admit{1, &fb.HelloT{WireVersion: 1, Cluster: testCluster, Role: fb.RoleAgent, NodeKey: name}})
	l.step(LinkUp{Agent: number})
	l.step(FromAgent{Agent: number, Msg: &fb.RegisterT{Name: name, NodeKey: name, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 40_000}}}})
	l.turn(context.Background())
	return number
}

// A journal that grows is compacted, while the head runs and at its next start; the state stays.
func TestCompactsItsJournal(t *testing.T) {
	dir := t.TempDir()
	l := testLoop(t, dir)
	a := joinAgent(l, "n1")
	env := strings.Repeat("x", 4000)
	largest := int64(0)
	for n := range uint64(1000) {
		q := benchGang(n+1, 1, 0)
		q.Program.Env = []string{env}
		l.step(FromAgent{Agent: a, Msg: q})
		l.step(FromAgent{Agent: a, Msg: &fb.GroupCancelT{Group: q.Group}})
		l.turn(context.Background())
		largest = max(largest, l.journal.Size())
	}
	if largest < compactMin || largest > 2*compactMin {
		t.Errorf("the journal grew to %d bytes", largest)
	}
	live := dump(&l.core.state)
	_ = l.journal.Close()
	again := New(Config{Cluster: testCluster})
	m := newLoop(again, nil, nil, bootdoc.Clock("n1", os.Getenv), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := m.openJournal(filepath.Join(dir, "head.journal"), journal.Options{}); err != nil {
		t.Fatal(err)
	}
	defer m.journal.Close()
	if replayed := dump(&again.state); replayed != live {
		t.Errorf("HEAD-6: %s", diff(live, replayed))
	}
	if info, err := os.Stat(filepath.Join(dir, "head.journal")); err != nil || info.Size() > 400<<10 || info.Mode().Perm() != 0o600 {
		t.Errorf("after a start: %v, %v", info, err)
	}
}

// When a record can't be written, nothing that depends on it leaves: the head ends with the reason.
func TestJournalFails(t *testing.T) {
	l := testLoop(t, t.TempDir())
	a := joinAgent(l, "n1")
	asked := &caller{hello: &fb.HelloT{WireVersion: 1, Cluster: testCluster, Role: fb.RoleAgent, NodeKey: "n2"}, done: make(chan struct{})}
	_ = l.journal.Close()
	l.consider(asked)
	l.step(LinkDown{a, "EOF"})
	l.turn(context.Background())
	<-asked.done
	if asked.welcome != nil || asked.refuse == nil || asked.refuse.Code != fb.RefuseCodeBusy {
		t.Errorf("a number that was not written down was given out: %+v", asked.welcome)
	}
	if l.exit == nil || l.exit.Code != codeCannotCreate || !strings.Contains(l.exit.Reason, "journal") {
		t.Errorf("exit: %+v", l.exit)
	}
}
