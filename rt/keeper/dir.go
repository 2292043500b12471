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
	tended  time.Time
	touched time.Time
}

// heldTime is how long a keeper waits for the agent of a dead one to finish sweeping the directory. One that hosts no head waits
// longer: of two clusters of one name that are brought up at once the one that has the head's node stays, whoever was first on
// the others, and the keepers of the other one have ended by then.
const heldTime, heldElsewhere = 3 * time.Second, 8 * time.Second

// openDirectory makes the node's directory, or takes over that of a dead keeper of this user once its
// processes are ended.
func openDirectory(doc *bootdoc.Doc, name string, wait time.Duration) (d directory, err error) {
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		if d.path, err = doc.MakeNodeDir(os.Getenv, name); err != nil {
			return d, explainDir(err)
		}
		if d.lock, err = sweep.Lock(d.path); err == nil {
			break
		}
		// Removed between our two steps: make it again.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, sweep.ErrHeld) {
			return d, explainDir(err)
		}
		if time.Now().After(deadline) {
			other, _ := sweep.ReadKeeper(d.path)
			return d, &fault{"CLUSTER_UP", exitCreate, fmt.Errorf("keeper: node %s of cluster %s is kept by process %d already (%s); give the cluster or the node another name", name, doc.Name, other.PID, d.path)}
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

// clear ends what the keeper that had the directory left, and empties it.
func (d *directory) clear() error {
	if dead, err := sweep.ReadKeeper(d.path); err == nil {
		if _, err := dead.End(); err != nil {
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
	self, err := sweep.Self(key, port)
	if err != nil {
		return err
	}
	data, err := json.Marshal(self)
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

// How often the directory is looked after, and how much a log may hold: the disk is the programs'.
const (
	tendTime  = time.Minute
	touchTime = 12 * time.Hour
	logLimit  = 32 << 20
	logKept   = 1 << 20
)

// tend does what time brings: logs are cut, and cleaners of /tmp, which remove what is days old, kept
// away. It gives the time of the next call.
func (d *directory) tend(now time.Time) time.Time {
	if next := d.tended.Add(tendTime); now.Before(next) {
		return next
	}
	d.tended = now
	for _, name := range []string{"agent.log", "head.log", "keeper.log"} {
		if err := cutLog(filepath.Join(d.path, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			fmt.Fprintln(d.log, "cut the log:", err)
		}
	}
	if now.Sub(d.touched) >= touchTime {
		d.touched = now
		for _, path := range []string{filepath.Dir(d.path), d.path, filepath.Join(d.path, bootdoc.SocketName), filepath.Join(d.path, bootdoc.KeeperName)} {
			_ = os.Chtimes(path, now, now)
		}
	}
	return now.Add(tendTime)
}

// cutLog puts the end of a log that has grown too large aside and empties it. Its writers append, so they
// go on at the new end.
func cutLog(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= logLimit {
		return err
	}
	tail := make([]byte, logKept)
	n, err := f.ReadAt(tail, info.Size()-logKept)
	if err != nil && n == 0 {
		return err
	}
	return errors.Join(os.WriteFile(path+".1", tail[:n], 0o600), f.Truncate(0))
}

// remove takes the directory away, claimed or not.
func (d *directory) remove(key string) {
	if _, err := os.Lstat(filepath.Join(d.path, bootdoc.KeeperName)); err != nil {
		_ = os.RemoveAll(d.path)
		bootdoc.RemoveEmpty(filepath.Dir(d.path))
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

// explainDir gives the usual reasons the names and codes that users know them by, and says what to do.
func explainDir(err error) error {
	f, foreign := new(fault), new(bootdoc.ForeignError)
	name, code, what := "CANNOT_CREATE", exitCreate, "set TMPDIR to a local directory of your own"
	switch {
	case errors.As(err, &f):
		return err
	case errors.As(err, &foreign):
		return &fault{"REFUSED", exitRefused, fmt.Errorf("keeper: the node's directory: %w", err)}
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		name, what = "DISK_FULL", "no space or no inode is left there, or your quota is spent: free some, or set TMPDIR to another local directory"
	case errors.Is(err, unix.EROFS):
		what = "it is read-only: set TMPDIR to a local directory that can be written"
	case errors.Is(err, unix.ENAMETOOLONG):
		what = "shorten the name of the cluster or of the node"
	}
	return &fault{name, code, fmt.Errorf("keeper: the node's directory: %w; %s", err, what)}
}

func newKey() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("keeper: random bytes: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
