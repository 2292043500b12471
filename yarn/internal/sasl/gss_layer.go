package sasl

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/crypto/etype"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"
)

// gssContext wraps as RFC 4121, 4.2 says. A token is
//
//	05 04 | flags | ff | EC u16 | RRC u16 | sequence u64 | body
//
// where the body is data and a checksum of EC bytes over data and header, or E(data | EC bytes | header), rotated
// to the right by RRC. In what is signed or sealed the header has no RRC, in what is signed no EC either.
type gssContext struct {
	etype   etype.EType
	key     types.EncryptionKey
	subkey  bool // the key is the acceptor's
	client  bool // this side began
	out, in uint64
}

const (
	gssHeader  = 16
	fromServer = 1
	sealed     = 2
	serverKey  = 4
)

// usage is that of what a side sends.
func usage(client bool) uint32 {
	if client {
		return keyusage.GSSAPI_INITIATOR_SEAL
	}
	return keyusage.GSSAPI_ACCEPTOR_SEAL
}

func (c *gssContext) flags(client bool) (f byte) {
	if !client {
		f |= fromServer
	}
	if c.subkey {
		f |= serverKey
	}
	return f
}

func (c *gssContext) wrap(data []byte, seal bool) ([]byte, error) {
	h := make([]byte, gssHeader, gssHeader+len(data)+64)
	h[0], h[1], h[2], h[3] = 5, 4, c.flags(c.client), 0xff
	binary.BigEndian.PutUint64(h[8:], c.out)
	if seal {
		h[2] |= sealed
	}
	plain := append(append(make([]byte, 0, len(data)+gssHeader), data...), h...)
	var body []byte
	var err error
	if seal {
		_, body, err = c.etype.EncryptMessage(c.key.KeyValue, plain, usage(c.client))
	} else {
		var sum []byte
		sum, err = c.etype.GetChecksumHash(c.key.KeyValue, plain, usage(c.client))
		binary.BigEndian.PutUint16(h[4:], uint16(len(sum)))
		body = append(plain[:len(data):len(data)], sum...)
	}
	if err != nil {
		return nil, err
	}
	c.out++
	return append(h, body...), nil
}

// unwrap takes what the other side wrapped. seal says that it must be sealed.
func (c *gssContext) unwrap(token []byte, seal bool) ([]byte, error) {
	if len(token) <= gssHeader || token[0] != 5 || token[1] != 4 || token[3] != 0xff {
		return nil, fmt.Errorf("%w: not a wrapped message", ErrForged)
	}
	flags, ec, rrc := token[2], int(binary.BigEndian.Uint16(token[4:])), int(binary.BigEndian.Uint16(token[6:]))
	if flags&^sealed != c.flags(!c.client) || seal && flags&sealed == 0 {
		return nil, fmt.Errorf("%w: flags %#x", ErrForged, flags)
	}
	if n := binary.BigEndian.Uint64(token[8:]); n != c.in {
		return nil, fmt.Errorf("%w: number %d where %d is due", ErrForged, n, c.in)
	}
	body := token[gssHeader:]
	rrc %= len(body)
	body = append(append(make([]byte, 0, len(body)), body[rrc:]...), body[:rrc]...)
	h := append([]byte(nil), token[:gssHeader]...)
	h[6], h[7] = 0, 0
	if flags&sealed == 0 {
		h[4], h[5] = 0, 0
		if ec == 0 || ec > len(body) {
			return nil, fmt.Errorf("%w: no checksum", ErrForged)
		}
		data, sum := body[:len(body)-ec], body[len(body)-ec:]
		if !c.etype.VerifyChecksum(c.key.KeyValue, append(append(make([]byte, 0, len(data)+gssHeader), data...), h...), sum, usage(!c.client)) {
			return nil, ErrForged
		}
		c.in++
		return data, nil
	}
	if min := c.etype.GetConfounderByteSize() + c.etype.GetHMACBitLength()/8 + gssHeader; len(body) < min {
		return nil, fmt.Errorf("%w: %d bytes", ErrForged, len(body))
	}
	plain, err := c.etype.DecryptMessage(c.key.KeyValue, body, usage(!c.client))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForged, err)
	}
	end := len(plain) - gssHeader
	if end < ec || !bytes.Equal(plain[end:], h) {
		return nil, fmt.Errorf("%w: the header was changed", ErrForged)
	}
	c.in++
	return plain[:end-ec], nil
}

// gssLayer is a context in use. Wrap and Unwrap each have a number of their own, and share nothing that changes.
type gssLayer struct {
	context *gssContext
	seal    bool
}

func (l *gssLayer) Wrap(plain []byte) ([]byte, error) {
	token, err := l.context.wrap(plain, l.seal)
	if err != nil {
		return nil, fmt.Errorf("sasl: GSSAPI: %w", err)
	}
	return token, nil
}

func (l *gssLayer) Unwrap(token []byte) (plain []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // as in Step
			plain, err = nil, fmt.Errorf("sasl: GSSAPI: %w: %v", ErrForged, p)
		}
	}()
	if plain, err = l.context.unwrap(token, l.seal); err != nil {
		return nil, fmt.Errorf("sasl: GSSAPI: %w", err)
	}
	return plain, nil
}
