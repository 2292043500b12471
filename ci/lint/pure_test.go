package lint

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// impure are packages that a core has no business with, and the parts of others that it must not
// touch (nil: all of the package).
var impure = map[string][]string{
	"os": nil, "net": nil, "os/exec": nil, "syscall": nil, "golang.org/x/sys/unix": nil,
	"math/rand": nil, "math/rand/v2": nil, "crypto/rand": nil,
	"log": nil, "log/slog": nil, "sync": nil,
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
}

// pure are the packages that are a core as a whole.
var pure = []string{"placement", "rt/agent/work", "objstore", "objstore/pull"}

// isCore tells whether the law is for f: files called core.go or core_x.go, and the packages that are pure.
func isCore(f *goFile) bool {
	name := strings.TrimSuffix(path.Base(f.path), ".go")
	return !f.test && (name == "core" || strings.HasPrefix(name, "core_") || slices.Contains(pure, f.dir))
}

// LINT-11: a core gets time as an argument and says what is to be done, so that the simulator can
// run it and a journal can replay it.
func TestCoresArePure(t *testing.T) {
	n := 0
	for _, f := range goFiles(t) {
		if isCore(f) {
			n++
			for _, what := range impurities(f) {
				t.Errorf("%s: a core must not use that: give it as an event, or ask for it as an effect", what)
			}
		}
	}
	if n == 0 {
		t.Error("no core found; does this test still look at the right files?")
	}
}

func impurities(f *goFile) []string {
	var out []string
	at := func(n ast.Node, what string) {
		out = append(out, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), what))
	}
	names := map[string]string{}
	for _, i := range f.ast.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		parts, watched := impure[p]
		if watched && parts == nil {
			at(i, "import of "+p)
		}
		names[nameOf(i)] = p
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			at(n, "goroutine")
		case *ast.SelectStmt:
			at(n, "select")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impure[names[x.Name]], n.Sel.Name) {
				at(n, names[x.Name]+"."+n.Sel.Name)
			}
		}
		return true
	})
	return out
}
