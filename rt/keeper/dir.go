package keeper

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
)

// directory is the node's own, held by a lock that the kernel drops with the process.
type directory struct {
	path    string
	lock    *os.File
	log     *os.File // keeper.log
	touched time.Time
}

// heldTime is how long a keeper waits for the agent of a dead one to finish sweeping the directory.
const heldTime = 3 * time.Second

// openDirectory makes the node's directory, or takes over that of a dead keeper of this user once its
// processes are ended.
func openDirectory(doc *bootdoc.Doc, name string) (d directory, err error) {
	for deadline := time.Now().Add(heldTime); ; time.Sleep(20 * time.Millisecond) {
		if d.path, err = doc.MakeNodeDir(os.Getenv, name); err != nil {
			return d, explainDir(err)
		}
		d.lock, err = sweep.Lock(d.path)
		if err == nil && samePlace(d.lock, d.path) {
			break
		}
		if d.lock != nil { // removed between our two steps: make it again
			d.lock.Close()
		} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, sweep.ErrHeld) {
			return d, explainDir(err)
		}
		if time.Now().After(deadline) {
			other, _ := sweep.ReadKeeper(d.path)
			return d, &fault{"DIR_BUSY", exitCreate, fmt.Errorf("keeper: node %s of cluster %s is kept by process %d already (%s); give the cluster or the node another name", name, doc.Name, other.PID, d.path)}
		}
	}
	if err = d.clear(); err == nil {
		d.log, err = os.OpenFile(filepath.Join(d.path, "keeper.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err != nil {
		d.remove("")
		d.close()
		return d, explainDir(err)
	}
	return d, nil
}

// samePlace tells whether path still leads to the directory that is locked.
func samePlace(lock *os.File, path string) bool {
	a, err := lock.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// clear ends what the keeper that had the directory left, and empties it.
func (d *directory) clear() error {
	if dead, err := sweep.ReadKeeper(d.path); err == nil {
		if _, err := sweep.Sweep(dead.NodeKey, ""); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(d.path, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// claim writes keeper.json: whose directory this is.
func (d *directory) claim(key string, port int) error {
	self, err := sweep.Read(os.Getpid())
	if err != nil {
		return fmt.Errorf("keeper: read own start time: %w", err)
	}
	data, err := json.Marshal(sweep.Keeper{PID: os.Getpid(), Started: self.Started, NodeKey: key, Port: port})
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, bootdoc.KeeperName)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return explainDir(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return explainDir(err)
	}
	return nil
}

// touch keeps cleaners of /tmp away, which remove what is days old.
func (d *directory) touch(now time.Time) {
	if now.Sub(d.touched) < 12*time.Hour {
		return
	}
	d.touched = now
	for _, path := range []string{filepath.Dir(d.path), d.path, filepath.Join(d.path, bootdoc.SocketName), filepath.Join(d.path, bootdoc.KeeperName)} {
		_ = os.Chtimes(path, now, now)
	}
}

// remove takes the directory away, claimed or not.
func (d *directory) remove(key string) {
	if _, err := os.Lstat(filepath.Join(d.path, bootdoc.KeeperName)); err != nil {
		_ = os.RemoveAll(d.path)
		_ = os.Remove(filepath.Dir(d.path))
		return
	}
	if err := sweep.RemoveDir(d.path, key); err != nil {
		fmt.Fprintln(os.Stderr, "maniple: the node's directory is left:", err)
	}
}

func (d *directory) close() {
	for _, f := range []*os.File{d.log, d.lock} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// explainDir says what to do about the usual reasons.
func explainDir(err error) error {
	f := new(fault)
	if errors.As(err, &f) {
		return err
	}
	what := "set TMPDIR to a local directory of your own"
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		what = "no space or no inode is left there, or your quota is spent: free some, or set TMPDIR to another local directory"
	case errors.Is(err, unix.EROFS):
		what = "it is read-only: set TMPDIR to a local directory that can be written"
	case errors.Is(err, unix.ENAMETOOLONG):
		what = "shorten the name of the cluster or of the node"
	}
	return &fault{"DIR", exitCreate, fmt.Errorf("keeper: the node's directory: %w; %s", err, what)}
}

func newKey() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("keeper: random bytes: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
