package lint

import (
	"regexp"
	"strings"
	"testing"
)

// dependencies are the modules that this tree uses, where, and why it does not do without. tests
// says that only tests may.
var dependencies = []struct {
	module string
	in     []string
	tests  bool
	why    string
}{
	{"github.com/google/flatbuffers", []string{"transport", "rt"}, false, "the wire's tables"},
	{"github.com/fxamacker/cbor/v2", []string{"rt"}, false, "values that other languages read, by the standard's own rules"},
	{"golang.org/x/sys", []string{"transport", "rt", "objstore", "launcher", "slurm", "ci"}, false, "system calls that package syscall lacks"},
	{"golang.org/x/term", []string{"launcher", "rt"}, false, "raw mode of a terminal"},
	{"github.com/urfave/cli/v2", []string{"launcher"}, false, "flags and help"},
	{"github.com/BurntSushi/toml", []string{"launcher"}, false, "configuration files"},
	{"github.com/jcmturner/gokrb5/v8", []string{"yarn"}, false, "Kerberos: tickets from KDCs, and its encryption types"},
	{"github.com/jcmturner/gofork", []string{"yarn"}, true, "the ASN.1 that gokrb5 writes with"},
	{"github.com/aws/aws-sdk-go-v2", []string{"launcher"}, false, "S3, and how its credentials are found"},
	{"github.com/aws/smithy-go", []string{"launcher"}, false, "the errors of that"},
	{"github.com/colinmarc/hdfs/v2", []string{"launcher", "ci"}, false, "HDFS: where programs and files lie for containers"},
	{"github.com/NVIDIA/go-nvml", []string{"launcher"}, false, "NVML, in maniple-native: the driver's own word on its GPUs"},
	{"github.com/rogpeppe/go-internal", []string{"launcher", "ci"}, true, "command line tests as scripts"},
}

// LINT-3: an import of another module is one of these, in one of these places.
func TestDependencies(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, imp := range f.imports() {
			host, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(host, ".") || imp == module || strings.HasPrefix(imp, module+"/") {
				continue
			}
			if why := depends(f, imp); why != "" {
				t.Errorf("%s imports %s: %s", f.path, imp, why)
			}
		}
	}
}

// depends gives why f may not import imp, or "".
func depends(f *goFile, imp string) string {
	for _, d := range dependencies {
		if imp != d.module && !strings.HasPrefix(imp, d.module+"/") {
			continue
		}
		switch {
		case !within(f.dir, d.in...):
			return d.module + " (" + d.why + ") belongs in " + strings.Join(d.in, ", ")
		case d.tests && !f.test && f.room() != "ci":
			return d.module + " is for tests only"
		}
		return ""
	}
	return "not on the list of dependencies; a new one needs a reason there"
}

// The generator and the runtime of flatbuffers must be of one version.
func TestFlatbuffersPinned(t *testing.T) {
	gomod := regexp.MustCompile(`github\.com/google/flatbuffers v([0-9.]+)`).FindSubmatch(read(t, "go.mod"))
	gen := regexp.MustCompile(`flatcVersion = "([0-9.]+)"`).FindSubmatch(read(t, "ci/gen/flatc.go"))
	if gomod == nil || gen == nil || string(gomod[1]) != string(gen[1]) {
		t.Errorf("go.mod has flatbuffers %q, ci/gen builds flatc %q", gomod, gen)
	}
}
