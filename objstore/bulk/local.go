package bulk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// ErrHandover: what was handed over can't be had, as where descriptors may not be passed on. By another connection it may be.
var ErrHandover = errors.New("bulk: what was handed over can't be had")

// Place is where the bytes of a Piece lie in shared memory, for one on the same machine to copy them from there.
type Place struct {
	File   *os.File // opened for reading only; nil: they can't be handed over. It stays its owner's
	Offset int64
}

// unixConn is a connection by which descriptors go along: of a unix socket.
type unixConn interface {
	net.Conn
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
	WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
}

const (
	placeSize = 8 // of what a Chunk says of a place
	oneRight  = 4 // bytes of a descriptor in a message
)

// handOver sends in place of a piece's bytes where they lie. They must stay there until the other side has taken them.
func handOver(conn unixConn, head []byte, p Piece) ([]byte, error) {
	head = appendChunk(head, fb.ChunkStateLie, p.Version, placeSize)
	head = binary.LittleEndian.AppendUint64(head, uint64(p.Lies.Offset))
	raw, err := p.Lies.File.SyscallConn()
	if err != nil {
		return head, err
	}
	n, sent := 0, error(nil)
	err = raw.Control(func(fd uintptr) { // it is not closed meanwhile
		n, _, sent = conn.WriteMsgUnix(head, unix.UnixRights(int(fd)), nil)
	})
	if err = errors.Join(err, sent); err == nil && n < len(head) {
		err = io.ErrShortWrite
	}
	return head, err
}

// receiver reads a connection, with the descriptors that come along.
type receiver struct {
	unixConn
	oob  []byte
	file *os.File // that came last, and was not taken yet
}

// newReceiver gives what reads a connection, and, if descriptors may come along, the receiver that it is.
func newReceiver(conn net.Conn) (io.Reader, *receiver) {
	u, ok := conn.(unixConn)
	if !ok {
		return conn, nil
	}
	r := &receiver{unixConn: u, oob: make([]byte, unix.CmsgSpace(oneRight))}
	return r, r
}

// Read is a reader's. The kernel joins no bytes across a message that brings a descriptor.
func (r *receiver) Read(b []byte) (int, error) {
	n, oobn, flags, _, err := r.ReadMsgUnix(b, r.oob)
	if oobn == 0 {
		return n, err
	}
	files, bad := uds.Rights(r.oob[:oobn])
	for i, f := range files {
		if i > 0 || r.file != nil {
			bad = errors.New("more descriptors came than were announced")
			_ = f.Close()
			continue
		}
		r.file = f
	}
	if flags&unix.MSG_CTRUNC != 0 {
		bad = errors.New("there is no room for another descriptor, or more came than were announced")
	}
	if bad != nil {
		return 0, fmt.Errorf("%w: %w", ErrHandover, bad)
	}
	return n, err
}

// copy brings bytes from the place that a Chunk tells of.
func (r *receiver) copy(into []byte) error {
	var place [placeSize]byte
	if _, err := io.ReadFull(r, place[:]); err != nil {
		return err
	}
	f := r.file
	if f == nil {
		return fmt.Errorf("%w: it came without its descriptor", ErrHandover)
	}
	r.file = nil
	defer f.Close()
	if _, err := f.ReadAt(into, int64(binary.LittleEndian.Uint64(place[:]))); err != nil {
		return fmt.Errorf("%w: %w", ErrHandover, err)
	}
	// What was copied is good only if the other side kept it so long. It closes the connection before it lets go of anything that
	// was not taken; so if this gets through, it was there.
	_, err := r.Write(appendChunk(nil, fb.ChunkStateTaken, 0, 0))
	return err
}

// end closes what came and was not taken.
func (r *receiver) end() {
	if r != nil && r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}
