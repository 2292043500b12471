package yarn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// A connection to a DataNode begins with a request: a version, an operation, and a message in which the block's token is. Where the site wants data to be
// protected, a login by DIGEST-MD5 goes before it, with that token or, for encryption, a key of the NameNode's:
//
//	-> deadbeef, {1 status}    <- {1 status, 2 challenge}    -> {1 status, 2 response, 4 ciphers}    <- {1 status, 2 proof, 4 cipher and its keys}
//
// Messages have their length before them. What follows is plain, or tokens of the mechanism's layer behind their lengths, or, where a cipher was agreed on, its streams.
const (
	transferVersion = 28
	opChecksum      = 0x55
	transferMagic   = 0xdeadbeef
	transferRealm   = "hdfs" // and "0": what DataNodes call themselves

	maxOp       = 1 << 20
	maxGreeting = 1 << 20
	maxWrapped  = 32 << 20
	wrapAtOnce  = 60 << 10 // of what is sent
	privileged  = 1024     // below it is a port that only root listens on: Hadoop trusts who does

	transferLogin = 20 * time.Second // may last no longer: a process that was stopped has a kernel that still takes connections
)

// transferMessage is one of the login's.
type transferMessage struct {
	Status  int32            `pb:"1,required"`
	Payload []byte           `pb:"2"`
	Message string           `pb:"3"`
	Ciphers []transferCipher `pb:"4"`
}

// transferCipher is a cipher on offer, or the one agreed on with its keys: the client writes with the first pair.
type transferCipher struct {
	Suite  int32  `pb:"1,required"`
	InKey  []byte `pb:"2"`
	InIV   []byte `pb:"3"`
	OutKey []byte `pb:"4"`
	OutIV  []byte `pb:"5"`
}

const (
	statusGood       = 0
	statusUnknownKey = 1
	suiteAES         = 2 // AES/CTR/NoPadding
)

// errUnknownKey: the DataNode does not know the key, or not any more.
var errUnknownKey = errors.New("the key is not known")

// dataKey encrypts data.
type dataKey struct {
	ID      uint32    `pb:"1"`
	Pool    string    `pb:"2"`
	Nonce   []byte    `pb:"3"`
	Key     []byte    `pb:"4"`
	Expires time.Time `pb:"5"`
}

// DialDataNode connects to a DataNode. The login goes before the first request, which has the block's token. It has a deadline of its own; of those that were
// set before nothing is left then.
func (h *HDFS) DialDataNode(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := h.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	encrypt := h.encrypt
	h.mu.Unlock()
	_, port, _ := net.SplitHostPort(address)
	if n, err := strconv.Atoi(port); !encrypt && (len(h.transfer) == 0 || err == nil && n < privileged) {
		return c, nil
	}
	return &dataConn{Conn: c, h: h, address: address, encrypt: encrypt, in: c}, nil
}

// dataConn is a connection to a DataNode, with one reader and one writer at a time; who reads has written before.
type dataConn struct {
	net.Conn
	h       *HDFS
	address string
	encrypt bool

	op  []byte // what there is of the first request
	in  io.Reader
	out io.Writer // nil: the first request is not whole yet
}

func (c *dataConn) Read(b []byte) (int, error) { return c.in.Read(b) }

func (c *dataConn) Write(b []byte) (int, error) {
	if c.out != nil {
		return c.out.Write(b)
	}
	c.op = append(c.op, b...)
	token, whole, err := tokenIn(c.op)
	if err != nil {
		return 0, err
	}
	if !whole {
		return len(b), nil
	}
	for again := c.encrypt; ; again = false { // a key that was kept may be too old by now
		if err = c.enter(token); !again || !errors.Is(err, errUnknownKey) {
			break
		}
		if err = c.redial(); err != nil {
			break
		}
	}
	if err != nil {
		_ = c.Conn.Close() // half a login is of no use
		return 0, c.failure(err)
	}
	op := c.op
	c.op = nil
	if _, err := c.out.Write(op); err != nil {
		return 0, err
	}
	return len(b), nil
}

