package tcp

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection under TLS. What does not wait is asked of the kernel without the notice of Go's scheduler,
// which would wake its watchdog for it, a thread that then looks around every 20 us: for a message now and then that
// costs more than the message. What has to wait waits as always.
//
// Between cork and uncork what TLS writes is kept, and uncork writes of it what the kernel takes at once.
type socket struct {
	*net.TCPConn
	raw syscall.RawConn

	in  transfer // the reader's, of whom there is one
	mu  sync.Mutex
	out transfer // guarded by mu, as all that follows
	// held was written while corked, and the kernel has not taken it yet: the next write takes it along.
	held   []byte
	corked bool
}

// transfer is one read or write under way, with the step that does it, made once.
type transfer struct {
	bytes []byte
	n     int
	err   error
	step  func(fd uintptr) bool
	once  func(fd uintptr) bool // step, but that nobody waits
}

// maxHeld is the room that is kept for what is written while corked.
const maxHeld = 8 << 10

// rooms are for what together keeps: a piece, and what TLS adds to its records.
var rooms = sync.Pool{New: func() any { b := make([]byte, 0, writePiece+writePiece/64); return &b }}

func newSocket(nc *net.TCPConn) (*socket, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{TCPConn: nc, raw: raw}
	s.in.step = func(fd uintptr) bool { return s.in.now(fd, unix.SYS_RECVFROM, unix.MSG_DONTWAIT, "recvfrom") }
	s.out.step = func(fd uintptr) bool {
		return s.out.now(fd, unix.SYS_SENDTO, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, "sendto")
	}
	s.out.once = func(fd uintptr) bool { s.out.step(fd); return true }
	return s, nil
}

// now asks the kernel once; false: it would have to wait.
func (t *transfer) now(fd, call, flags uintptr, name string) bool {
	for {
		t.n, t.err = 0, nil
		n, _, e := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&t.bytes[0])), uintptr(len(t.bytes)), flags, 0, 0)
		switch e {
		case 0:
			t.n = int(n)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			t.err = os.NewSyscallError(name, e)
		}
		return true
	}
}

// Read reads what is there, and waits for something.
func (s *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in.bytes = b
	err := s.raw.Read(s.in.step)
	s.in.bytes = nil
	if err == nil {
		err = s.in.err
	}
	if err != nil {
		return 0, err
	}
	if s.in.n == 0 {
		return 0, io.EOF
	}
	return s.in.n, nil
}

// Write writes all of b, behind what is held.
func (s *socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.corked {
		s.held = append(s.held, b...)
		return len(b), nil
	}
	if err := s.flushLocked(); err != nil {
		return 0, err
	}
	return s.sendLocked(b)
}

// sendLocked writes all of b, and waits for room.
func (s *socket) sendLocked(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		s.out.bytes = b[done:]
		err := s.raw.Write(s.out.step)
		s.out.bytes = nil
		if err == nil {
			err = s.out.err
		}
		if err != nil {
			return done, err
		}
		done += s.out.n
	}
	return done, nil
}

// flushLocked writes what is held, and waits for room.
func (s *socket) flushLocked() error {
	n, err := s.sendLocked(s.held)
	s.takeLocked(n)
	return err
}

// takeLocked forgets what was written of what is held.
func (s *socket) takeLocked(n int) {
	if s.held = s.held[:copy(s.held, s.held[n:])]; len(s.held) == 0 && cap(s.held) > maxHeld {
		s.held = nil
	}
}

// Flush writes what is held, and waits for room.
func (s *socket) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushLocked()
}

// together has all that do writes go to the kernel at once, and waits for room.
func (s *socket) together(do func() error) error {
	if err := s.Flush(); err != nil {
		return err
	}
	room := rooms.Get().(*[]byte)
	s.mu.Lock()
	s.held, s.corked = (*room)[:0], true
	s.mu.Unlock()
	err := do()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.held
	s.held, s.corked = nil, false
	if err == nil {
		_, err = s.sendLocked(all)
	}
	*room = all
	rooms.Put(room)
	return err
}

func (s *socket) cork() {
	s.mu.Lock()
	s.corked = true
	s.mu.Unlock()
}

// uncork writes of what is held what the kernel takes now; true: that is all.
func (s *socket) uncork() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.corked = false
	for len(s.held) > 0 {
		s.out.bytes = s.held
		err := s.raw.Write(s.out.once)
		s.out.bytes = nil
		if err == nil {
			err = s.out.err
		}
		if err != nil || s.out.n == 0 {
			return false, err
		}
		s.takeLocked(s.out.n)
	}
	return true, nil
}
