//go:build e2e && soak

package yarn

import (
	"strings"
	"testing"
)

// With Hadoop's own checks of memory and address space, both on, 16 workers look at 1 GiB.
func TestSixteenLookAtAGibibyte(t *testing.T) {
	gatewayOn(t, strict.up(t)).look("20G", 1024, 16, 15)
}

// What YARN keeps of an application in the format IFile, compressed, is read as in the format that it has without being told.
func TestIndexedLogs(t *testing.T) {
	g := gatewayOn(t, strict.up(t))
	g.write("say.sh", "for i in $(seq 2000); do echo $i of what is said; done; echo that was it >&2; exit 3\n")
	id := g.submit(append(small, "-N", "1", "-n", "1", "--", "bash", "say.sh")...)
	g.over(id)
	for _, args := range [][]string{{"logs", id}, {"logs", "-f", id}} {
		if r := g.run(args...); r.Code != 0 || strings.Count(r.Stdout, " of what is said\n") != 2000 || !strings.Contains(r.Stdout, "2000 of what") || !strings.Contains(r.Stderr, "that was it") {
			t.Errorf("%v: %d bytes, %+v", args, len(r.Stdout), r)
		}
	}
	if files := g.aggregated(id); len(files) != 1 {
		t.Errorf("%d files in another format than was asked for", len(files))
	} else {
		for path := range files {
			if !strings.Contains(path, "/bucket-logs-ifile/") {
				t.Error(path)
			}
		}
	}
}
