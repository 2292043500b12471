package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// StateDir is where endpoint files go: the first of $XDG_STATE_HOME/maniple (~/.local/state/maniple),
// the Slurm job's submit directory, and this node's own directory that can be written. All but the last
// are expected to be seen by other nodes.
func StateDir(getenv func(string) string) (string, error) {
	dirs := StateDirs(getenv)
	var why []string
	for _, dir := range dirs {
		if err := makePrivateBelow(dir, dir); err != nil {
			why = append(why, err.Error())
			continue
		}
		return dir, nil
	}
	return "", fmt.Errorf("boot: no directory for the cluster's address (%s); set XDG_STATE_HOME to one that you can write", strings.Join(why, "; "))
}

// StateDirs lists the candidates in order; all are searched for what was noted.
func StateDirs(getenv func(string) string) []string {
	var dirs []string
	if d, ok := userState(getenv); ok {
		dirs = append(dirs, d)
	}
	if d := getenv("SLURM_SUBMIT_DIR"); filepath.IsAbs(d) {
		dirs = append(dirs, filepath.Join(d, ".maniple"))
	}
	if base, err := bootdoc.Base(getenv); err == nil {
		dirs = append(dirs, filepath.Join(base, ".state"))
	}
	return dirs
}

// userState is the user's own, on all machines that share the home directory.
func userState(getenv func(string) string) (dir string, ok bool) {
	if d := getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "maniple"), true
	}
	home := getenv("HOME")
	return filepath.Join(home, ".local", "state", "maniple"), filepath.IsAbs(home)
}

// makePrivateBelow makes dir: parents above state as the system makes them, state and all below 0700.
func makePrivateBelow(dir, state string) error {
	if err := os.MkdirAll(filepath.Dir(state), 0o700); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	return bootdoc.MakePrivate(dir, filepath.Dir(state))
}
