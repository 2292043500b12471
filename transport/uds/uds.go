// Package uds carries connections inside a node: unix sockets whose peer is proved by the kernel,
// and socketpairs between a keeper and its children that pass descriptors along with frames.
//
//	UDS-1: a connection of another user is refused before a byte of it is read.
//	UDS-2: descriptors arrive with the frame that they were sent with, close-on-exec, and never leak:
//	       Recv gives them all to its caller, or closes them.
package uds

import (
	"context"
	"net"
	"os"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
)

// Listen listens at path, which may be longer than the kernel's 107 bytes. The file gets mode 0600.
// A socket file left by a dead process is replaced; a live one is an error.
func Listen(path string) (*net.UnixListener, error) { return nil, nil }

// Dial connects to path, of any length, and proves that the other side is this user's or root's.
func Dial(ctx context.Context, path string) (transport.Conn, error) { return nil, nil }

// Server proves that the peer of an accepted connection is this user or root. On error nc is closed.
func Server(nc *net.UnixConn) (transport.Conn, error) { return nil, nil }

// Pair makes a connected pair of stream sockets, close-on-exec, for a parent and the child that
// inherits the second (exec.Cmd.ExtraFiles).
func Pair() (parent, child *os.File, err error) { return nil, nil, nil }

// FDConn sends and receives frames with descriptors over one end of a Pair. Send may be called from
// several goroutines; Recv from one.
type FDConn struct{}

// NewFDConn takes over f, which it closes.
func NewFDConn(f *os.File) (*FDConn, error) { return nil, nil }

// Send writes one message with descriptors, which the caller keeps and may close afterwards. It
// blocks while the peer does not read.
func (c *FDConn) Send(m wire.Message, corr uint64, payload []byte, files ...*os.File) error {
	return nil
}

// Recv reads one message; the descriptors belong to the caller. io.EOF: the peer is gone.
func (c *FDConn) Recv() (transport.Msg, []*os.File, error) { return transport.Msg{}, nil, nil }

// Close closes the socket; a Recv that waits returns.
func (c *FDConn) Close() error { return nil }
