package transport

import (
	"net"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
)

// A batch is what the writer takes from the core at a time. Control messages wait for at most the
// rest of one batch, and for what the kernel holds.
const batchBytes = 128 << 10

// lastWords is how long the acknowledgement of a goodbye may take.
const lastWords = time.Second

// appendWrite appends the whole frame of a LinkWrite.
func appendWrite(b []byte, e *LinkEffect) []byte {
	b = appendHead(b, e)
	return append(b, e.Payload...)
}

func appendHead(b []byte, e *LinkEffect) []byte {
	n := len(b)
	b = append(b, make([]byte, wire.HeaderSize)...) // does not allocate: the compiler extends b
	wire.PutHeader(b[n:], e.Header)
	return append(b, e.Body...)
}

// batch is a sequence of frames, small parts copied together and large payloads by reference.
type batch struct {
	buf   []byte
	parts net.Buffers
	split bool // whether large payloads are kept apart
	from  int  // start of the part of buf that is not in parts yet
}

// minSplit is the size from which a buffer of its own is cheaper than a copy.
const minSplit = 8 << 10

func (b *batch) reset() {
	b.buf, b.from = b.buf[:0], 0
	clear(b.parts)
	b.parts = b.parts[:0]
}

func (b *batch) add(e *LinkEffect) {
	if !b.split || len(e.Payload) < minSplit {
		b.buf = appendWrite(b.buf, e)
		return
	}
	b.buf = appendHead(b.buf, e)
	b.flush()
	b.parts = append(b.parts, e.Payload)
}

// flush closes the part of buf that is being filled. Later growth of buf leaves it where it is.
func (b *batch) flush() {
	if len(b.buf) > b.from {
		b.parts = append(b.parts, b.buf[b.from:len(b.buf):len(b.buf)])
		b.from = len(b.buf)
	}
}

// writeTo writes it, behind what is left at the connection.
func (b *batch) writeTo(conn Conn) error {
	if len(b.buf) == 0 {
		return conn.(EagerConn).Flush() // or nothing would be left
	}
	if len(b.parts) == 0 {
		_, err := conn.Write(b.buf)
		return err
	}
	b.flush()
	parts := b.parts // WriteBuffers consumes its argument
	_, err := conn.(BuffersConn).WriteBuffers(&parts)
	return err
}

// fillLocked takes about so many bytes from the core.
func (l *Link) fillLocked(b *batch, conn Conn, bytes int) {
	b.reset()
	_, b.split = conn.(BuffersConn)
	l.ev = LinkEvent{Kind: LinkRoom, Bytes: bytes}
	l.effects = l.core.Step(l.now(), &l.ev, l.effects[:0])
	for i := range l.effects {
		b.add(&l.effects[i])
	}
	l.ev = LinkEvent{}
	l.armLocked()
}

const (
	eagerBytes = 64 << 10 // about so much is written by Flush itself: more is not worth its caller's time
	eagerKept  = 8 << 10  // room for the next one
)

// Flush has what was queued sent: at once and by this goroutine, if that needs no waiting and is not much, which spares waking the
// writer; else by the writer.
func (l *Link) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn, ok := l.conn.(EagerConn)
	if !ok || l.writing {
		l.wakeLocked()
		return
	}
	l.fillLocked(&l.eager, conn, eagerBytes)
	if len(l.eager.buf) == 0 {
		return
	}
	l.writing = true
	l.mu.Unlock()
	done, err := conn.WriteNow(l.eager.buf)
	if err != nil {
		l.broken(conn, err)
	}
	l.mu.Lock()
	l.writing, l.left = false, l.left || !done && l.conn == conn
	if cap(l.eager.buf) > eagerKept {
		l.eager.buf = nil
	}
	if l.left || l.core.Ready(l.now()) {
		l.wakeLocked()
	}
}

// writeLoop is the writer: it takes batches from the core and writes them, so that all that was
// queued while a write was under way goes out with the next one. At the end it tells the owner.
func (l *Link) writeLoop() {
	var b batch
	mine := false
	for {
		l.mu.Lock()
		if mine {
			l.writing, mine = false, false
		}
		conn := l.conn
		b.reset()
		if conn != nil && !l.writing { // else whoever writes wakes this one
			l.fillLocked(&b, conn, batchBytes)
			mine = l.left || len(b.buf) > 0
			l.writing, l.left = mine, false
		}
		l.mu.Unlock()
		if mine {
			if err := b.writeTo(conn); err != nil {
				l.broken(conn, err)
			}
			continue
		}
		if cap(b.buf) > 4<<10 {
			b.buf = nil // idle: give it back
		}
		select {
		case <-l.wake:
		case <-l.down:
			l.finish()
			return
		}
	}
}

// broken tells the core that conn is of no use, if it is still the present one.
func (l *Link) broken(conn Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != conn {
		return
	}
	l.ev = LinkEvent{Kind: LinkDetach, Err: err}
	_ = l.stepLocked()
	l.dropConnLocked(err)
}

// finish says the session's last words, waits for the reader and calls OnDead.
func (l *Link) finish() {
	l.mu.Lock()
	conn, words, reader, cause := l.lastly, l.pending, l.reader, l.cause
	l.mu.Unlock()
	if conn != nil {
		_ = conn.SetWriteDeadline(time.Now().Add(lastWords))
		_, _ = conn.Write(words) // best effort: without them the peer finds the connection closed
		conn.Close()
	}
	if reader != nil {
		<-reader.done
	}
	if l.cfg.OnDead != nil {
		l.cfg.OnDead(cause)
	}
	close(l.done)
}
