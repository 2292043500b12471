package lint

import (
	"slices"
	"strings"
	"testing"
)

// The laws themselves, on code that breaks them and code that doesn't: a detector that sees nothing
// would let everything pass.

func sample(t *testing.T, p, text string) *goFile {
	t.Helper()
	f, err := parseGo(p, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDirectionsLaw(t *testing.T) {
	law := map[string]direction{}
	for _, d := range directions {
		law[d.room] = d
	}
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"rt", "transport/tcp", true},
		{"rt", "rt/head", true},
		{"rt", "launcher/spec", false},
		{"rt", "slurm", false},
		{"rt", "ci/lint", false},
		{"placement", "transport", false},
		{"placement", "transport/wire/id", true},
		{"slurm", "transport/wire/id", false},
		{"yarn", "transport/wire/id", false},
		{"transport", "rt", false},
		{"objstore", "transport", true},
		{"objstore", "placement", false},
		{"libs", "rt", true},
		{"libs", "transport", false},
		{"launcher", "slurm", true},
		{"launcher", "objstore", false},
		{"ci", "launcher/cli", true},
		{"launcher", "ci/e2e", false},
		{"launcher", "docs", false},
	} {
		if got := law[c.from].allows(c.to); got != c.ok {
			t.Errorf("%s imports %s: allowed %v, want %v", c.from, c.to, got, c.ok)
		}
	}
}

func TestDependenciesLaw(t *testing.T) {
	for _, c := range []struct {
		path, imp string
		ok        bool
	}{
		{"transport/wire/a.go", "github.com/google/flatbuffers/go", true},
		{"slurm/a.go", "github.com/google/flatbuffers/go", false},
		{"launcher/cli/a_test.go", "github.com/rogpeppe/go-internal/testscript", true},
		{"launcher/cli/a.go", "github.com/rogpeppe/go-internal/testscript", false},
		{"rt/a.go", "github.com/pkg/errors", false},
	} {
		why := depends(sample(t, c.path, "package x"), c.imp)
		if (why == "") != c.ok {
			t.Errorf("%s imports %s: %q", c.path, c.imp, why)
		}
	}
}

func TestSleepLaw(t *testing.T) {
	for _, c := range []struct {
		name string
		body string
		n    int
	}{
		{"plain", `func TestA(t *testing.T) { time.Sleep(1) }`, 1},
		{"in a bubble", `func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }`, 0},
		{"beside a bubble", `func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) {}); time.Sleep(1) }`, 1},
		{"called from a bubble only", `func wait() { time.Sleep(1) }
			func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { wait() }) }`, 0},
		{"two calls deep", `func wait() { time.Sleep(1) }
			func step() { wait() }
			func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { step() }) }`, 0},
		{"called from outside, too", `func wait() { time.Sleep(1) }
			func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { wait() }); wait() }`, 1},
		{"a method", `func (w world) wait() { time.Sleep(1) }
			func TestA(t *testing.T) { world{}.wait() }`, 1},
		{"as a value", `var pause = time.Sleep`, 1},
		{"in a goroutine", `func TestA(t *testing.T) { go func() { time.Sleep(1) }() }`, 1},
		{"a timer waited for", `func TestA(t *testing.T) { <-time.After(1) }`, 1},
		{"a timer in a bubble", `func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { <-time.After(1) }) }`, 0},
		{"a deadline", `func TestA(t *testing.T) { select { case <-time.After(1): case <-done: } }`, 0},
		{"handed to the bubble by name", `func inside(t *testing.T) { time.Sleep(1) }
			func TestA(t *testing.T) { synctest.Test(t, inside) }`, 0},
	} {
		if got := sleeps([]*goFile{sample(t, "x/a_test.go", "package x\n"+c.body)}); len(got) != c.n {
			t.Errorf("%s: found %q, want %d", c.name, got, c.n)
		}
	}
}

