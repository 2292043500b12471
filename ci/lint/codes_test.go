package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/launcher/cli"
)

// LINT-13: a code that a user sees and can't look up helps nobody: all that the code base emits are in
// the tables of which docs/spec/errors.md is made, and nothing else is.
func TestCodesAreInTheTables(t *testing.T) {
	known := map[string]bool{} // and whether it was met
	for _, e := range cli.ErrorCodes {
		known[e.Name] = false
	}
	for _, table := range [][]cli.Code{cli.NodeCodes, cli.NoticeCodes, cli.TaskCodes, cli.DoctorCodes} {
		for _, c := range table {
			known[c.Name] = false
		}
	}
	for _, f := range goFiles(t) {
		if f.test || f.generated || !within(f.dir, "rt", "launcher", "transport", "slurm") || strings.HasPrefix(f.path, "launcher/cli/codes") {
			continue
		}
		for _, code := range codesOf(f) {
			found := false
			for name := range known { // a part of one (CODE_, _CODE) is made whole at run time
				part := strings.HasSuffix(code, "_") && strings.HasPrefix(name, code) || strings.HasPrefix(code, "_") && strings.HasSuffix(name, code)
				if name == code || part {
					known[name], found = true, true
				}
			}
			if !found {
				t.Errorf("%s: %s is not in the tables of launcher/cli: say what it means and what to do", f.path, code)
			}
		}
	}
	for name, met := range known {
		if !met {
			t.Errorf("nothing says %s any more: remove it from the tables of launcher/cli", name)
		}
	}
}

var codeWord = regexp.MustCompile(`^"(_?[A-Z][A-Z0-9]*(_[A-Z0-9]+)*_?)"$`)

// speakers are calls that take a code among their arguments; so is every call that begins with the level of
// a notice, whatever its name.
var speakers = map[string]bool{"say": true, "Fault": true}

// levelled tells whether a call's first argument is the level of a notice (fb.LevelWarning).
func levelled(call *ast.CallExpr) bool {
	sel, ok := call.Args[0].(*ast.SelectorExpr)
	return ok && strings.HasPrefix(sel.Sel.Name, "Level")
}

// codesOf gives the codes that f emits: in errors that have a name, findings, events, notices, and in
// variables called code or name of functions that choose one.
func codesOf(f *goFile) []string {
	var out []string
	take := func(in ast.Node) {
		ast.Inspect(in, func(n ast.Node) bool {
			if _, nested := n.(*ast.CompositeLit); nested && n != in {
				return false // looked at by itself
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if m := codeWord.FindStringSubmatch(lit.Value); m != nil {
					out = append(out, m[1])
				}
			}
			return true
		})
	}
	chooser := false // in a function that gives a code back
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			chooser = strings.HasPrefix(n.Name.Name, "classify") || strings.HasPrefix(n.Name.Name, "explain")
		case *ast.CompositeLit:
			name := ""
			switch t := n.Type.(type) {
			case *ast.Ident:
				name = t.Name
			case *ast.SelectorExpr:
				name = t.Sel.Name
			}
			switch name {
			case "fault":
				if len(n.Elts) > 0 {
					take(n.Elts[0])
				}
			case "Fault", "Finding", "event", "NoticeT", "": // "": of a list, which names the type
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok && (key.Name == "Code" || key.Name == "Name" && name != "") {
							take(kv.Value)
						}
					}
				}
			}
		case *ast.CallExpr:
			name := ""
			switch fun := n.Fun.(type) {
			case *ast.Ident:
				name = fun.Name
			case *ast.SelectorExpr:
				name = fun.Sel.Name
			}
			if len(n.Args) > 1 && (speakers[name] || levelled(n)) {
				for _, a := range n.Args[:2] {
					if _, ok := a.(*ast.BasicLit); ok {
						take(a)
					}
				}
			}
		case *ast.ValueSpec: // constants that are codes are called so
			for i, id := range n.Names {
				if strings.HasPrefix(strings.ToLower(id.Name), "code") && i < len(n.Values) {
					take(n.Values[i])
				}
			}
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				if id, ok := l.(*ast.Ident); ok && len(n.Rhs) == len(n.Lhs) && (id.Name == "code" || id.Name == "name" && chooser) {
					if _, call := n.Rhs[i].(*ast.CallExpr); !call {
						take(n.Rhs[i])
					}
				}
			}
		case *ast.ReturnStmt:
			if chooser && len(n.Results) > 1 {
				if lit, ok := n.Results[0].(*ast.BasicLit); ok {
					take(lit)
				}
			}
		}
		return true
	})
	return out
}

func TestCodesLaw(t *testing.T) {
	f := sample(t, "rt/x/a.go", `package x
func a() error { return &fault{"ONE", 1, nil} }
func b() { c.whatever(fb.LevelInfo, "TWO", "text"); d.say("THREE", Bad, "") ; e.other("NOT", "NEITHER") }
func c() []Finding { return []device.Finding{{Code: "FOUR", Text: "NOT_THIS"}, device.Finding{Code: "FIVE"}} }
const CodeNine, other = "NINE", "NOT_THAT"
func classify() (string, int) { name := "SIX"; return "SEVEN", 1 }
func d() error { return &fault{strings.ToUpper(x) + "_EIGHT", 1, nil} }`)
	if got := strings.Join(codesOf(f), " "); got != "ONE TWO THREE FOUR FIVE NINE SIX SEVEN _EIGHT" {
		t.Errorf("found %s", got)
	}
}
