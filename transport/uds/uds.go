// Package uds carries connections inside a node: unix sockets whose peer is proved by the kernel,
// and socketpairs between a keeper and its children that pass descriptors along with frames.
//
// Listen and Dial take paths of any length: what does not fit the kernel's 107 bytes is reached
// through /proc/self/fd of its directory.
//
//	UDS-1: a connection of another user is refused before a byte of it is read.
//	UDS-2: descriptors arrive with the frame that they were sent with, close-on-exec, and never leak:
//	       Recv gives them all to its caller, or closes them.
package uds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
)

// maxPath is sun_path less its zero byte.
const maxPath = 107

// Listen listens at path, which may be longer than the kernel's 107 bytes. The file gets mode 0600.
// A socket file left by a dead process is replaced; a live one is an error.
func Listen(path string) (*net.UnixListener, error) {
	dir, short, err := shorten(path)
	if err != nil {
		return nil, fmt.Errorf("uds: listen: %w", err)
	}
	defer dir.Close()
	addr := &net.UnixAddr{Name: short, Net: "unix"}
	ln, err := net.ListenUnix("unix", addr)
	if errors.Is(err, unix.EADDRINUSE) && stale(path, addr) {
		if err = os.Remove(path); err == nil {
			ln, err = net.ListenUnix("unix", addr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("uds: listen at %s: %w", path, err)
	}
	// The listener would unlink the short name, which is gone by then, or means another directory.
	ln.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("uds: listen: %w", err)
	}
	return ln, nil
}

// stale tells whether path is a socket that nobody listens on.
func stale(path string, addr *net.UnixAddr) bool {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode()&os.ModeSocket == 0 {
		return false
	}
	c, err := net.DialUnix("unix", nil, addr)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

// shorten opens the directory of path and gives a name for path that fits the kernel, good while
// the directory is open.
func shorten(path string) (dir *os.File, short string, err error) {
	dir, err = os.Open(filepath.Dir(path))
	if err != nil {
		return nil, "", err
	}
	if len(path) <= maxPath {
		return dir, path, nil
	}
	short = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path)
	if len(short) > maxPath {
		dir.Close()
		return nil, "", fmt.Errorf("file name %q is too long for a socket; use a shorter one", filepath.Base(path))
	}
	return dir, short, nil
}

// Dial connects to path, of any length, and proves that the other side is this user's or root's.
func Dial(ctx context.Context, path string) (transport.Conn, error) {
	nc, err := DialStream(ctx, path)
	if err != nil {
		return nil, err
	}
	return Server(nc)
}

// DialStream connects to path, of any length, and proves nothing: for sockets in directories of this user's own.
func DialStream(ctx context.Context, path string) (*net.UnixConn, error) {
	dir, short, err := shorten(path)
	if err != nil {
		return nil, fmt.Errorf("uds: dial: %w", err)
	}
	defer dir.Close()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", short)
	if err != nil {
		return nil, fmt.Errorf("uds: dial %s: %w", path, err)
	}
	return nc.(*net.UnixConn), nil
}

// Server proves that the peer of an accepted connection is this user or root. On error nc is closed.
func Server(nc *net.UnixConn) (transport.Conn, error) {
	uid, err := peerUID(nc)
	if err == nil && uid != os.Getuid() && uid != 0 {
		err = fmt.Errorf("peer is user %d, this process is of user %d", uid, os.Getuid()) // UDS-1
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("uds: %w", err)
	}
	return &conn{nc, uid}, nil
}

func peerUID(nc *net.UnixConn) (int, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return -1, fmt.Errorf("peer credentials: %w", err)
	}
	return int(cred.Uid), nil
}

// conn is a unix socket whose peer is proved.
type conn struct {
	*net.UnixConn
	uid int
}

func (c *conn) Peer() transport.Peer {
	return transport.Peer{UID: c.uid, Addr: "unix, user " + strconv.Itoa(c.uid)}
}

// WriteBuffers writes with writev.
func (c *conn) WriteBuffers(b *net.Buffers) (int64, error) { return b.WriteTo(c.UnixConn) }
