package lint

import (
	"os"
	"slices"
	"testing"
)

// top is all that stands at the top of the tree, beside what is built or fetched there (.gitignore).
var top = []string{
	".ci", ".gitignore", ".golangci.yml", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "ci", "docs", "go.mod", "go.sum", "launcher", "libs", "objstore",
	"placement", "rt", "slurm", "transport", "yarn",
}

// LINT-16: who looks for something finds it by the name of its room, and nothing lies between the rooms.
func TestTop(t *testing.T) {
	beside := []string{".git", "build", "dist", ".venv", ".pytest_cache", "shared"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
		if !slices.Contains(top, e.Name()) && !slices.Contains(beside, e.Name()) {
			t.Errorf("%s at the top of the tree: what is it, and in which room does it belong?", e.Name())
		}
	}
	for _, name := range top {
		if !there[name] {
			t.Errorf("%s is not at the top of the tree", name)
		}
	}
}
