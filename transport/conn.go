package transport

import (
	"net"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Conn is a stream of bytes to a proven peer. Read and Write may be called at the same time; Close
// ends both.
type Conn interface {
	net.Conn
	Peer() Peer
}

// Peer is what the carrier proved about the other side, not what that side says of itself.
type Peer struct {
	Role    fb.Role // from its certificate; None on a unix socket
	Cluster string  // from its certificate; "" on a unix socket
	UID     int     // on a unix socket; -1 elsewhere
	Addr    string  // for messages
}

// BuffersConn is a Conn that writes several buffers with one call of the kernel.
type BuffersConn interface {
	Conn
	WriteBuffers(*net.Buffers) (int64, error)
}

// EagerConn is a Conn that can write without waiting. Like Write, WriteNow and Flush belong to one caller at a time.
type EagerConn interface {
	Conn
	// WriteNow takes all of b, writes as much of it as there is room for, and never waits. What is left (done is false) goes with
	// the next Write, or with Flush.
	WriteNow(b []byte) (done bool, err error)
	// Flush writes what is left, and waits for room.
	Flush() error
}

// SilenceConn is a Conn that notices by itself when the other side is gone without a word.
type SilenceConn interface {
	Conn
	// EndWhenSilent ends the connection when nothing of what was sent is acknowledged for so long, or none of the questions that the system asks on
	// an idle one.
	EndWhenSilent(after time.Duration) error
}

// ClearConn is a Conn on which nothing is encrypted, nor proved to be what the other side sent: who it is was proved before. Who reads it has
// to see for himself that nothing was changed on the way.
type ClearConn interface {
	Conn
	// Clear does nothing: it tells such a Conn from others.
	Clear()
}

// Msg is one message, as sent and as delivered.
type Msg struct {
	M       wire.Message
	Corr    uint64 // ties a reply to its query, 0: none
	Payload []byte // raw bytes beside M; on receipt they belong to the receiver
	Body    []byte // M as it came, with LinkCoreConfig.KeepBody

	class wire.Class
	cost  int64
	gen   uint32
}
