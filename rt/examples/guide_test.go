package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var block = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// What docs/guide/go.md shows stands in a program that is compiled and run, line by line; only the indentation differs.
func TestGuideIsOfThePrograms(t *testing.T) {
	files, err := filepath.Glob("*/main.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no programs", err)
	}
	var programs []string
	for _, f := range files {
		programs = append(programs, flat(t, f))
	}
	guide, err := os.ReadFile("../../docs/guide/go.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 5 {
		t.Errorf("%d blocks of Go in the guide; does this test still read them?", len(blocks))
	}
	for _, b := range blocks {
		found := false
		for _, p := range programs {
			found = found || strings.Contains(p, strip(b[1]))
		}
		if !found {
			t.Errorf("in no program:\n%s", b[1])
		}
	}
}

func flat(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strip(string(b))
}

// strip takes away indentation, alignment and empty lines.
func strip(text string) string {
	var out strings.Builder
	out.WriteString("\n")
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			out.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	return out.String()
}
