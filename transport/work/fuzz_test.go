package work

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
)

// pieces is a connection that gives bytes in pieces whose lengths come from the bytes of sizes.
type pieces struct {
	net.Conn
	b, sizes []byte
}

func (c *pieces) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := len(c.b)
	if len(c.sizes) > 0 {
		n = min(n, 1+int(c.sizes[0])*int(c.sizes[0]))
		c.sizes = c.sizes[1:]
	}
	n = copy(b, c.b[:n])
	c.b = c.b[n:]
	return n, nil
}

func (c *pieces) Close() error                     { return nil }
func (c *pieces) SetWriteDeadline(time.Time) error { return nil }

// FuzzReader reads any bytes in any pieces: what comes out is what Check finds whole (without descriptors, which
// this carrier has not), in order, and then the error that Check gives, or what the end of the stream means.
func FuzzReader(f *testing.F) {
	all := join(some(f))
	f.Add(all, []byte{1, 2, 3})
	f.Add(append(all, submit(7, 70_000)...), []byte{100, 255, 255, 1, 255})
	f.Add(append(all, "garbage that is no header of anybody"...), []byte{7})
	f.Add(all[:len(all)-3], []byte{})
	f.Fuzz(func(t *testing.T, b, sizes []byte) {
		want, _, wantErr := cut(b, 0)
		var got []byte
		var end error
		c := New(&pieces{b: b, sizes: sizes}, Config{
			OnBatch: func(b Batch) {
				n := 0
				for f := range Frames(b.Bytes) {
					n += len(f)
					_, _ = f.Message()
					_ = f.Payload()
				}
				if n != len(b.Bytes) || n == 0 {
					t.Errorf("frames of %d bytes in a batch of %d", n, len(b.Bytes))
				}
				got = append(got, b.Bytes...)
				b.Release()
			},
			OnEnd: func(err error) { end = err },
		})
		<-c.Done()
		switch {
		case wantErr != nil && !errors.Is(end, transport.ErrProtocol),
			wantErr == nil && want == len(b) && end != io.EOF,
			wantErr == nil && want < len(b) && !errors.Is(end, io.ErrUnexpectedEOF):
			t.Fatalf("ended with %v; Check says %v, and that %d of %d bytes are whole", end, wantErr, want, len(b))
		}
		if string(got) != string(b[:want]) {
			t.Fatalf("%d bytes came out, not the first %d", len(got), want)
		}
	})
}
