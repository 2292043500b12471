package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/maniple-hpc/maniple/transport/uds"
)

// ErrCopy means that who keeps the copy of a journal is gone.
var ErrCopy = errors.New("who keeps the journal's copy is gone")

// Copier is a journal's connection to who keeps a copy of it.
//
//	greeting: length u32 | the copy that there is          to the journal, once
//	piece:    whole u8 | length u32 | bytes                from the journal; answered by one byte when it is kept
type Copier struct{ conn net.Conn }

// DialCopy connects to a Keeper's socket, and gives the copy that it has: none of a journal that begins.
func DialCopy(ctx context.Context, path string) (*Copier, []byte, error) {
	conn, err := uds.DialStream(ctx, path)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w: %w", ErrCopy, err)
	}
	have, err := readPiece(conn)
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("journal: %w: %w", ErrCopy, err)
	}
	return &Copier{conn}, have, nil
}

// Copy is Options.Copy: it returns when the piece is kept.
func (c *Copier) Copy(data []byte, whole bool) error {
	head := []byte{0, 0, 0, 0, 0}
	if whole {
		head[0] = 1
	}
	binary.LittleEndian.PutUint32(head[1:], uint32(len(data)))
	_, err := c.conn.Write(append(head, data...))
	if err == nil {
		_, err = io.ReadFull(c.conn, head[:1])
	}
	if err != nil {
		return fmt.Errorf("journal: %w: %w", ErrCopy, err)
	}
	return nil
}

// Close ends the connection.
func (c *Copier) Close() error { return c.conn.Close() }

func readPiece(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	data := make([]byte, binary.LittleEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, data)
	return data, err
}

// Keeper keeps a copy of a journal for another process. It owns a goroutine that accepts and one for each connection; Close
// ends them.
type Keeper struct {
	listener net.Listener
	have     []byte
	keep     func(data []byte, whole bool)
	all      sync.WaitGroup

	turn sync.Mutex // held while a piece is kept

	mu   sync.Mutex
	open []net.Conn // the newest one last

	closed bool
}

// Keep listens at path. have is the copy of a journal that was elsewhere; each piece is answered when keep returns.
func Keep(path string, have []byte, keep func(data []byte, whole bool)) (*Keeper, error) {
	l, err := uds.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	k := &Keeper{listener: l, have: have, keep: keep}
	k.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			k.mu.Lock()
			k.open = append(k.open, conn)
			if k.closed {
				_ = conn.Close()
			}
			k.mu.Unlock()
			k.all.Go(func() { k.serve(conn) })
		}
	})
	return k, nil
}

func (k *Keeper) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		k.mu.Lock()
		k.open = slices.DeleteFunc(k.open, func(c net.Conn) bool { return c == conn })
		k.mu.Unlock()
	}()
	if _, err := conn.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(k.have))), k.have...)); err != nil {
		return
	}
	var kind [1]byte
	for {
		if _, err := io.ReadFull(conn, kind[:]); err != nil {
			return
		}
		data, err := readPiece(conn)
		if err != nil {
			return
		}
		if !k.keeps(conn, data, kind[0] != 0) {
			return
		}
		if _, err := conn.Write(kind[:]); err != nil {
			return
		}
	}
}

// keeps keeps a piece, unless another process has the journal meanwhile: what the one before it wrote last is in the file that it read.
func (k *Keeper) keeps(conn net.Conn, data []byte, whole bool) bool {
	k.turn.Lock()
	defer k.turn.Unlock()
	k.mu.Lock()
	newest := len(k.open) > 0 && k.open[len(k.open)-1] == conn
	k.mu.Unlock()
	if newest {
		k.keep(data, whole)
	}
	return newest
}

// Close ends all connections.
func (k *Keeper) Close() error {
	err := k.listener.Close()
	k.mu.Lock()
	k.closed = true
	for _, conn := range k.open {
		_ = conn.Close()
	}
	k.mu.Unlock()
	k.all.Wait()
	return err
}
