package work

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errAgain: there is nothing to read now.
var errAgain = errors.New("work: nothing to read")

// polled is a unix socket that a Poll looks after and Go's poller does not. What does not wait is asked of the kernel
// without the scheduler's notice: it takes microseconds, and the thread keeps its processor.
type polled struct {
	poll    *Poll
	fd      int
	watched uint32        // by the Poll, which guards it
	room    chan struct{} // there may be some to write; capacity 1
	cut     chan struct{} // closed by Close
	late    chan struct{} // closed when the time to write is over
	once    sync.Once
	timer   *time.Timer

	message unix.Msghdr // the reader's
	part    unix.Iovec
	oob     []byte
}

// newPolled takes a connection over; nil if it can't. Go's poller would go on looking after its descriptor, so it gets
// another one.
func newPolled(p *Poll, nc net.Conn) *polled {
	conn, ok := nc.(unixConn)
	if p == nil || !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	_ = raw.Control(func(old uintptr) { fd, _ = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if fd < 0 {
		return nil
	}
	nc.Close()
	return &polled{poll: p, fd: fd, room: make(chan struct{}, 1), cut: make(chan struct{}), late: make(chan struct{}), oob: make([]byte, unix.CmsgSpace(4*maxFiles))}
}

// read reads once; errAgain if there is nothing.
func (s *polled) read(b []byte, files *[]*os.File) (int, error) {
	for {
		s.part.Base = &b[0]
		s.part.SetLen(len(b))
		s.message = unix.Msghdr{Iov: &s.part, Control: &s.oob[0]}
		s.message.SetIovlen(1)
		s.message.SetControllen(len(s.oob))
		n, _, e := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.message)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		s.part.Base = nil
		switch {
		case e == unix.EINTR:
			continue
		case e == unix.EAGAIN:
			return 0, errAgain
		case e != 0:
			return 0, os.NewSyscallError("recvmsg", e)
		}
		err := takeFiles(s.oob[:s.message.Controllen], int(s.message.Flags), files)
		if n == 0 && err == nil {
			err = io.EOF
		}
		return int(n), err
	}
}

func (s *polled) writeNow(b []byte) int {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			return int(n)
		case unix.EINTR:
		default:
			return 0
		}
	}
}

// write writes some of b, with f along with its first byte. It waits for room.
func (s *polled) write(b []byte, f *os.File) (int, error) {
	n := 0
	err := control(f, func(fd int) (err error) {
		n, err = s.send(b, unix.UnixRights(fd))
		return err
	})
	return n, err
}

// Write writes all of b.
func (s *polled) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := s.send(b[done:], nil)
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (s *polled) send(b, oob []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(s.fd, b, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			return 0, os.NewSyscallError("sendmsg", err)
		}
		if err := s.poll.watch(s, unix.EPOLLOUT, true); err != nil {
			return 0, os.NewSyscallError("epoll_ctl", err)
		}
		select {
		case <-s.room:
		case <-s.cut:
			return 0, net.ErrClosed
		case <-s.late:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// SetWriteDeadline is called once at most.
func (s *polled) SetWriteDeadline(t time.Time) error {
	s.timer = time.AfterFunc(time.Until(t), func() { close(s.late) })
	return nil
}

// Read is not the way to read: the Poll says when.
func (s *polled) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Close ends the connection for its peer and for a write that waits; the descriptor stays until over.
func (s *polled) Close() error {
	s.once.Do(func() {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
		close(s.cut)
	})
	return nil
}

// over gives the descriptor back, when nobody uses it any more.
func (s *polled) over() {
	if s.timer != nil {
		s.timer.Stop()
	}
	unix.Close(s.fd)
}
