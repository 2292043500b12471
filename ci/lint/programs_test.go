package lint

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// starters may start a program; none of them starts one of `maniple run` but the keeper. Each says which.
var starters = map[string]string{
	"rt/keeper/fork.go":      "the one place where users' programs start",
	"rt/keeper/daemon.go":    "starts agent and head, from the keeper's own binary",
	"rt/internal/local":      "starts `maniple up` for a driver that has no cluster, and the shell that ends that cluster",
	"rt/internal/serve":      "a template in Go, which the keeper has started: execs its own file for each worker that its agent asks for",
	"rt/internal/nodetest":   "stands in for keeper and agent in tests: starts the test's own binary as a template",
	"rt/native/client.go":    "starts maniple-native, which ends with its agent",
	"rt/device/nvidia.go":    "asks nvidia-smi what GPUs there are, with a deadline",
	"rt/device/doctor.go":    "asks python3 for its version, with a deadline",
	"launcher/backend/local": "starts keepers on this machine, which then start the programs",
	"slurm/exec/client.go":   "asks Slurm's own programs, with a deadline",
	"slurm/slurmtest":        "stands in for Slurm's programs in tests, and becomes the shell that they run",
	"launcher/backend/slurm": "starts srun, whose step is one keeper per node",

	"launcher/cli/guard.go": "becomes a shell that waits for the end of a pipe and becomes `maniple down`: who starts a cluster may be killed",

	"launcher/cli/yarn_client.go": "starts the driver of `submit --client` beside itself, as who writes `python main.py` does: no node of the cluster has it",
}

// starts lists what of each package begins a new program.
var starts = map[string][]string{
	"os":                    {"StartProcess"},
	"syscall":               {"ForkExec", "StartProcess", "Exec", "SYS_EXECVE", "SYS_EXECVEAT", "SYS_FORK", "SYS_CLONE"},
	"golang.org/x/sys/unix": {"Exec", "SYS_EXECVE", "SYS_EXECVEAT", "SYS_FORK", "SYS_CLONE", "SYS_CLONE3"},
	"os/exec":               nil, // all of it
}

// LINT-8: a program that something else than a keeper starts is outlived by nobody, counted by
// nobody, and swept up by nobody.
func TestOnePathStartsPrograms(t *testing.T) {
	allow := except(starters)
	for _, f := range goFiles(t) {
		if f.test || !within(f.dir, "rt", "launcher", "transport", "objstore", "placement", "slurm", "yarn", "libs") {
			continue
		}
		for _, how := range startsProgram(f) {
			if !allow.has(f.path) {
				t.Errorf("%s uses %s: only the keeper starts programs; ask it with ProgramLaunch, or list this file here with what it starts", f.path, how)
			}
		}
	}
	allow.stale(t)
}

// startsProgram gives what f uses to start programs.
func startsProgram(f *goFile) []string {
	var out []string
	names := map[string]string{} // of packages as f calls them
	for _, i := range f.ast.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		if _, watched := starts[p]; !watched {
			continue
		}
		if p == "os/exec" {
			if !onlyLooksUp(f, nameOf(i)) {
				out = append(out, p)
			}
			continue
		}
		name := nameOf(i)
		names[name] = p
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && slices.Contains(starts[names[x.Name]], s.Sel.Name) {
			out = append(out, names[x.Name]+"."+s.Sel.Name)
		}
		return true
	})
	return out
}

// nameOf is what the file calls the package that it imports.
func nameOf(i *ast.ImportSpec) string {
	if i.Name != nil {
		return i.Name.Name
	}
	p := strings.Trim(i.Path.Value, `"`)
	return p[strings.LastIndex(p, "/")+1:]
}

// onlyLooksUp tells whether f uses of os/exec, which it calls name, only what starts nothing.
func onlyLooksUp(f *goFile, name string) bool {
	only := true
	ast.Inspect(f.ast, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Name == name {
			switch s.Sel.Name {
			case "LookPath", "ErrNotFound", "ExitError", "Error", "ErrDot":
			default:
				only = false
			}
		}
		return true
	})
	return only
}
