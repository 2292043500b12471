package lint

import (
	"bytes"
	"go/format"
	"os/exec"
	"testing"
)

// LINT-9.
func TestGeneratedCurrent(t *testing.T) {
	run(t, "go", "run", "./ci/gen", "-check")
}

func TestVet(t *testing.T) {
	run(t, "go", "vet", "./...")
}

func TestGofmt(t *testing.T) {
	for _, f := range goFiles(t) {
		want, err := format.Source(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(want, f.text) {
			t.Errorf("%s is not as gofmt writes it", f.path)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
}
