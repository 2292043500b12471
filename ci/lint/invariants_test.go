package lint

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named is where a package's doc names an invariant, cited a mention of one anywhere.
var (
	named = regexp.MustCompile(`(?m)^\t([A-Z][A-Z0-9]*-[0-9]+): `)
	cited = regexp.MustCompile(`\b[A-Z][A-Z0-9]*-[0-9]+\b`)
)

// LINT-15: a promise that no test speaks of is a wish. A script in testdata counts as a test, and so do
// the checks of the simulation.
func TestInvariantsAreCited(t *testing.T) {
	home := map[string]string{} // of an invariant, the package that names it
	for _, f := range goFiles(t) {
		if f.ast.Doc == nil || f.test || f.generated {
			continue
		}
		for _, name := range invariants(f.ast.Doc.Text()) {
			if other := home[name]; other != "" {
				t.Errorf("%s names %s, and so does %s", f.dir, name, other)
			}
			home[name] = f.dir
		}
	}
	if len(home) < 50 {
		t.Fatalf("only %d invariants found", len(home))
	}
	in := map[string]bool{}
	for _, p := range allFiles(t) {
		if p == "ci/lint/invariants_test.go" { // the list below is no proof
			continue
		}
		for _, name := range citations(p, read(t, p)) {
			in[name] = true
		}
	}
	uncited := except(map[string]string{
		"E2E-1": "it takes two testbeds at once; every run beside another one shows it",
		"E2E-2": "it takes a testbed whose owner was killed; every run after such a one shows it",
	})
	for _, name := range slices.Sorted(maps.Keys(home)) {
		if !in[name] && !uncited.has(name) {
			t.Errorf("%s: no test cites %s: name it in the test that goes red without it", home[name], name)
		}
	}
	uncited.stale(t)
}

// invariants are those that a package's doc names.
func invariants(doc string) (names []string) {
	for _, m := range named.FindAllStringSubmatch(doc, -1) {
		names = append(names, m[1])
	}
	return names
}

// citations are the invariants of which a file speaks, if it is a test or a script of one.
func citations(p string, text []byte) []string {
	switch {
	case strings.HasSuffix(p, "_test.go"), p == "rt/sim/check.go", path.Ext(p) == ".py" && strings.HasPrefix(path.Base(p), "test_"):
	case slices.Contains(strings.Split(p, "/"), "testdata") && isText(text):
	default:
		return nil
	}
	return cited.FindAllString(string(text), -1)
}
