package sweep

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Place is where process numbers mean the same processes.
type Place struct {
	Boot string `json:"boot,omitempty"` // the host, since it was started
	PIDs uint64 `json:"pids,omitempty"` // the pid namespace
}

// here is the place of this process, the zero Place if the kernel does not tell.
func here() Place {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var ns unix.Stat_t
	if err = errors.Join(err, unix.Stat("/proc/self/ns/pid", &ns)); err != nil {
		return Place{}
	}
	return Place{Boot: strings.TrimSpace(string(boot)), PIDs: ns.Ino}
}

// Leftovers does away with what dead keepers of this user left on this node: below base, the directories
// of nodes that no keeper holds, and the processes that bear the marks of those nodes. told hears of each
// that was found, and how many processes it had.
func Leftovers(base string, told func(dir string, ended int, err error)) {
	at := here()
	if at == (Place{}) || bootdoc.CheckLocal(base) != nil {
		return
	}
	for _, cluster := range private(base) {
		for _, dir := range private(cluster) {
			if found, ended, err := leftover(dir, at); found {
				told(dir, ended, err)
			}
		}
	}
}

// private lists the directories in dir that only this user could have made.
func private(dir string) (paths []string) {
	entries, _ := os.ReadDir(dir) // one that is gone has none
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); bootdoc.CheckPrivate(path) == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// leftover judges and acts under the directory's lock, which a keeper takes before anything else and has
// for its life: SWEEP-4. Before it only looks, not to hold up a keeper that wants the lock.
func leftover(dir string, at Place) (found bool, ended int, err error) {
	if _, dead := deadKeeper(dir, at); !dead {
		return false, 0, nil
	}
	lock, err := Lock(dir)
	if err != nil {
		return false, 0, nil // somebody's by now, or gone
	}
	defer lock.Close()
	k, dead := deadKeeper(dir, at)
	if !dead {
		return false, 0, nil
	}
	if ended, err = k.End(); err == nil {
		err = remove(dir)
	}
	return true, ended, err
}

// deadKeeper tells whether keeper.json in dir is that of a dead keeper of this place. One from which this
// process comes itself, with all who called it, does not count.
func deadKeeper(dir string, at Place) (Keeper, bool) {
	k, err := ReadKeeper(dir)
	own, _ := ReadMark(os.Getpid())
	return k, err == nil && k.NodeKey != "" && k.NodeKey != own.NodeKey && k.Place == at && !k.Alive()
}
