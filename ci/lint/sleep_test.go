package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"testing"
)

// LINT-7: a test that waits for the wall clock is slow, and wrong on a loaded machine. Inside a
// synctest bubble a sleep is virtual. End-to-end tests poll real processes with a deadline.
func TestNoSleepInTests(t *testing.T) {
	byPackage := map[string][]*goFile{}
	for _, f := range goFiles(t) {
		if f.test && !within(f.dir, "ci/e2e") {
			key := f.dir + " " + f.ast.Name.Name
			byPackage[key] = append(byPackage[key], f)
		}
	}
	for _, fs := range byPackage {
		for _, where := range sleeps(fs) {
			t.Errorf("%s: a wait for the wall clock outside a synctest bubble; wait for the event itself, or use virtual time", where)
		}
	}
}

// call is a use of a name, in function in (none: at the top level), inside a bubble or not.
type call struct {
	pos    token.Pos
	in     string
	bubble bool
}

// sleeps gives the calls of time.Sleep in the files of one test package that may run outside a
// bubble: not in a function literal that synctest.Test runs, nor in a function that is used only
// from there.
func sleeps(fs []*goFile) []string {
	var found []call
	uses := map[string][]call{} // by the name of the function
	for _, f := range fs {
		for _, d := range f.ast.Decls {
			name := ""
			if fn, ok := d.(*ast.FuncDecl); ok {
				name = fn.Name.Name
			}
			walk(d, name, false, &found, uses)
		}
	}
	outside := map[string]bool{}
	var escapes func(name string, seen map[string]bool) bool
	escapes = func(name string, seen map[string]bool) bool {
		if name == "" || len(uses[name]) == 0 { // a test function, or one that only the framework calls
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		for _, u := range uses[name] {
			if !u.bubble && escapes(u.in, seen) {
				return true
			}
		}
		return false
	}
	var out []string
	for _, c := range found {
		if c.bubble {
			continue
		}
		if _, known := outside[c.in]; !known {
			outside[c.in] = escapes(c.in, map[string]bool{})
		}
		if outside[c.in] {
			out = append(out, fmt.Sprint(fset.Position(c.pos)))
		}
	}
	return out
}

// walk collects sleeps and uses of names below n.
func walk(n ast.Node, in string, bubble bool, found *[]call, uses map[string][]call) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Body != nil {
				walk(n.Body, in, bubble, found, uses)
			}
			return false
		case *ast.CallExpr:
			if isSelector(n.Fun, "synctest", "Test") || isSelector(n.Fun, "synctest", "Run") {
				for _, arg := range n.Args {
					walk(arg, in, true, found, uses)
				}
				return false
			}
		case *ast.CommClause:
			if e, ok := n.Comm.(*ast.ExprStmt); ok {
				walk(e.X, in, bubble, found, uses)
				for _, s := range n.Body {
					walk(s, in, bubble, found, uses)
				}
				return false
			}
		case *ast.ExprStmt: // <-time.After(d) is a sleep by another name; in a select it is a deadline
			if after := waits(n.X); after != nil {
				*found = append(*found, call{n.Pos(), in, bubble})
				return false
			}
		case *ast.SelectorExpr:
			if isSelector(n, "time", "Sleep") {
				*found = append(*found, call{n.Pos(), in, bubble})
				return false
			}
			uses[n.Sel.Name] = append(uses[n.Sel.Name], call{n.Pos(), in, bubble})
			walk(n.X, in, bubble, found, uses)
			return false
		case *ast.Ident:
			uses[n.Name] = append(uses[n.Name], call{n.Pos(), in, bubble})
		}
		return true
	})
}

// waits gives the call if e is <-time.After(d) or <-time.Tick(d).
func waits(e ast.Expr) *ast.CallExpr {
	receive, ok := e.(*ast.UnaryExpr)
	if !ok || receive.Op != token.ARROW {
		return nil
	}
	c, ok := receive.X.(*ast.CallExpr)
	if !ok || !isSelector(c.Fun, "time", "After") && !isSelector(c.Fun, "time", "Tick") {
		return nil
	}
	return c
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}
