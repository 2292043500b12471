package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// What is noted is in the file at once, in lines of which the oldest go first; an agent without a disk has none.
func TestRingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.ring")
	r := openRing(path)
	read := func() []string {
		text, err := os.ReadFile(path)
		if err != nil || len(text) != ringLines*ringLine {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		return strings.Split(string(text), "\n")
	}
	r.note(0, FromHead{M: &fb.DrainT{}})
	r.note(1, Output{}) // is left out
	r.note(2, FromKeeper{M: &fb.PortHeldT{}})
	if got := read(); strings.TrimSpace(got[0]) != "1970-01-01T00:00:00.000000Z head Drain" || !strings.HasSuffix(strings.TrimSpace(got[1]), "Z keeper PortHeld") || strings.TrimSpace(got[2]) != "" {
		t.Errorf("the file begins with %q", got[:3])
	}
	for i := range ringLines {
		r.note(int64(i)*1000, HeadRefused{Text: fmt.Sprint(strings.Repeat("x", 20+i%200), i)})
	}
	got := read()
	if !strings.Contains(got[1], "x1023") || !strings.Contains(got[2], "HeadRefused") {
		t.Errorf("after %d more it begins with %q", ringLines, got[:3])
	}
	for i, line := range got[:ringLines] {
		if len(line) != ringLine-1 {
			t.Fatalf("line %d has %d bytes", i, len(line))
		}
	}
	r.close()
	r.note(3, Tick{})
	r = openRing(path)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.note(4, FromHead{M: &fb.DrainT{}}); !errors.Is(err, mapped.ErrCut) {
		t.Errorf("of a file that was cut short: %v", err)
	}
	if err := r.note(5, FromHead{M: &fb.DrainT{}}); err != nil {
		t.Errorf("said twice: %v", err)
	}
	r = openRing(filepath.Join(t.TempDir(), "no", "such", "dir"))
	r.note(1, FromHead{M: &fb.DrainT{}})
	r.close()
}
