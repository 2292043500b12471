//go:build e2e && soak

package yarn

import (
	"os"
	"path/filepath"
	"regexp"
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

// YARN ends a master that needs more than its container has, and starts the next one with as little: who submitted is told what to raise.
func TestMasterIsTooSmall(t *testing.T) {
	g := gatewayOn(t, strict.up(t))
	files, err := filepath.Glob(filepath.Join(g.b.dir, "conf", "rm", "*.xml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files { // of a gateway that does not know that address space is counted
		text, err := os.ReadFile(file)
		if err == nil {
			text = regexp.MustCompile(`(vmem-check-enabled</name>\s*<value>)true`).ReplaceAll(text, []byte("${1}false"))
			err = os.WriteFile(filepath.Join(g.home, filepath.Base(file)), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	g.environ = append(g.environ, "HADOOP_CONF_DIR="+g.home)
	r := g.run("submit", "--on", "yarn", "--follow", "-N", "1", "-n", "1", "--mem", "2G", "--am-memory", "256M", "--", "sleep", "60")
	if r.Code == 0 || !strings.Contains(r.Stderr, "more address space than its container has (-103): submit with a larger --am-memory") {
		t.Fatalf("%+v", r)
	}
	_, after, _ := strings.Cut(r.Stdout, "application_")
	id := "application_" + strings.Fields(after)[0]
	if r := g.run("explain", id); !strings.Contains(r.Stdout, "is FAILED") || !strings.Contains(r.Stdout, "larger --am-memory") {
		t.Errorf("%+v", r)
	}
}
