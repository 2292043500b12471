package tcp

import (
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/transport"
)

// bare is a connection that has left TLS behind, once both sides were proved by it.
type bare struct {
	*socket
	peer transport.Peer
}

// Clear goes on with a connection without encryption. Both sides do that, as they have agreed on it, and at one point of what they say: behind a
// message that this side sent, and on which the other one will speak first, or behind one that it has read, with nothing more to come before it speaks.
// TLS then holds nothing that came and was not read. The connection that was given is not to be used any more.
func Clear(conn transport.Conn) (transport.ClearConn, error) {
	e, ok := conn.(*eager)
	if !ok {
		return nil, fmt.Errorf("tcp: %T can't go on without TLS", conn)
	}
	return &bare{e.socket, e.peer}, nil
}

// Peer tells whom TLS has proved.
func (c *bare) Peer() transport.Peer { return c.peer }

// Clear is transport.ClearConn's.
func (c *bare) Clear() {}

// EndWhenSilent is transport.SilenceConn's.
func (c *bare) EndWhenSilent(after time.Duration) error { return c.endWhenSilent(after) }
