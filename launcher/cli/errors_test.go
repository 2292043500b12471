package cli

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

// Every error has a class and advice; what nobody knows is our bug and says so.
func TestErrorsAreClassed(t *testing.T) {
	for _, tt := range []struct {
		err  error
		name string
	}{
		{&spec.FlagError{Flag: "--x", Why: "is wrong"}, "USAGE"},
		{fmt.Errorf("boot: a: %w", boot.ErrNone), "NO_CLUSTER"},
		{fmt.Errorf("boot: a: %w", boot.ErrUp), "CLUSTER_UP"},
		{&boot.JoinError{Missing: []string{"n1"}, Timeout: 1}, "JOIN_TIMEOUT"},
		{&boot.JoinError{Missing: []string{"n1"}, Text: "no space left on device"}, "DISK_FULL"},
		{&boot.JoinError{Missing: []string{"n1"}, Text: "the directory belongs to user 7"}, "REFUSED"},
		{&boot.JoinError{Missing: []string{"n1"}, Text: "keeper: the node's port: none of the 2 ports 80-81 is free (the last: bind port 80: permission denied)"}, "CANNOT_CREATE"},
		{&boot.JoinError{Missing: []string{"n1"}, Text: "something"}, "NODE_FAILED"},
		{&gang.RefusedError{Code: gang.RefusedVersion}, "VERSION"},
		{&gang.RefusedError{Code: gang.RefusedDraining}, "DRAINING"},
		{&gang.RefusedError{}, "REFUSED"},
		{&slurm.Error{Op: "x", Kind: slurm.ErrUnreachable}, "UNREACHABLE"},
		{&slurm.Error{Op: "x", Kind: slurm.ErrNotYours}, "REFUSED"},
		{&slurm.Error{Op: "x", Kind: slurm.ErrRefused}, "INFEASIBLE"},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, "DISK_FULL"},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.EROFS}, "REFUSED"},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, "CANNOT_CREATE"},
		{os.NewSyscallError("fork", syscall.EAGAIN), "CANNOT_CREATE"},
		{&fs.PathError{Op: "read", Path: "/x", Err: syscall.EIO}, "CANNOT_CREATE"},
		{errors.New("bootdoc: no directory for this node's files (/tmp is on nfs)"), "CANNOT_CREATE"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "UNREACHABLE"},
		{fmt.Errorf("gang: x: %w", gang.ErrDead), "UNREACHABLE"},
		{fmt.Errorf("gang: x: %w", context.DeadlineExceeded), "UNREACHABLE"},
		{io.ErrUnexpectedEOF, "UNREACHABLE"},
		{errors.New("local: keepers did not end in time and were killed"), "UNREACHABLE"},
		{errors.New("boot: MANIPLE_ADDRESS=unix:x is neither the path of a socket nor a cluster's name"), "USAGE"},
		{errors.New("a thing that nobody thought of"), "BUG"},
	} {
		f := faultOf("run", tt.err)
		if f.Name != tt.name || f.Do == "" {
			t.Errorf("%v: %s, do %q; want %s", tt.err, f.Name, f.Do, tt.name)
		}
	}
	if f := faultOf("run", errors.New("a thing that nobody thought of")); f.exitCode() != ExitBug || f.line() != "maniple: run: a thing that nobody thought of; report it with the text\n" {
		t.Errorf("%d %q", f.exitCode(), f.line())
	}
	for _, e := range ErrorCodes {
		if e.Do == "" {
			t.Errorf("%s: the table has no advice", e.Name)
		}
	}
}

// No error is made without advice: neither a Fault nor usage() nor an error of a flag.
func TestEveryErrorHasAdvice(t *testing.T) {
	empty := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		return ok && lit.Value == `""`
	}
	found := 0
	for _, dir := range []string{".", "../spec"} {
		files, _ := filepath.Glob(dir + "/*.go")
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			tree, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					name, _ := n.Fun.(*ast.Ident)
					if name == nil || name.Name != "usage" && name.Name != "bad" && name.Name != "infeasible" {
						break
					}
					found++
					if len(n.Args) > 1 && empty(n.Args[len(n.Args)-1]) {
						t.Errorf("%s: no advice", set.Position(n.Pos()))
					}
				case *ast.CompositeLit:
					name, _ := n.Type.(*ast.Ident)
					if name == nil || name.Name != "Fault" && name.Name != "FlagError" {
						break
					}
					found++
					advice, quiet := false, len(n.Elts) == 0
					for i, e := range n.Elts {
						kv, keyed := e.(*ast.KeyValueExpr)
						if !keyed {
							advice = advice || i == 2 && !empty(e)
							continue
						}
						key := kv.Key.(*ast.Ident).Name
						advice = advice || key == "Do" && !empty(kv.Value)
						quiet = quiet || key == "silent"
					}
					if !advice && !quiet {
						t.Errorf("%s: no advice", set.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
	if found < 50 {
		t.Errorf("only %d errors were looked at", found)
	}
}

// With --json the error is in the last line of standard output, by its name in the table.
func TestErrorsAsJSON(t *testing.T) {
	a, out, errs := newApp(map[string]string{"HOME": t.TempDir(), "TMPDIR": t.TempDir()})
	code := a.main([]string{"maniple", "nodes", "--json"})
	want := `{"version":1,"event":"error","code":"NO_CLUSTER","exit_code":69,"what":"nodes","why":"default: no cluster is up","do":"start one with ` + "`maniple up`" + `, or name it with --cluster"}` + "\n"
	if code != 69 || out.String() != want || !strings.HasPrefix(errs.String(), "maniple: nodes: ") {
		t.Errorf("exit %d\n%s\nwant\n%s\n%s", code, out, want, errs)
	}
}
