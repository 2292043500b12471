package lint

import (
	"bytes"
	"go/build/constraint"
	"go/format"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// LINT-9.
func TestGeneratedCurrent(t *testing.T) {
	run(t, "go", "run", "./ci/gen", "-check")
}

func TestVet(t *testing.T) {
	run(t, "go", "vet", "./...")
}

// A file that no command compiles rots: vet and staticcheck are given every tag that a file asks for, and
// no other.
func TestTagsAreVetted(t *testing.T) {
	used := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, tag := range tagsOf(f) {
			used[tag] = used[tag] || tag != "cgo" // which Go sets itself
		}
	}
	maps.DeleteFunc(used, func(_ string, ours bool) bool { return !ours })
	if len(used) == 0 {
		t.Fatal("no file asks for a tag")
	}
	want := slices.Sorted(maps.Keys(used))
	for _, p := range []struct{ path, after string }{{"ci/suite/plan.go", `"vet", "-tags", "`}, {"ci/lint/staticcheck.sh", "-tags "}} {
		_, rest, _ := strings.Cut(string(read(t, p.path)), p.after)
		end := strings.IndexAny(rest+" ", "\" ")
		if got := strings.Split(rest[:end], ","); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("%s is given the tags %v, files ask for %v", p.path, got, want)
		}
	}
}

// tagsOf gives the tags of f's build constraint.
func tagsOf(f *goFile) (tags []string) {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if expr, err := constraint.Parse(c.Text); err == nil && c.Pos() < f.ast.Package {
				expr.Eval(func(tag string) bool { tags = append(tags, tag); return true })
			}
		}
	}
	return tags
}

func TestTagsLaw(t *testing.T) {
	if got := tagsOf(sample(t, "x/a_test.go", "//go:build a && (b || c)\n\npackage x\n\n//go:build d\n")); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("found %v", got)
	}
}

func TestGofmt(t *testing.T) {
	for _, f := range goFiles(t) {
		want, err := format.Source(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(want, f.text) {
			t.Errorf("%s is not as gofmt writes it", f.path)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
}
