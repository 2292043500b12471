package sasl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Ticket is a Kerberos ticket for a service, with what only its owner has.
type Ticket struct {
	Realm  string
	Client types.PrincipalName
	Ticket messages.Ticket
	Key    types.EncryptionKey // of the session
}

// GSS is GSSAPI with Kerberos (RFC 4752, RFC 4121), with the server's proof that it knows the service's key.
type GSS struct {
	ticket  Ticket
	allowed []QOP

	step    int
	sent    types.Authenticator
	context *gssContext
	layer   Layer
}

// NewGSS begins an exchange with the ticket's service.
func NewGSS(t Ticket, allowed []QOP) *GSS { return &GSS{ticket: t, allowed: allowed} }

// Layer is nil before the exchange is done, and when the quality is Auth.
func (g *GSS) Layer() Layer { return g.layer }

// Kerberos tokens of GSSAPI begin with the mechanism's OID and what they are.
var (
	gssOID  = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}
	isAPReq = []byte{1, 0}
	isAPRep = []byte{2, 0}
)

// Flags of the authenticator's checksum: mutual, replay, sequence, confidentiality, integrity. A server checks the
// sequence of what is wrapped only if it is asked for.
const (
	gssFlags     = 0x02 | 0x04 | 0x08 | 0x10 | 0x20
	optionMutual = 2
)

// Step gives the ticket, checks the server's proof, then settles the layer.
func (g *GSS) Step(challenge []byte) (response []byte, done bool, err error) {
	g.step++
	defer func() {
		if p := recover(); p != nil { // the library's readers of ASN.1 trust what they read
			response, done, err = nil, false, fmt.Errorf("sasl: GSSAPI: %w: %v", ErrChallenge, p)
		}
	}()
	switch g.step {
	case 1:
		response, err = g.request()
	case 2:
		err = g.verify(challenge)
	case 3:
		response, err = g.settle(challenge)
		done = err == nil
	default:
		err = ErrChallenge
	}
	if err != nil {
		return nil, false, fmt.Errorf("sasl: GSSAPI: %w", err)
	}
	return response, done, nil
}

// request makes the token with the AP-REQ.
func (g *GSS) request() ([]byte, error) {
	auth, err := types.NewAuthenticator(g.ticket.Realm, g.ticket.Client)
	if err != nil {
		return nil, err
	}
	sum := binary.LittleEndian.AppendUint32(nil, 16)
	sum = append(sum, make([]byte, 16)...) // no channel bindings
	auth.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: binary.LittleEndian.AppendUint32(sum, gssFlags)}
	req, err := messages.NewAPReq(g.ticket.Ticket, g.ticket.Key, auth)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&req.APOptions, optionMutual)
	b, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	g.sent = auth
	return asn1tools.AddASNAppTag(bytes.Join([][]byte{gssOID, isAPReq, b}, nil), 0), nil
}

// verify checks the AP-REP: only who could read the authenticator can repeat its time.
func (g *GSS) verify(token []byte) error {
	b, err := cutGSS(token)
	if err != nil {
		return err
	}
	var rep messages.APRep
	if err := rep.Unmarshal(b); err != nil {
		return fmt.Errorf("%w: %w", ErrChallenge, err)
	}
	plain, err := crypto.DecryptEncPart(rep.EncPart, g.ticket.Key, keyusage.AP_REP_ENCPART)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return fmt.Errorf("%w: %w", ErrChallenge, err)
	}
	if !part.CTime.Equal(g.sent.CTime.Truncate(time.Second)) || part.Cusec != g.sent.Cusec {
		return ErrServer
	}
	c := &gssContext{key: g.ticket.Key, out: uint64(g.sent.SeqNumber), in: uint64(uint32(part.SequenceNumber)), client: true}
	if len(part.Subkey.KeyValue) > 0 {
		c.key, c.subkey = part.Subkey, true
	}
	if c.etype, err = crypto.GetEtype(c.key.KeyType); err != nil {
		return err
	}
	g.context = c
	return nil
}

// cutGSS takes the AP-REP out of the server's token.
func cutGSS(token []byte) ([]byte, error) {
	if len(token) < 2 || token[0] != 0x60 {
		return nil, fmt.Errorf("%w: not a token of GSSAPI", ErrChallenge)
	}
	length, rest := int(token[1]), token[2:]
	if length >= 0x80 { // as many bytes of length
		n := length & 0x7f
		if n == 0 || n > 4 || n > len(rest) {
			return nil, fmt.Errorf("%w: a token without a length", ErrChallenge)
		}
		length = 0
		for _, b := range rest[:n] {
			length = length<<8 | int(b)
		}
		rest = rest[n:]
	}
	if length != len(rest) {
		return nil, fmt.Errorf("%w: a token of %d bytes that says %d", ErrChallenge, len(rest), length)
	}
	rest, ok := bytes.CutPrefix(rest, gssOID)
	if !ok {
		return nil, fmt.Errorf("%w: a token of another mechanism than Kerberos", ErrChallenge)
	}
	if rest, ok = bytes.CutPrefix(rest, isAPRep); !ok {
		return nil, errors.New("the server answers with an error instead of its proof")
	}
	return rest, nil
}

// Bits of the offered layers.
var layerBits = map[QOP]byte{Auth: 1, Integrity: 2, Privacy: 4}

// settle reads which layers the server offers, and answers with one. Both messages are signed, not sealed.
func (g *GSS) settle(token []byte) ([]byte, error) {
	plain, err := g.context.unwrap(token, false)
	if err != nil {
		return nil, err
	}
	if len(plain) != 4 {
		return nil, fmt.Errorf("%w: an offer of %d bytes", ErrChallenge, len(plain))
	}
	var offered []QOP
	for _, q := range strongest {
		if plain[0]&layerBits[q] != 0 {
			offered = append(offered, q)
		}
	}
	qop, err := choose(offered, g.allowed)
	if err != nil {
		return nil, err
	}
	answer := []byte{layerBits[qop], 0, 0, 0}
	if qop != Auth {
		answer[1] = 1 // 64 KiB are taken at once, which Java does not keep to
		g.layer = &gssLayer{g.context, qop == Privacy}
	}
	return g.context.wrap(answer, false)
}