// failure says why the login failed. What the DataNode refuses is not ErrCredentials, which asking again would not change: tokens of blocks live for hours, and
// whoever asks the NameNode for the blocks once more has new ones. That there is no quality of protection that both sides want stays so.
func (c *dataConn) failure(err error) error {
	if !errors.As(err, new(*Error)) && errors.Is(err, rpc.ErrLogin) && !errors.Is(err, sasl.ErrProtection) {
		return fmt.Errorf("yarn: DataNode %s: %v", c.address, err)
	}
	return ErrorOf("DataNode "+c.address, err)
}

// redial begins anew.
func (c *dataConn) redial() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fresh, err := c.h.dial(ctx, "tcp", c.address)
	if err == nil {
		_ = c.Conn.Close()
		c.Conn, c.in = fresh, fresh
	}
	return err
}

// tokenIn finds the block's token in a request, once all of it has come.
func tokenIn(op []byte) (token Token, whole bool, err error) {
	if len(op) < 4 {
		return token, false, nil
	}
	if v := binary.BigEndian.Uint16(op); v != transferVersion {
		return token, false, fmt.Errorf("yarn: a request to a DataNode has version %d, and %d is known", v, transferVersion)
	}
	n, k := binary.Uvarint(op[3:])
	if k < 0 || n > maxOp {
		return token, false, fmt.Errorf("yarn: a request of %d bytes to a DataNode", n)
	}
	if k == 0 || uint64(len(op)-3-k) < n {
		return token, false, nil
	}
	path := []uint64{1, 1, 2}
	if op[2] == opChecksum {
		path = path[1:]
	}
	return token, true, proto.Unmarshal(proto.Find(op[3+k:3+k+int(n)], path...), &token)
}

// enter logs in.
func (c *dataConn) enter(token Token) error {
	digest := sasl.TokenDigest(token.Identifier, token.Password, transferRealm, "0", c.h.transfer)
	if c.encrypt {
		key, err := c.h.dataKey()
		if err != nil {
			return err
		}
		digest.User = fmt.Sprintf("%d %s %s", int32(key.ID), key.Pool, base64.StdEncoding.EncodeToString(key.Nonce))
		digest.Password, digest.Allowed = base64.StdEncoding.EncodeToString(key.Key), []sasl.QOP{sasl.Privacy}
	}
	_ = c.Conn.SetDeadline(time.Now().Add(c.h.login)) // a closed one says so below
	defer func() { _ = c.Conn.SetDeadline(time.Time{}) }()
	in, out, err := protect(c.Conn, digest)
	if err != nil {
		c.h.forget()
		return err
	}
	c.in, c.out = in, out
	return nil
}

// dataKey gives the key with which data is encrypted.
func (h *HDFS) dataKey() (*dataKey, error) {
	h.mu.Lock()
	key := h.key
	h.mu.Unlock()
	if key != nil && time.Now().Before(key.Expires) {
		return key, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var r struct {
		Key *dataKey `pb:"1"`
	}
	if err := h.ask(ctx, "data encryption key", "getDataEncryptionKey", empty{}, &r); err != nil {
		return nil, err
	}
	if r.Key == nil {
		return nil, &Error{Op: "data encryption key", Text: "the NameNode gave none, and says that data is encrypted", Kind: ErrProtocol}
	}
	h.mu.Lock()
	h.key = r.Key
	h.mu.Unlock()
	return r.Key, nil
}

// forget has the next connection ask for a key.
func (h *HDFS) forget() {
	h.mu.Lock()
	h.key = nil
	h.mu.Unlock()
}

// protect logs in to a DataNode, and gives what protects the rest of the connection.
func protect(c io.ReadWriter, digest *sasl.Digest) (io.Reader, io.Writer, error) {
	r := bufio.NewReader(c)
	hello := proto.AppendDelimited(binary.BigEndian.AppendUint32(nil, transferMagic), transferMessage{})
	offer, err := exchanged(c, r, hello)
	if err != nil {
		return nil, nil, err
	}
	response, _, err := digest.Step(offer.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", rpc.ErrLogin, err)
	}
	proof, err := exchanged(c, r, proto.AppendDelimited(nil, transferMessage{Payload: response, Ciphers: []transferCipher{{Suite: suiteAES}}}))
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := digest.Step(proof.Payload); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", rpc.ErrLogin, err)
	}
	layer := digest.Layer()
	switch {
	case layer == nil:
		return r, c, nil
	case len(proof.Ciphers) > 0:
		return streams(r, c, proof.Ciphers[0], layer)
	}
	return &wrappedReader{r: r, layer: layer}, &wrappedWriter{w: c, layer: layer}, nil
}

