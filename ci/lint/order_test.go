package lint

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ordered are the packages whose results must be the same for the same input: cores, and what runs
// them in the simulator. In them a file without impurities is part of the core.
var ordered = []string{"placement", "rt/head", "rt/agent", "rt/agent/work", "rt/sim", "transport", "objstore"}

// LINT-12: nothing is decided in the order of a map. Go changes it with each run, so a seed would
// not replay, and a head that reads its journal would not decide as the one before it.
func TestCoresRangeOverNoMap(t *testing.T) {
	pkgs := map[string][]*goFile{}
	for _, f := range goFiles(t) {
		for _, dir := range ordered {
			if f.dir != dir || f.test {
				continue
			}
			// Of twins under build tags, the one that this machine builds.
			if ok, err := build.Default.MatchFile(filepath.Join(root, dir), filepath.Base(f.path)); ok && err == nil {
				pkgs[dir] = append(pkgs[dir], f)
			}
		}
	}
	exports := exportData(t, pkgs)
	imp := importer.ForCompiler(fset, "gc", func(p string) (io.ReadCloser, error) {
		file, ok := exports[p]
		if !ok {
			return nil, fmt.Errorf("no export data for %s", p)
		}
		return os.Open(file)
	})
	allow := except(map[string]string{})
	for dir, fs := range pkgs {
		places, err := mapRanges(dir, fs, imp)
		if err != nil {
			t.Errorf("%s does not compile, so its order is not known: %v", dir, err)
		}
		for _, where := range places {
			if !allow.has(where.Filename) {
				t.Errorf("%s: range over a map: keep a sorted slice beside it, or sort the keys first", where)
			}
		}
	}
	allow.stale(t)
}

// exportData asks the go command for the types of all that the packages import.
func exportData(t *testing.T, pkgs map[string][]*goFile) map[string]string {
	t.Helper()
	args := []string{"list", "-e", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	for dir := range pkgs {
		args = append(args, "./"+dir)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if p, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok && file != "" {
			exports[p] = filepath.FromSlash(file)
		}
	}
	return exports
}

// mapRanges gives the range statements over maps in the pure files of a package, but for those that
// only collect keys to sort them: `for k := range m { keys = append(keys, k) }`.
func mapRanges(dir string, fs []*goFile, imp types.Importer) ([]token.Position, error) {
	files := make([]*ast.File, len(fs))
	for i, f := range fs {
		files[i] = f.ast
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	if _, err := (&types.Config{Importer: imp}).Check(module+"/"+dir, fset, files, info); err != nil {
		return nil, err
	}
	var out []token.Position
	for _, f := range fs {
		if len(impurities(f)) > 0 {
			continue // a shell
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			r, ok := n.(*ast.RangeStmt)
			if !ok {
				return true
			}
			if _, isMap := info.Types[r.X].Type.Underlying().(*types.Map); isMap && !collects(r) {
				out = append(out, fset.Position(r.Pos()))
			}
			return true
		})
	}
	return out, nil
}

// collects tells whether r does nothing but append to one slice.
func collects(r *ast.RangeStmt) bool {
	if len(r.Body.List) != 1 {
		return false
	}
	a, ok := r.Body.List[0].(*ast.AssignStmt)
	if !ok || len(a.Rhs) != 1 {
		return false
	}
	call, ok := a.Rhs[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	name, ok := call.Fun.(*ast.Ident)
	return ok && name.Name == "append"
}
