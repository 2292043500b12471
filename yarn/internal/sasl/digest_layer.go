package sasl

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"fmt"
)

// digestLayer wraps as RFC 2831, 2.3 and 2.4 say, without the length that Hadoop puts elsewhere:
//
//	integrity: data | mac (10) | 00 01 | sequence (4)
//	privacy:   RC4(data | mac (10)) | 00 01 | sequence (4)
//
// The mac is over sequence and data; the streams of RC4 go on from one message to the next.
type digestLayer struct {
	out, in digestWay
}

// digestWay is one direction.
type digestWay struct {
	sign []byte
	seal *rc4.Cipher // nil: integrity only
	seq  uint32
}

const digestTail = 10 + 2 + 4

// layer makes the layer of the quality; nil for Auth. client says which side this is.
func (k digestKeys) layer(cipher string, client bool) (Layer, error) {
	if k.qop == Auth {
		return nil, nil
	}
	secret := k.secret()
	half := func(direction string) (w digestWay, err error) {
		sign := md5.Sum(append(secret[:len(secret):len(secret)], "Digest session key to "+direction+" signing key magic constant"...))
		w.sign = sign[:]
		if k.qop == Privacy {
			n := map[string]int{"rc4-40": 5, "rc4-56": 7}[cipher]
			if n == 0 {
				n = 16
			}
			seal := md5.Sum(append(secret[:n:n], "Digest H(A1) to "+direction+" sealing key magic constant"...))
			w.seal, err = rc4.NewCipher(seal[:])
		}
		return w, err
	}
	out, err := half("client-to-server")
	if err != nil {
		return nil, fmt.Errorf("sasl: DIGEST-MD5: %w", err)
	}
	in, err := half("server-to-client")
	if err != nil {
		return nil, fmt.Errorf("sasl: DIGEST-MD5: %w", err)
	}
	if !client {
		out, in = in, out
	}
	return &digestLayer{out, in}, nil
}

func (w *digestWay) mac(data []byte) []byte {
	h := hmac.New(md5.New, w.sign)
	h.Write(binary.BigEndian.AppendUint32(nil, w.seq))
	h.Write(data)
	return h.Sum(nil)[:10]
}

func (l *digestLayer) Wrap(plain []byte) ([]byte, error) {
	w := &l.out
	b := append(make([]byte, 0, len(plain)+digestTail), plain...)
	b = append(b, w.mac(plain)...)
	if w.seal != nil {
		w.seal.XORKeyStream(b, b)
	}
	b = binary.BigEndian.AppendUint32(append(b, 0, 1), w.seq)
	w.seq++
	return b, nil
}

func (l *digestLayer) Unwrap(token []byte) ([]byte, error) {
	w, n := &l.in, len(token)-6
	if n < 10 || token[n] != 0 || token[n+1] != 1 || binary.BigEndian.Uint32(token[n+2:]) != w.seq {
		return nil, fmt.Errorf("sasl: DIGEST-MD5: %w", ErrForged)
	}
	b := append([]byte(nil), token[:n]...)
	if w.seal != nil {
		w.seal.XORKeyStream(b, b)
	}
	plain := b[:n-10]
	if !hmac.Equal(w.mac(plain), b[n-10:]) {
		return nil, fmt.Errorf("sasl: DIGEST-MD5: %w", ErrForged)
	}
	w.seq++
	return plain, nil
}
