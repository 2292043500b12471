package uds

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
)

// MaxFiles is how many descriptors go with one frame.
const MaxFiles = 64

// Pair makes a connected pair of stream sockets, close-on-exec, for a parent and the child that
// inherits the second (exec.Cmd.ExtraFiles).
func Pair() (parent, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("uds: pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pair parent"), os.NewFile(uintptr(fds[1]), "pair child"), nil
}

// FDConn sends and receives frames with descriptors over one end of a Pair. Send may be called from
// several goroutines; Recv from one. It has no goroutine of its own.
type FDConn struct {
	nc *net.UnixConn

	mu    sync.Mutex // orders senders
	frame []byte

	oob  []byte
	next uint32 // message number, for senders; guarded by mu
}

// NewFDConn takes over f, which it closes.
func NewFDConn(f *os.File) (*FDConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("uds: %s: %w", f.Name(), err)
	}
	nc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("uds: %s is no unix socket", f.Name())
	}
	return &FDConn{nc: nc, oob: make([]byte, unix.CmsgSpace(4*MaxFiles))}, nil
}

// Send writes one message with descriptors, which the caller keeps and may close afterwards. It
// blocks while the peer does not read. After an error the connection
// is of no use, since a part of the message may have been written.
func (c *FDConn) Send(m wire.Message, corr uint64, payload []byte, files ...*os.File) error {
	body, err := wire.Marshal(nil, m)
	if err != nil {
		return fmt.Errorf("uds: send: %w", err)
	}
	t := wire.TypeOf(m)
	switch {
	case len(body)+len(payload) > wire.MaxMessage:
		return fmt.Errorf("uds: send %s: %w", t, transport.ErrTooLarge)
	case len(files) > MaxFiles:
		return fmt.Errorf("uds: send %s: %d descriptors, at most %d go with a message", t, len(files), MaxFiles)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			raw, err := f.SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) { fds[i] = int(fd) })
			}
			if err != nil {
				return fmt.Errorf("uds: send %s: descriptor %d: %w", t, i, err)
			}
		}
		oob = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	h := wire.Header{Type: t, Class: wire.ClassOf(t), Message: c.next, Corr: corr}
	for first := true; first || len(body)+len(payload) > 0; first = false {
		nb := min(len(body), wire.MaxFragment)
		np := min(len(payload), wire.MaxFragment-nb)
		h.Length, h.Body, h.Flags = uint32(nb+np), uint32(nb), 0
		if nb < len(body) || np < len(payload) {
			h.Flags = wire.FlagMore
		}
		c.frame = append(c.frame[:0], make([]byte, wire.HeaderSize)...)
		wire.PutHeader(c.frame, h)
		c.frame = append(append(c.frame, body[:nb]...), payload[:np]...)
		if err := c.write(c.frame, oob); err != nil {
			return fmt.Errorf("uds: send %s: %w", t, err)
		}
		body, payload, oob = body[nb:], payload[np:], nil
	}
	if cap(c.frame) > 8<<10 {
		c.frame = nil
	}
	return nil
}

// write sends all of b, and oob with its first byte.
func (c *FDConn) write(b, oob []byte) error {
	if len(oob) > 0 {
		n, _, err := c.nc.WriteMsgUnix(b, oob, nil)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if len(b) == 0 {
		return nil
	}
	_, err := c.nc.Write(b)
	return err
}

// Recv reads one message; the descriptors belong to the caller. io.EOF: the peer is gone. After any
// error the connection is of no use.
func (c *FDConn) Recv() (m transport.Msg, files []*os.File, err error) {
	defer func() {
		if err != nil { // UDS-2
			for _, f := range files {
				f.Close()
			}
			m, files = transport.Msg{}, nil
		}
	}()
	var first wire.Header
	var body, payload []byte
	for i := 0; ; i++ {
		h, more, err := c.recvHeader(i == 0)
		files = append(files, more...)
		if err != nil {
			if i > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return m, files, err
		}
		if i == 0 {
			first = h
		}
		switch {
		case h.Type != first.Type || h.Message != first.Message || h.Corr != first.Corr || h.Seq != 0,
			i > 0 && h.Length == 0, len(payload) > 0 && h.Body > 0:
			return m, files, fmt.Errorf("uds: recv: %w: fragment of %s, message %d, in %s, message %d", transport.ErrProtocol, h.Type, h.Message, first.Type, first.Message)
		case len(body)+len(payload)+int(h.Length) > wire.MaxMessage:
			return m, files, fmt.Errorf("uds: recv: %w: %s of more than %d bytes", transport.ErrProtocol, h.Type, wire.MaxMessage)
		}
		n := len(body)
		body = append(body, make([]byte, h.Body)...)
		p := len(payload)
		payload = append(payload, make([]byte, h.Length-h.Body)...)
		for _, part := range [][]byte{body[n:], payload[p:]} {
			if _, err := io.ReadFull(c.nc, part); err != nil {
				return m, files, fmt.Errorf("uds: recv: %w", noEOF(err))
			}
		}
		if !h.More() {
			break
		}
	}
	msg, err := wire.Unmarshal(first.Type, body)
	if err != nil {
		return m, files, fmt.Errorf("uds: recv: %w: %w", transport.ErrProtocol, err)
	}
	if len(payload) == 0 {
		payload = nil
	}
	return transport.Msg{M: msg, Corr: first.Corr, Payload: payload}, files, nil
}

// recvHeader reads exactly a header. Descriptors come with its first byte, and the kernel never
// joins bytes across a message that carries some.
func (c *FDConn) recvHeader(first bool) (wire.Header, []*os.File, error) {
	var b [wire.HeaderSize]byte
	var files []*os.File
	for n := 0; n < len(b); {
		k, oobn, flags, _, err := c.nc.ReadMsgUnix(b[n:], c.oob)
		if oobn > 0 {
			got, perr := Rights(c.oob[:oobn])
			files = append(files, got...)
			if perr == nil && (flags&unix.MSG_CTRUNC != 0 || !first || n > 0) {
				perr = fmt.Errorf("%w: descriptors where none belong, or too many", transport.ErrProtocol)
			}
			if perr != nil {
				return wire.Header{}, files, fmt.Errorf("uds: recv: %w", perr)
			}
		}
		n += k
		if err == nil && k == 0 || errors.Is(err, io.EOF) {
			err = io.EOF
		}
		if err != nil {
			if n > 0 {
				err = noEOF(err)
			}
			if err != io.EOF {
				err = fmt.Errorf("uds: recv: %w", err)
			}
			return wire.Header{}, files, err
		}
	}
	h, err := wire.ParseHeader(b[:])
	if err != nil {
		err = fmt.Errorf("uds: recv: %w: %w", transport.ErrProtocol, err)
	}
	return h, files, err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Rights gives the descriptors in the control part of what was received. With an error, too, those that it
// gives are the caller's to close.
func Rights(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, e := unix.ParseUnixRights(&msgs[i])
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, err
}

// SetReadDeadline bounds Recv.
func (c *FDConn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// Close closes the socket; a Recv that waits returns.
func (c *FDConn) Close() error { return c.nc.Close() }
