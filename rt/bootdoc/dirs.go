package bootdoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// File names inside a node's directory.
const (
	SocketName  = "agent.sock"
	KeeperName  = "keeper.json"
	JournalName = "head.journal"
)

// DirVariable tells a program the directory of its node, Node.Dir, where there is one.
const DirVariable = "MANIPLE_NODE_DIR"

// Network and cluster file systems, by the magic numbers of statfs(2): no sockets there, and not node-local.
var shared = map[int64]string{
	0x6969: "NFS", 0x0BD00BD0: "Lustre", 0x47504653: "GPFS", 0x19830326: "BeeGFS", 0xFF534D42: "CIFS",
	0xFE534D42: "SMB2", 0x65735546: "FUSE", 0x00C36400: "Ceph", 0xAAD7AAEA: "PanFS",
}

// Base is the directory under which every cluster of this user on this node has its own: the first of
// $SLURM_TMPDIR, $TMPDIR and /tmp that exists, can be written and is local, with maniple-UID under it.
func Base(getenv func(string) string) (string, error) {
	var why []string
	for _, parent := range []string{getenv("SLURM_TMPDIR"), getenv("TMPDIR"), "/tmp"} {
		if parent == "" {
			continue
		}
		if err := usable(parent); err != nil {
			why = append(why, err.Error())
			continue
		}
		return filepath.Join(parent, fmt.Sprintf("maniple-%d", os.Getuid())), nil
	}
	return "", fmt.Errorf("bootdoc: no directory for this node's files (%s); set TMPDIR to one that is local, exists and is yours", strings.Join(why, "; "))
}

func usable(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return CheckLocal(dir)
}

// CheckLocal refuses a directory that other nodes have too.
func CheckLocal(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if name, bad := shared[int64(st.Type)]; bad {
		return fmt.Errorf("%s is on %s, which is not local to the node", dir, name)
	}
	return nil
}

// ClusterDir is the cluster's directory on a node, NodeDir that of one node in it.
func (d *Doc) ClusterDir(getenv func(string) string) (string, error) {
	base := d.Base
	if base == "" {
		var err error
		if base, err = Base(getenv); err != nil {
			return "", err
		}
	}
	return filepath.Join(base, d.Name), nil
}

// NodeDir is the directory of the node called name.
func (d *Doc) NodeDir(getenv func(string) string, name string) (string, error) {
	dir, err := d.ClusterDir(getenv)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// MakeNodeDir makes the directory of the node called name, with what is missing above it, and gives
// its path. Base, where the document names one, is taken as it is.
func (d *Doc) MakeNodeDir(getenv func(string) string, name string) (string, error) {
	dir, err := d.NodeDir(getenv, name)
	if err != nil {
		return "", err
	}
	under := d.Base
	if under == "" {
		under = filepath.Dir(filepath.Dir(filepath.Dir(dir)))
	} else if err := os.MkdirAll(under, 0o700); err != nil {
		return "", fmt.Errorf("bootdoc: %w", err)
	}
	return dir, MakePrivate(dir, under)
}

// RemoveEmpty removes a cluster's directory unless others use it, and then the user's above it, which the
// last one to go takes along. Who starts meanwhile makes them again: see MakePrivate.
func RemoveEmpty(cluster string) {
	if err := os.Remove(cluster); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // not empty, as a rule
	}
	if base := filepath.Dir(cluster); strings.HasPrefix(filepath.Base(base), "maniple-") {
		_ = os.Remove(base)
	}
}

// Withdraw removes the file with a cluster's address, unless another cluster has written there since, and
// those of its four directories that are empty then: the cluster's, its kind's, jobs, and the state directory.
func Withdraw(file, cluster string) {
	var endpoint struct {
		Cluster string `json:"cluster"`
	}
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &endpoint) != nil || endpoint.Cluster != cluster {
		return
	}
	_ = os.Remove(file)
	Tidy(file)
}

// Tidy removes those directories of an endpoint's file that are empty.
func Tidy(file string) {
	for range 3 {
		file = filepath.Dir(file)
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	RemoveEmpty(filepath.Dir(file)) // where no home can be written it is in the node's own directory
}

// MakePrivate makes dir and those of its parents that are missing, mode 0700, and refuses any that
// exist but are a link, belong to another user or are open to others, from `under` downwards.
func MakePrivate(dir, under string) error {
	rel, err := filepath.Rel(under, dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return fmt.Errorf("bootdoc: %s is not under %s", dir, under)
	}
	// A node that ends removes the directories above its own when they are empty, between two steps
	// of ours too: then the whole way is walked again.
	for range 100 {
		if err = makePrivate(under, rel); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func makePrivate(path, rel string) error {
	for _, part := range strings.Split(rel, string(filepath.Separator)) {
		path = filepath.Join(path, part)
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("bootdoc: %w", err)
		}
		if err := CheckPrivate(path); err != nil {
			return err
		}
	}
	return nil
}

// CheckPrivate refuses a directory that another user could have put there or could look into.
func CheckPrivate(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("bootdoc: %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("bootdoc: %s is not a directory: somebody put it there; remove it or set TMPDIR", path)
	case int(st.Uid) != os.Getuid():
		return &ForeignError{Path: path, Owner: st.Uid}
	case st.Mode&0o077 != 0:
		return fmt.Errorf("bootdoc: %s is open to others (mode %o): chmod 700 it", path, st.Mode&0o777)
	}
	return nil
}

// ForeignError: a directory that should be ours is another user's.
type ForeignError struct {
	Path  string
	Owner uint32
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("bootdoc: %s belongs to user %d, not to you (%d): set TMPDIR to a directory of your own", e.Path, e.Owner, os.Getuid())
}
