package hdfs

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	dialing = 10 * time.Second // for a connection
	silence = 20 * time.Second // without a byte of one of whom an answer is awaited
	unheard = 1 << 20          // bytes that are written while nobody reads. The library has seven packets of 64 KiB without an answer at most
)

// Dialer is how a client of HDFS connects.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Heard gives connections of which none waits for ever for a machine that has vanished: a read or a write that takes longer than 20 s
// fails, and is the connection's end. nil is the plain dialer.
func Heard(dial Dialer) Dialer { return heard(dial, silence) }

func heard(dial Dialer, silent time.Duration) Dialer {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialing)
		defer cancel()
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &heardConn{Conn: c, silent: silent}, nil
	}
}

// heardConn is one of them. The library for HDFS reads only when it waits for something, and has no deadlines of its own. When a DataNode has said that one behind
// it was lost, it reads no more, and goes on writing to the end of the block: that much is not kept here to be written again.
type heardConn struct {
	net.Conn
	silent  time.Duration
	reading atomic.Int32
	written atomic.Int64 // since the last read
}

// errUnheard ends a connection that nobody reads.
var errUnheard = errors.New("nobody hears what the DataNode says: it, or one behind it, is lost")

func (c *heardConn) Read(b []byte) (int, error) {
	c.reading.Add(1)
	_ = c.SetReadDeadline(time.Now().Add(c.silent)) // a closed one says so below
	n, err := c.Conn.Read(b)
	c.written.Store(0)
	c.reading.Add(-1)
	return n, c.ends(err)
}

func (c *heardConn) Write(b []byte) (int, error) {
	if c.reading.Load() == 0 && c.written.Add(int64(len(b))) > unheard {
		_ = c.Conn.Close()
		return 0, errUnheard
	}
	_ = c.SetWriteDeadline(time.Now().Add(c.silent)) // a closed one says so below
	n, err := c.Conn.Write(b)
	return n, c.ends(err)
}

// ends closes a connection of which nothing more will come, so that nobody waits as long again.
func (c *heardConn) ends(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Conn.Close()
	}
	return err
}
