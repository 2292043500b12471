package lint

import (
	"path"
	"slices"
	"strings"
	"testing"
)

type direction struct {
	room string
	may  []string
	why  string
}

// directions says which rooms a room may import, and why no others. An arrow that is not here needs
// an ADR first.
var directions = []direction{
	{"transport", nil, "bytes between processes know nothing of what they carry"},
	{"placement", nil, "placing is pure: requests and a view in, a plan out"},
	{"slurm", nil, "a client for Slurm that others could import alone"},
	{"yarn", nil, "a client for YARN that others could import alone"},
	{"objstore", []string{"transport"}, "objects move over transport and know nothing of tasks"},
	{"rt", []string{"transport", "placement", "objstore"}, "the runtime declares interfaces where it needs a site; launcher implements them"},
	{"libs", []string{"rt"}, "libraries eat our own public API, or users could not write them"},
	{"launcher", []string{"rt", "slurm", "yarn", "placement"}, "the launcher wires; bytes on links are rt's business"},
	{"ci", []string{"launcher", "rt", "transport", "placement", "objstore", "slurm", "yarn", "libs"}, "tests may look at everything"},
}

// sharedIDs are the identities that every room but the two clean clients may import.
const sharedIDs = "transport/wire/id"

// arrows are single packages that may be imported against the directions above.
var arrows = map[[2]string]string{}

// LINT-1.
func TestDirections(t *testing.T) {
	used := map[[2]string]bool{}
	for _, f := range goFiles(t) {
		i := slices.IndexFunc(directions, func(d direction) bool { return d.room == f.room() })
		if i < 0 {
			t.Errorf("%s: %s is no room; Go code lives in one of them", f.path, f.room())
			continue
		}
		d := directions[i]
		for _, imp := range f.imports() {
			to, ours := strings.CutPrefix(imp, module+"/")
			if !ours || d.allows(to) {
				continue
			}
			if arrow := [2]string{f.dir, to}; arrows[arrow] != "" {
				used[arrow] = true
				continue
			}
			t.Errorf("%s imports %s: %s may import %s, because %s", f.path, to, d.room, orNothing(d.may), d.why)
		}
	}
	for arrow, why := range arrows {
		if !used[arrow] {
			t.Errorf("the arrow from %s to %s (%s) is not needed any more", arrow[0], arrow[1], why)
		}
	}
}

// allows tells whether the room may import the package to of this module.
func (d direction) allows(to string) bool {
	if to == sharedIDs {
		return d.room != "slurm" && d.room != "yarn"
	}
	return room(to) == d.room || slices.Contains(d.may, room(to))
}

func orNothing(rooms []string) string {
	if len(rooms) == 0 {
		return "no other room"
	}
	return strings.Join(rooms, ", ") + " and " + sharedIDs
}

// LINT-2: the root package ends up in users' binaries.
func TestRootPackageIsSmall(t *testing.T) {
	deps := closure(t, "rt")
	for dir, via := range deps {
		switch {
		case within(dir, "rt/head", "rt/agent", "placement"):
			t.Errorf("package rt brings %s (by way of %s) into every user's binary: declare an interface in rt instead", dir, via)
		case within(dir, "objstore") && !within(dir, "objstore/client"):
			t.Errorf("package rt brings %s (by way of %s); only objstore/client belongs in a user's binary", dir, via)
		}
	}
}

// Nobody imports a main package, and nobody's tests reach into another room's testdata by import.
func TestNoImportOfCommands(t *testing.T) {
	mains := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.ast.Name.Name == "main" {
			mains[module+"/"+f.dir] = true
		}
	}
	for _, f := range goFiles(t) {
		for _, imp := range f.imports() {
			if mains[imp] {
				t.Errorf("%s imports the command %s", f.path, imp)
			}
		}
	}
}

// closure gives the packages of this module that dir's package needs, and who brought each of them.
func closure(t *testing.T, dir string) map[string]string {
	t.Helper()
	direct := map[string][]string{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, imp := range f.imports() {
			if to, ours := strings.CutPrefix(imp, module+"/"); ours {
				direct[f.dir] = append(direct[f.dir], path.Clean(to))
			}
		}
	}
	out := map[string]string{}
	var visit func(at string)
	visit = func(at string) {
		for _, to := range direct[at] {
			if _, seen := out[to]; !seen {
				out[to] = at
				visit(to)
			}
		}
	}
	visit(dir)
	return out
}
