package work

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
)

// maxFiles is how many descriptors one read may bring. The kernel ends a read after bytes that carry some, so
// an honest peer's come one by one.
const maxFiles = 4

// unixFiles is the side of a carrier that passes descriptors.
type unixFiles struct {
	conn unixConn
	oob  []byte // the reader's

	raw   syscall.RawConn              // for writeNow, of which the Conn's lock guards what follows
	now   []byte                       // what is to be written
	wrote int                          // how much of it was
	try   func(fd uintptr) (done bool) // made once: a call allocates nothing
}

type unixConn interface {
	net.Conn
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
	WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
	SyscallConn() (syscall.RawConn, error)
}

func newUnixFiles(nc net.Conn) *unixFiles {
	conn, ok := nc.(unixConn)
	if !ok {
		return nil
	}
	u := &unixFiles{conn: conn, oob: make([]byte, unix.CmsgSpace(4*maxFiles))}
	u.raw, _ = conn.SyscallConn() // else all is the writer's, which says what is wrong
	u.try = func(fd uintptr) bool {
		u.wrote, _ = unix.Write(int(fd), u.now)
		return true // also if the socket is full
	}
	return u
}

// writeNow writes as much of b as the socket has room for. Errors are left to whoever writes the rest.
func (u *unixFiles) writeNow(b []byte) int {
	if u.raw == nil {
		return 0
	}
	u.now, u.wrote = b, 0
	err := u.raw.Write(u.try)
	u.now = nil
	if err != nil {
		return 0
	}
	return max(u.wrote, 0)
}

// read reads once, and appends the descriptors that came along to files.
func (u *unixFiles) read(b []byte, files *[]*os.File) (int, error) {
	n, oobn, flags, _, err := u.conn.ReadMsgUnix(b, u.oob)
	n = max(n, 0) // -1 with some errors
	if e := takeFiles(u.oob[:oobn], flags, files); e != nil {
		return n, e
	}
	if n == 0 && err == nil || errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}

// takeFiles appends the descriptors that came with a read.
func takeFiles(oob []byte, flags int, files *[]*os.File) error {
	if len(oob) == 0 {
		return nil
	}
	got, err := uds.Rights(oob)
	*files = append(*files, got...)
	if err != nil || flags&unix.MSG_CTRUNC != 0 || len(*files) > maxFiles {
		return fmt.Errorf("%w: too many descriptors", transport.ErrProtocol)
	}
	return nil
}

// write writes some of b, with f along with its first byte.
func (u *unixFiles) write(b []byte, f *os.File) (int, error) {
	n := 0
	err := control(f, func(fd int) (err error) {
		n, _, err = u.conn.WriteMsgUnix(b, unix.UnixRights(fd), nil)
		return err
	})
	return n, err
}

// dup gives a descriptor of the same file, close-on-exec.
func dup(f *os.File) (*os.File, error) {
	var own *os.File
	err := control(f, func(fd int) error {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			own = os.NewFile(uintptr(n), f.Name())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("work: descriptor: %w", err)
	}
	return own, nil
}

// control calls use with the descriptor of f, which stays open meanwhile.
func control(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var useErr error
	if err := raw.Control(func(fd uintptr) { useErr = use(int(fd)) }); err != nil {
		return err
	}
	return useErr
}
