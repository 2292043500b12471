package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// backlog of the node's sockets: a thousand agents may call on the head in the same moment.
const backlog = 4096

// listenTCP binds the node's one port. Exclusively: with SO_REUSEADDR it could take a port that another
// user's keeper holds for a rank.
func listenTCP(doc *bootdoc.Doc) (net.Listener, int, error) {
	fd, port, err := bindAny(doc.PortRange[0], doc.PortRange[1], doc.Loopback)
	if err != nil {
		return nil, 0, fmt.Errorf("keeper: the node's port: %w", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		return nil, 0, fmt.Errorf("keeper: listen on port %d: %w", port, err)
	}
	f := os.NewFile(uintptr(fd), "port")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, 0, fmt.Errorf("keeper: listen on port %d: %w", port, err)
	}
	return l, port, nil
}

func listenUnix(path string) (net.Listener, error) {
	l, err := uds.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("keeper: the node's socket: %w", err)
	}
	return l, nil
}

// fileConn is a connection whose descriptor can be had.
type fileConn interface {
	net.Conn
	File() (*os.File, error)
}

// serve starts the goroutines that accept; closing the listeners ends them.
func (k *keeper) serve() {
	half := &halfOpen{conns: make(map[net.Conn]uint64)}
	k.readers.Add(2)
	go func() {
		defer k.readers.Done()
		k.accept(k.tcp, func(conn fileConn) {
			half.add(conn)
			k.readers.Add(1)
			go func() {
				defer k.readers.Done()
				k.preamble(conn, half)
			}()
		})
		half.closeAll()
	}()
	go func() {
		defer k.readers.Done()
		k.accept(k.unix, func(conn fileConn) {
			if err := sameUser(conn); err != nil {
				k.log.Warn("connection on the node's socket refused", "error", err)
				conn.Close()
				return
			}
			k.handOver(conn, &fb.KeeperConnT{Role: fb.RoleAgent, Unix: true})
		})
	}()
}

func (k *keeper) accept(l net.Listener, serve func(fileConn)) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor or memory: what waits in the backlog is not lost
			k.log.Warn("accept", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-k.done:
				return
			}
			continue
		}
		serve(conn.(fileConn))
	}
}

// preamble reads what a connection wants and hands it on. Strangers are dropped without an answer.
func (k *keeper) preamble(conn fileConn, half *halfOpen) {
	_ = conn.SetReadDeadline(time.Now().Add(helloTime))
	p, err := transport.ReadPreamble(conn)
	if !half.remove(conn) {
		err = errors.New("keeper: given up for newer ones that said nothing yet either")
	}
	if err != nil {
		k.log.Warn("connection from outside dropped", "from", conn.RemoteAddr().String(), "error", err)
		conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	k.handOver(conn, &fb.KeeperConnT{Role: p.Role, Purpose: p.Purpose})
}

// handOver gives a connection's descriptor to the loop, for the daemon that it wants.
func (k *keeper) handOver(conn fileConn, what *fb.KeeperConnT) {
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		k.log.Warn("connection dropped", "error", err)
		return
	}
	if !k.post(func() { k.connected(f, what) }) {
		f.Close()
	}
}

func (k *keeper) connected(f *os.File, what *fb.KeeperConnT) {
	d := k.agent
	if what.Role == fb.RoleHead {
		d = k.head
	}
	if d == nil || k.stop != nil {
		k.log.Warn("connection dropped: it wants the head, which is not here, or the node ends")
		f.Close()
		return
	}
	d.connect(f, what)
}

// sameUser proves that the peer of a unix socket is this user, or root, who can look in anyway.
func sameUser(conn fileConn) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
		return fmt.Errorf("keeper: process %d is user %d, not %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}

// halfOpen are the connections that have not said what they want, by age. A stranger who opens many
// drives out the oldest, who have had their time: ours write their eight bytes at once.
type halfOpen struct {
	mu    sync.Mutex
	next  uint64
	conns map[net.Conn]uint64
}

func (h *halfOpen) add(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.conns) >= maxHalfOpen {
		var oldest net.Conn
		for c, n := range h.conns {
			if oldest == nil || n < h.conns[oldest] {
				oldest = c
			}
		}
		delete(h.conns, oldest)
		oldest.Close()
	}
	h.next++
	h.conns[conn] = h.next
}

// remove tells whether conn was still there.
func (h *halfOpen) remove(conn net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.conns[conn]
	delete(h.conns, conn)
	return ok
}

func (h *halfOpen) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
	clear(h.conns)
}
