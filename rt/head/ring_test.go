package head

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func ringEvents() []Event {
	return []Event{
		Admit{7, &fb.HelloT{WireVersion: wire.Version, Cluster: testCluster, Role: fb.RoleAgent, NodeKey: "k"}},
		LinkUp{3, true}, LinkUp{4, false}, LinkDown{3, "EOF"}, Silent{3, "it was silent for 5 s"}, Left{4, "bye"},
		FromAgent{Agent: 4, Msg: &fb.StateQueryT{What: "nodes"}, Corr: 12}, FromAgent{Msg: &fb.DrainT{Reason: "walltime"}},
		Short{"disk"}, Short{}, Full{"disk"}, Tick{},
	}
}

// What came is written down as it came.
func TestRingTakesBodiesAsTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), RingName)
	body, err := wire.Marshal(nil, &fb.StateQueryT{What: "groups"})
	if err != nil {
		t.Fatal(err)
	}
	r := openRing(path)
	r.note(1, FromAgent{Agent: 4, Msg: &fb.StateQueryT{What: "nodes"}, Corr: 12, Body: body}) // which can't differ but here
	r.close()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = ReadEvents(f, func(_ int64, ev Event) error {
		if e := ev.(FromAgent); e.Agent != 4 || e.Corr != 12 || e.Msg.(*fb.StateQueryT).What != "groups" {
			t.Errorf("read %+v", e)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) (list []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ReadEvents(f, func(now int64, ev Event) error {
		list = append(list, fmt.Sprintf("%d %T", now, ev))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// Every kind of event comes back; the file is bounded, and what was before the last ones is put aside.
func TestRing(t *testing.T) {
	path := filepath.Join(t.TempDir(), RingName)
	r := openRing(path)
	var want []string
	for i, ev := range ringEvents() {
		r.note(int64(i), ev)
		want = append(want, fmt.Sprintf("%d %T", i, ev))
	}
	if got := read(t, path); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v, want %v", got, want)
	}
	for i := range 40_000 {
		r.note(int64(i), LinkDown{1, "EOF"})
	}
	r.close()
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > ringMax || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, info, err)
		}
		if len(read(t, p)) == 0 {
			t.Errorf("%s is empty", p)
		}
	}
	if last := read(t, path); last[len(last)-1] != "39999 head.LinkDown" {
		t.Errorf("the last event is %s", last[len(last)-1])
	}
}

// One that is larger than a file has one for itself.
func TestRingTakesLargeEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), RingName)
	big := strings.Repeat("x", ringMax)
	r := openRing(path)
	r.note(1, Silent{1, "EOF"})
	r.note(2, Silent{1, big})
	r.note(3, LinkDown{1, "EOF"})
	r.close()
	if got := append(read(t, path+".1"), read(t, path)...); fmt.Sprint(got) != "[2 head.Silent 3 head.LinkDown]" {
		t.Errorf("beside an event of %d bytes there is %v", len(big), got)
	}
}

// A ring whose file can't be written stays quiet.
func TestRingWithoutDisk(t *testing.T) {
	r := openRing(filepath.Join(t.TempDir(), "no", "such", "dir", RingName))
	r.note(1, Tick{})
	r.close()
}

func FuzzReadEvents(f *testing.F) {
	r := openRing(filepath.Join(f.TempDir(), RingName))
	for i, ev := range ringEvents() {
		r.note(int64(i), ev)
	}
	f.Add(slices.Clone(r.file[:r.size]))
	f.Add(slices.Clone(r.file[:50]))
	f.Add(slices.Clone(r.file[:r.size+50]))
	r.close()
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = ReadEvents(bytes.NewReader(data), func(now int64, ev Event) error {
			if ev == nil {
				t.Error("no event and no error")
			}
			return nil
		})
	})
}

// A file that somebody cuts short ends the notes, not the head.
func TestRingThatIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), RingName)
	r := openRing(path)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.note(1, Tick{}); !errors.Is(err, mapped.ErrCut) {
		t.Errorf("of a file that was cut short: %v", err)
	}
	if err := r.note(2, Tick{}); err != nil {
		t.Errorf("said twice: %v", err)
	}
}
