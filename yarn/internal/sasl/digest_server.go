package sasl

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// DigestServer is the other side of Digest, for stand-ins of Hadoop's servers.
type DigestServer struct {
	Protocol, ServerID string // as offered; the client's digest-uri is made of them
	Offer              []QOP
	Cipher             string // what is offered for privacy; "": what Java offers
	Named              bool   // the user's name is the identifier, else it is base64 of it

	nonce string
	layer Layer
}

// Challenge begins an exchange.
func (s *DigestServer) Challenge() []byte {
	random := make([]byte, 24)
	rand.Read(random)
	s.nonce = base64.StdEncoding.EncodeToString(random)
	list := make([]string, len(s.Offer))
	for i, q := range s.Offer {
		list[i] = string(q)
	}
	c := `realm="default",nonce="` + s.nonce + `",qop="` + strings.Join(list, ",") + `",charset=utf-8,algorithm=md5-sess`
	if slices.Contains(s.Offer, Privacy) {
		cipher := s.Cipher
		if cipher == "" {
			cipher = "3des,rc4,des,rc4-56,rc4-40"
		}
		c += `,cipher="` + cipher + `"`
	}
	return []byte(c)
}

// Check looks at a client's response. password gives the password of a token by its identifier; the
// identifier comes back with the server's proof.
func (s *DigestServer) Check(response []byte, password func(identifier []byte) ([]byte, bool)) (identifier, proof []byte, err error) {
	f, err := directives(string(response))
	if err != nil {
		return nil, nil, err
	}
	identifier, err = base64.StdEncoding.DecodeString(f["username"])
	if s.Named {
		identifier, err = []byte(f["username"]), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sasl: DIGEST-MD5: %w: the user's name is not base64", ErrChallenge)
	}
	secret, known := password(identifier)
	k := digestKeys{
		user: f["username"], realm: f["realm"], nonce: s.nonce, cnonce: f["cnonce"], uri: s.Protocol + "/" + s.ServerID, qop: QOP(f["qop"]),
		password: base64.StdEncoding.EncodeToString(secret),
	}
	if !known || f["nonce"] != s.nonce || f["digest-uri"] != k.uri || subtle.ConstantTimeCompare([]byte(f["response"]), []byte(k.proof("AUTHENTICATE"))) != 1 {
		return nil, nil, fmt.Errorf("DIGEST-MD5: digest response format violation. Mismatched response")
	}
	if !slices.Contains(s.Offer, k.qop) {
		return nil, nil, fmt.Errorf("DIGEST-MD5: server does not support qop: %s", k.qop)
	}
	if s.layer, err = k.layer(f["cipher"], false); err != nil {
		return nil, nil, err
	}
	return identifier, []byte("rspauth=" + k.proof("")), nil
}

// Layer is nil before a response was found good, and for Auth.
func (s *DigestServer) Layer() Layer { return s.layer }
