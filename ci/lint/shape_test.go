package lint

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"
)

// LINT-4: a sentence, the nouns, ownership, guarantees, limits; in one place.
func TestPackageDocs(t *testing.T) {
	type pkg struct {
		docs []string
		code bool
	}
	pkgs := map[string]*pkg{}
	for _, f := range goFiles(t) {
		key := f.dir + " (" + f.ast.Name.Name + ")"
		p := pkgs[key]
		if p == nil {
			p = &pkg{}
			pkgs[key] = p
		}
		p.code = p.code || !f.test
		if f.ast.Doc == nil || f.ast.Doc.Text() == "" {
			continue
		}
		p.docs = append(p.docs, f.path)
		text, name := f.ast.Doc.Text(), f.ast.Name.Name
		want := "Package " + name + " "
		if name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(text, want) {
			t.Errorf("%s: the package's doc begins %q, not %q", f.path, text[:min(len(text), 30)], want)
		}
	}
	for name, p := range pkgs {
		if len(p.docs) > 1 {
			t.Errorf("%s has more than one package doc: %s", name, strings.Join(p.docs, ", "))
		}
		if len(p.docs) == 0 && p.code {
			t.Errorf("%s has no package doc; write doc.go", name)
		}
	}
}

const (
	reviewLines = 500
	maxLines    = 1000
)

// LINT-5. Generated files don't count.
func TestFileLength(t *testing.T) {
	long := except(map[string]string{})
	for _, f := range goFiles(t) {
		n := bytes.Count(f.text, []byte("\n"))
		switch {
		case f.generated:
		case n > maxLines:
			t.Errorf("%s has %d lines; %d is the end", f.path, n, maxLines)
		case n > reviewLines && !long.has(f.path):
			t.Errorf("%s has %d lines; split it by what its parts are about, or list it here with a reason", f.path, n)
		}
	}
	for _, p := range allFiles(t) {
		if slices.Contains([]string{".py", ".sh", ".c", ".h", ".js"}, path.Ext(p)) {
			text := read(t, p)
			if n := bytes.Count(text, []byte("\n")); n > maxLines && !bytes.Contains(text[:min(len(text), 200)], []byte("Code generated")) {
				t.Errorf("%s has %d lines; %d is the end", p, n, maxLines)
			}
		}
	}
	long.stale(t)
}

// LINT-6: a name says what is inside, and these say nothing.
func TestNames(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"}
	for _, f := range goFiles(t) {
		words := strings.FieldsFunc(strings.TrimSuffix(f.path, ".go"), func(r rune) bool { return r == '/' || r == '_' || r == '-' })
		words = append(words, f.ast.Name.Name)
		for _, w := range words {
			if slices.Contains(empty, strings.ToLower(w)) {
				t.Errorf("%s: %q says nothing about what is inside", f.path, w)
			}
		}
	}
}
