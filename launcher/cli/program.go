package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkProgram says why argv can't be started here, before anything is: it is not there, or not
// executable. dir is where it would start, env its environment.
func checkProgram(what string, argv []string, dir string, env []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return usage(what, "no program", fmt.Sprintf("write for instance `maniple %s -- python train.py`", what))
	}
	name := argv[0]
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return executable(what, name, path)
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, d := range filepath.SplitList(path) {
		if d == "" {
			d = "."
		}
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		if executable(what, name, filepath.Join(d, name)) == nil {
			return nil
		}
	}
	do := "give its path"
	if executable(what, name, filepath.Join(dir, name)) == nil {
		do = "write ./" + name
	} else if _, err := os.Stat(filepath.Join(dir, name)); err == nil && strings.HasSuffix(name, ".py") {
		do = "write python " + name
	}
	if path == "" {
		return &Fault{Name: "NOT_FOUND", What: what, Why: name + " is not found: the program has no PATH", Do: "give its path, or keep PATH with --export=ALL,..."}
	}
	return &Fault{Name: "NOT_FOUND", What: what, Why: name + " is not in PATH", Do: do}
}

func executable(what, name, path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return &Fault{Name: "NOT_FOUND", What: what, Why: name + " does not exist", Do: "give the path of a program", Err: err}
	case info.IsDir():
		return &Fault{Name: "NOT_EXECUTABLE", What: what, Why: name + " is a directory", Do: "give the path of a program"}
	case unix.Access(path, unix.X_OK) != nil || info.Mode()&0o111 == 0:
		return &Fault{Name: "NOT_EXECUTABLE", What: what, Why: name + " is not executable", Do: "chmod +x it, or name its interpreter"}
	}
	return nil
}

// checkPattern refuses a pattern of files whose directory is not there; one with a % is known only later.
func checkPattern(flag, pattern, dir string) error {
	parent := filepath.Dir(pattern)
	if pattern == "" || strings.Contains(parent, "%") {
		return nil
	}
	if !filepath.IsAbs(parent) {
		parent = filepath.Join(dir, parent)
	}
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return &Fault{Name: "CANNOT_CREATE", What: flag, Why: "there is no directory " + filepath.Dir(pattern), Do: "make it first"}
	}
	return nil
}

// checkDir refuses a working directory that is none.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return usage("--chdir", err.Error(), "give a directory that exists")
	case !info.IsDir():
		return usage("--chdir", dir+" is no directory", "give one")
	}
	return nil
}
