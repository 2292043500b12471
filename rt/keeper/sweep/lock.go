package sweep

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrHeld: another living process holds the directory.
var ErrHeld = errors.New("sweep: the directory is held by a living keeper")

// Lock takes a node's directory for this process until the file is closed. The kernel lets go of it
// when the process dies, in whatever pid namespace it ran; one that is only stopped keeps it. A directory
// that was removed meanwhile is os.ErrNotExist, also if there is another one in its place.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == unix.EWOULDBLOCK:
		err = fmt.Errorf("%s: %w", dir, ErrHeld)
	case err != nil:
		err = fmt.Errorf("sweep: lock %s: %w", dir, err)
	case !leadsTo(dir, f):
		err = fmt.Errorf("sweep: %s: %w", dir, os.ErrNotExist)
	default:
		return f, nil
	}
	_ = f.Close()
	return nil, err
}

// leadsTo tells whether path still names the file that is open.
func leadsTo(path string, open *os.File) bool {
	a, err := open.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}
