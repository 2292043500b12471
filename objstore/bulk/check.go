package bulk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

const (
	sumSize    = 4         // bytes of a checksum
	checkPiece = 256 << 10 // bytes that are summed up while the processor's cache has them from the connection, or from what the kernel did for it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// unencrypted tells whether what goes over a connection has to be checked.
func unencrypted(conn net.Conn) bool {
	_, clear := conn.(transport.ClearConn)
	return clear
}

// sumOf begins the checksum of an answer: with what was asked for, so that bytes of another range are none, and with what comes before the payload.
func sumOf(r Range, m fb.ChunkT, payload int64) uint32 {
	r.Locate = false
	sum := crc32.Update(0, castagnoli, appendRange(nil, r)[wire.HeaderSize:])
	return crc32.Update(sum, castagnoli, appendChunk(nil, m.State, m.Version, int(payload)))
}

// newChecked begins to read the payload of an answer, if what came before it is as it was sent.
func newChecked(from io.Reader, r Range, m fb.ChunkT, payload int64) (*checkedReader, error) {
	c := &checkedReader{from, sumOf(r, m, payload)}
	return c, c.verify()
}

// checkedReader sums up what is read.
type checkedReader struct {
	io.Reader
	sum uint32
}

// Read is a reader's.
func (c *checkedReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b[:min(len(b), checkPiece)])
	c.sum = crc32.Update(c.sum, castagnoli, b[:n])
	return n, err
}

// verify reads the checksum of what was read, which is behind it, and compares.
func (c *checkedReader) verify() error {
	var b [sumSize]byte
	if _, err := io.ReadFull(c.Reader, b[:]); err != nil {
		return noEOF(err)
	}
	if sent := binary.LittleEndian.Uint32(b[:]); sent != c.sum {
		return fmt.Errorf("bulk: what came unencrypted was changed on the way: its checksum is %08x, not %08x", c.sum, sent)
	}
	return nil
}

// sendChecked sends what a piece has, between two checksums.
func sendChecked(conn net.Conn, head []byte, r Range, m fb.ChunkT, payload []byte) ([]byte, error) {
	sum := sumOf(r, m, int64(len(payload)+2*sumSize))
	head = binary.LittleEndian.AppendUint32(appendChunk(head, m.State, m.Version, len(payload)+2*sumSize), sum)
	if len(payload) > together {
		if _, err := conn.Write(head); err != nil {
			return head, err
		}
		for len(payload) > 0 {
			n := min(len(payload), checkPiece)
			if _, err := conn.Write(payload[:n]); err != nil {
				return head, err
			}
			sum = crc32.Update(sum, castagnoli, payload[:n]) // the kernel has just brought it into the cache
			payload = payload[n:]
		}
		head = head[:0]
	}
	head = append(head, payload...)
	head = binary.LittleEndian.AppendUint32(head, crc32.Update(sum, castagnoli, payload))
	_, err := conn.Write(head)
	return head, err
}
