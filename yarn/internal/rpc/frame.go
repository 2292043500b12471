package rpc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// A frame is
//
//	length u32 big endian | length (varint) header | length (varint) body ...
//
// Over a SASL layer frames, with their lengths, are a stream that is cut into wrapped tokens at will.
const (
	maxReply   = 128 << 20 // ipc.maximum.response.length
	maxRequest = 64 << 20  // ipc.maximum.data.length, whose default is 128 MiB since 3.3 and was 64 before
	atOnce     = 64 << 10  // what is allocated on a length's word
)

// readFrame reads one frame, without its length. It allocates as bytes arrive, not as the length says.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxReply {
		return nil, fmt.Errorf("%w: a frame of %d bytes (%q); is this the right port?", ErrNotHadoop, n, head)
	}
	if n <= atOnce {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, noEOF(err)
	}
	var b bytes.Buffer
	_, err := io.CopyN(&b, r, int64(n))
	return b.Bytes(), noEOF(err)
}

// noEOF makes the end of a stream within a frame an unexpected one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frameOf puts a header and bodies into one frame.
func frameOf(header any, bodies ...any) []byte {
	b := proto.AppendDelimited(make([]byte, 4, 256), header)
	for _, m := range bodies {
		b = proto.AppendDelimited(b, m)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// frameBehind puts a header before what is encoded already.
func frameBehind(header any, rest []byte) []byte {
	b := append(proto.AppendDelimited(make([]byte, 4, 64+len(rest)), header), rest...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// cutMessage reads the delimited message at the front of b.
func cutMessage(b []byte, m any) (rest []byte, err error) {
	body, rest, err := proto.CutDelimited(b)
	if err == nil {
		err = proto.Unmarshal(body, m)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHadoop, err)
	}
	return rest, nil
}

// saslFrame is one message of an exchange; also what carries wrapped bytes.
func saslFrame(m saslMessage) []byte {
	return frameOf(requestHeader{Engine: engine, CallID: callSASL, ClientID: []byte{}, Retry: -1}, m)
}

// readSASL reads the server's next message of an exchange.
func readSASL(r io.Reader) (m saslMessage, err error) {
	b, err := readFrame(r)
	if err != nil {
		return m, err
	}
	var h responseHeader
	if b, err = cutMessage(b, &h); err != nil {
		return m, err
	}
	if h.Status != statusSuccess {
		return m, remoteError(h)
	}
	if int32(h.CallID) != callSASL {
		return m, fmt.Errorf("%w: call %d within a login", ErrNotHadoop, int32(h.CallID))
	}
	_, err = cutMessage(b, &m)
	return m, err
}

// unwrapper turns the frames of a SASL layer into the stream that they carry.
type unwrapper struct {
	r     io.Reader
	layer sasl.Layer
	read  func(io.Reader) (saslMessage, error)
	rest  []byte
}

func (u *unwrapper) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		m, err := u.read(u.r)
		if err != nil {
			return 0, err
		}
		if m.State != saslWrap {
			return 0, fmt.Errorf("%w: SASL state %d on a wrapped connection", ErrNotHadoop, m.State)
		}
		if u.rest, err = u.layer.Unwrap(m.Token); err != nil {
			return 0, err
		}
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}
