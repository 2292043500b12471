package gang

import (
	"io"
	"net"
	"time"

	"github.com/maniple-hpc/maniple/transport"
)

// streamConn makes a connection of a stream that has no deadlines and proves nothing: a bridge, whose
// far end the agent's socket vouches for.
type streamConn struct{ io.ReadWriteCloser }

type streamAddr struct{}

func (streamAddr) Network() string { return "stream" }
func (streamAddr) String() string  { return "bridge" }

func (*streamConn) LocalAddr() net.Addr              { return streamAddr{} }
func (*streamConn) RemoteAddr() net.Addr             { return streamAddr{} }
func (*streamConn) SetDeadline(time.Time) error      { return nil }
func (*streamConn) SetReadDeadline(time.Time) error  { return nil }
func (*streamConn) SetWriteDeadline(time.Time) error { return nil }
func (*streamConn) Peer() transport.Peer             { return transport.Peer{UID: -1, Addr: "bridge"} }