func TestProgramsLaw(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`import "os/exec"; var _ = exec.Command("true")`, []string{"os/exec"}},
		{`import run "os/exec"; var _ = run.Command("true")`, []string{"os/exec"}},
		{`import "os/exec"; var _, _ = exec.LookPath("true")`, nil},
		{`import "os"; var _, _ = os.StartProcess("", nil, nil)`, []string{"os.StartProcess"}},
		{`import "syscall"; var f = syscall.ForkExec`, []string{"syscall.ForkExec"}},
		{`import u "golang.org/x/sys/unix"; var f = u.Exec`, []string{"golang.org/x/sys/unix.Exec"}},
		{`import "syscall"; var f = syscall.Kill`, nil},
	} {
		if got := startsProgram(sample(t, "rt/a.go", "package x\n"+c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestPureLaw(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
	}{
		{`import "time"; var x = time.Second`, 0},
		{`import "time"; var x = time.Now()`, 1},
		{`import clock "time"; var x = clock.Now`, 1},
		{`import "os"`, 1},
		{`func f() { go f() }`, 1},
		{`func f() { select {} }`, 1},
	} {
		if got := impurities(sample(t, "rt/head/core.go", "package x\n"+c.text)); len(got) != c.n {
			t.Errorf("%s: %q, want %d", c.text, got, c.n)
		}
	}
	for p, want := range map[string]bool{
		"rt/head/core.go": true, "transport/core_send.go": true, "placement/pack.go": true,
		"rt/head/core_test.go": false, "rt/head/loop.go": false, "placement/placetest/gen.go": false,
	} {
		if got := isCore(sample(t, p, "package x")); got != want {
			t.Errorf("%s is a core: %v, want %v", p, got, want)
		}
	}
}

func TestOrderLaw(t *testing.T) {
	for _, c := range []struct {
		body string
		n    int
	}{
		{`for range m { f() }`, 1},
		{`for range named { f() }`, 1},
		{`for k := range m { keys = append(keys, k) }`, 0},
		{`for k := range m { keys = append(keys, k); f() }`, 1},
		{`for range keys { f() }`, 0},
		{`for range maps() { f() }`, 1},
	} {
		text := "package x\nvar m map[int]int\ntype n map[int]int\nvar named n\nvar keys []int\nfunc f() {}\nfunc maps() n { return nil }\nfunc g() {" + c.body + "}"
		got, err := mapRanges("rt/head", []*goFile{sample(t, "rt/head/core.go", text)}, nil)
		if err != nil || len(got) != c.n {
			t.Errorf("%s: %v, %v, want %d", c.body, got, err, c.n)
		}
	}
}

func TestAnchors(t *testing.T) {
	got := anchors("# The `wire`\n\n```sh\n# not a heading\n```\n## 2. Header, in bytes\n")
	for _, want := range []string{"the-wire", "2-header-in-bytes"} {
		if !got[want] {
			t.Errorf("no %s in %v", want, got)
		}
	}
	if len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestForeignLaw(t *testing.T) {
	for _, c := range []struct {
		line string
		bad  bool
	}{
		{"cd /wo" + "rk/main", true},
		{"out = \"/wo" + "rk/x\"", true},
		{"$HOME/wo" + "rk/x", false},
		{"/scratch/wo" + "rk/x", false},
		{"curl https://py" + "pi.org/simple", true},
		{"pip install maniple", false},
	} {
		bad := false
		for _, re := range foreign {
			bad = bad || re.MatchString(c.line)
		}
		if bad != c.bad {
			t.Errorf("%q: %v, want %v", c.line, bad, c.bad)
		}
	}
}

// LINT-15.
func TestInvariantsLaw(t *testing.T) {
	doc := "Package x is one.\n\n\tX-1: it holds.\n\tX-2: more than KEEP-1\n\t     does.\n\nSee Y-3: not named here.\n"
	if got := invariants(doc); !slices.Equal(got, []string{"X-1", "X-2"}) {
		t.Errorf("named %v", got)
	}
	for p, want := range map[string]int{"rt/a_test.go": 2, "rt/testdata/a.txt": 2, "tests/test_a.py": 2, "rt/a.go": 0, "docs/a.md": 0} {
		if got := citations(p, []byte("// X-1, X-2: both.")); len(got) != want {
			t.Errorf("%s cites %v", p, got)
		}
	}
}

func TestQuarantineLaw(t *testing.T) {
	six := strings.Repeat("rt.TestA: waits for a port\n", 6)
	for _, c := range []struct {
		text string
		n    int
	}{
		{"# nothing\n\n", 0},
		{"rt.TestA: waits for a port\n", 0},
		{"rt.TestA\n", 1},
		{six, 1},
	} {
		if got := quarantine(c.text); len(got) != c.n {
			t.Errorf("%q: %q, want %d", c.text, got, c.n)
		}
	}
}
