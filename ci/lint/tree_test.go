package lint

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the name under which packages of this tree import each other.
const module = "github.com/maniple-hpc/maniple"

// root is the tree, from this package's folder.
const root = "../.."

// goFile is one parsed Go file of the tree.
type goFile struct {
	path      string // from the root, with slashes
	dir       string
	text      []byte
	ast       *ast.File
	generated bool
	test      bool
}

func (f *goFile) room() string { return room(f.dir) }

// room is the first element of a folder's path.
func room(dir string) string {
	r, _, _ := strings.Cut(dir, "/")
	return r
}

// imports gives the paths that f imports.
func (f *goFile) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

// within tells whether dir is one of the folders in dirs or below it.
func within(dir string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") })
}

var fset = token.NewFileSet()

// files gives the paths of all files of the tree, but not of what is built in it.
var files = sync.OnceValues(func() ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "build", "dist", ".venv", "__pycache__", ".pytest_cache", "shared":
				return filepath.SkipDir
			}
			if strings.HasSuffix(d.Name(), ".egg-info") {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		out = append(out, filepath.ToSlash(rel))
		return nil
	})
	return out, err
})

var parsed = sync.OnceValues(func() ([]*goFile, error) {
	paths, err := files()
	if err != nil {
		return nil, err
	}
	var out []*goFile
	for _, p := range paths {
		if path.Ext(p) != ".go" || slices.Contains(strings.Split(p, "/"), "testdata") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, p))
		if err != nil {
			return nil, err
		}
		f, err := parseGo(p, text)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
})

func parseGo(p string, text []byte) (*goFile, error) {
	f, err := parser.ParseFile(fset, p, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &goFile{
		path: p, dir: path.Dir(p), text: text, ast: f,
		generated: ast.IsGenerated(f), test: strings.HasSuffix(p, "_test.go"),
	}, nil
}

func goFiles(t *testing.T) []*goFile {
	t.Helper()
	out, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("only %d Go files found; is %s the tree?", len(out), root)
	}
	return out
}

func allFiles(t *testing.T) []string {
	t.Helper()
	out, err := files()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, p string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, p))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// isText tells whether text is for people: no zero byte near its start.
func isText(text []byte) bool { return bytes.IndexByte(text[:min(len(text), 8000)], 0) < 0 }

// exceptions is a list of places and why they may do what a law forbids. A place that nothing
// needs any more is an error, so that the list stays true.
type exceptions struct {
	why  map[string]string
	used map[string]bool
}

func except(why map[string]string) *exceptions { return &exceptions{why, map[string]bool{}} }

// has tells whether p, or a folder above it, is excepted.
func (e *exceptions) has(p string) bool {
	for at := p; ; at = path.Dir(at) {
		if _, ok := e.why[at]; ok {
			e.used[at] = true
			return true
		}
		if at == "." || at == "/" {
			return false
		}
	}
}

func (e *exceptions) stale(t *testing.T) {
	t.Helper()
	for at, why := range e.why {
		if !e.used[at] {
			t.Errorf("the exception for %s (%s) is not needed any more: take it out of the list", at, why)
		}
	}
}