// exchanged sends something, and reads the DataNode's next message.
func exchanged(w io.Writer, r *bufio.Reader, b []byte) (m transferMessage, err error) {
	if _, err := w.Write(b); err != nil {
		return m, err
	}
	n, err := binary.ReadUvarint(r)
	if err == nil && n > maxGreeting {
		err = fmt.Errorf("%w: a message of %d bytes", rpc.ErrNotHadoop, n)
	}
	if err != nil {
		return m, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return m, err
	}
	if err := proto.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%w: %w", rpc.ErrNotHadoop, err)
	}
	switch m.Status {
	case statusGood:
		return m, nil
	case statusUnknownKey:
		return m, fmt.Errorf("%w: %w: %s", rpc.ErrLogin, errUnknownKey, m.Message)
	}
	return m, fmt.Errorf("%w: %s", rpc.ErrLogin, m.Message)
}

// streams are those of the cipher that was agreed on, whose keys came wrapped.
func streams(r io.Reader, w io.Writer, by transferCipher, layer sasl.Layer) (io.Reader, io.Writer, error) {
	if by.Suite != suiteAES {
		return nil, nil, fmt.Errorf("%w: the DataNode took cipher %d, which was not offered", rpc.ErrNotHadoop, by.Suite)
	}
	var both [2]cipher.Stream
	for i, half := range [][2][]byte{{by.InKey, by.InIV}, {by.OutKey, by.OutIV}} {
		key, err := layer.Unwrap(half[0])
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", rpc.ErrLogin, err)
		}
		block, err := aes.NewCipher(key)
		if err != nil || len(half[1]) != aes.BlockSize {
			return nil, nil, fmt.Errorf("%w: a key of %d bytes with a start of %d", rpc.ErrNotHadoop, len(key), len(half[1]))
		}
		both[i] = cipher.NewCTR(block, half[1])
	}
	return cipher.StreamReader{S: both[1], R: r}, cipher.StreamWriter{S: both[0], W: w}, nil
}

// wrappedWriter writes tokens of a layer.
type wrappedWriter struct {
	w     io.Writer
	layer sasl.Layer
}

func (w *wrappedWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n:min(len(b), n+wrapAtOnce)]
		token, err := w.layer.Wrap(part)
		if err != nil {
			return n, err
		}
		if _, err := w.w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(token)), uint32(len(token))), token...)); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// wrappedReader reads them.
type wrappedReader struct {
	r     io.Reader
	layer sasl.Layer
	token bytes.Buffer
	rest  []byte
}

func (r *wrappedReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		var head [4]byte
		if _, err := io.ReadFull(r.r, head[:]); err != nil {
			return 0, err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxWrapped {
			return 0, fmt.Errorf("yarn: a DataNode: %w: a token of %d bytes", rpc.ErrNotHadoop, n)
		}
		r.token.Reset()
		if _, err := io.CopyN(&r.token, r.r, int64(n)); err != nil { // memory is taken as bytes come
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		var err error
		if r.rest, err = r.layer.Unwrap(r.token.Bytes()); err != nil {
			return 0, fmt.Errorf("yarn: a DataNode: %w", err)
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
