package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes of a program that could not be started, as shells have them.
const (
	codeNoExec   = 126
	codeNotFound = 127
)

// startError is why a program could not be started.
type startError struct {
	code int32
	err  error
}

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

func notFound(format string, args ...any) error {
	return &startError{codeNotFound, fmt.Errorf("keeper: "+format, args...)}
}

func noExec(format string, args ...any) error {
	return &startError{codeNoExec, fmt.Errorf("keeper: "+format, args...)}
}

// lookup finds the file of a program as a shell would, with the program's own PATH and directory. It
// gives up on a file system that does not answer, and when done is closed; what asks it waits on.
func lookup(name string, env []string, cwd string, done <-chan struct{}) (string, error) {
	type answer struct {
		path string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		path, err := find(name, env, cwd)
		answers <- answer{path, err}
	}()
	timer := time.NewTimer(lookupTime)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.path, a.err
	case <-done:
		return "", noExec("%s: the node ends", name)
	case <-timer.C:
		return "", noExec("%s: no answer from the file system for %v, looking for it in %s; is a mount of this node hanging?", name, lookupTime, cwd)
	}
}

func find(name string, env []string, cwd string) (string, error) {
	if cwd == "" {
		cwd = "/"
	}
	switch info, err := os.Stat(cwd); {
	case err != nil:
		return "", noExec("working directory: %w; is it on a file system that this node has?", err)
	case !info.IsDir():
		return "", noExec("working directory: %s is not a directory", cwd)
	case unix.Faccessat(unix.AT_FDCWD, cwd, unix.X_OK, unix.AT_EACCESS) != nil:
		return "", noExec("working directory: %s can't be entered by you on this node", cwd)
	}
	if strings.Contains(name, "/") {
		path := within(cwd, name)
		return path, check(path)
	}
	search := "/usr/local/bin:/usr/bin:/bin"
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			search = value
		}
	}
	var denied error
	for _, dir := range filepath.SplitList(search) {
		path := filepath.Join(within(cwd, dir), name)
		err := check(path)
		if err == nil {
			return path, nil
		}
		if bad, ok := err.(*startError); ok && bad.code == codeNoExec && denied == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	hint := ""
	if info, err := os.Stat(filepath.Join(cwd, name)); err == nil && !info.IsDir() {
		hint = fmt.Sprintf("; there is %s in %s: say ./%s, or name its interpreter", name, cwd, name)
	}
	return "", notFound("%s: not found in PATH%s", name, hint)
}

func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func check(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return notFound("%s: no such file", path)
	case err != nil:
		return noExec("%w", err)
	case info.IsDir():
		return noExec("%s: is a directory", path)
	case unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) != nil:
		return noExec("%s: not executable by you: chmod +x it, or name its interpreter", path)
	}
	return nil
}

// explainExec says what the errors of fork and exec mean here.
func explainExec(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return notFound("%s: its interpreter (first line, or the loader of a binary) is not on this node", path)
	case errors.Is(err, unix.ENOEXEC):
		return noExec("%s: %w: neither a binary for this machine nor a script with a first line #!", path, err)
	case errors.Is(err, unix.E2BIG):
		return noExec("%s: %w: arguments and environment are larger than the kernel takes", path, err)
	case errors.Is(err, unix.EAGAIN):
		return noExec("%s: %w: you have as many processes as you may (ulimit -u), or the cgroup has (pids.max)", path, err)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return noExec("%s: %w: raise ulimit -n", path, err)
	}
	return noExec("%s: %w", path, err)
}
