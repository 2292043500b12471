package lint

import (
	"fmt"
	"strings"
	"testing"
)

const mostQuarantined = 5

// LINT-14: a test that is not believed is worse than none; there may be five, each with what is known.
func TestQuarantineIsShort(t *testing.T) {
	for _, what := range quarantine(string(read(t, "ci/quarantine.txt"))) {
		t.Error("ci/quarantine.txt: " + what)
	}
}

func quarantine(text string) []string {
	var out []string
	n := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		if _, cause, _ := strings.Cut(line, " "); strings.TrimSpace(cause) == "" {
			out = append(out, fmt.Sprintf("%q has no cause", line))
		}
	}
	if n > mostQuarantined {
		out = append(out, fmt.Sprintf("%d tests are in quarantine; %d is the most: mend one", n, mostQuarantined))
	}
	return out
}
