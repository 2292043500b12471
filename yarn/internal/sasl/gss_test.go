package sasl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// acceptor is a service's side, made of the same parts as Java's: it reads the ticket with its keytab.
type acceptor struct {
	keytab  *keytab.Keytab
	subkey  bool
	offer   byte
	lie     int // added to the time that it repeats
	context *gssContext
}

var service = types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "rm/host.example")

// ticketFor makes a ticket as a KDC would, and the service that it is for.
func ticketFor(t *testing.T, enctype int32) (Ticket, *acceptor) {
	t.Helper()
	kt := keytab.New()
	if err := kt.AddEntry("rm/host.example", "EXAMPLE.COM", "service password", time.Now(), 1, enctype); err != nil {
		t.Fatal(err)
	}
	alice, now := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "alice"), time.Now().UTC()
	k, key, err := messages.NewTicket(alice, "EXAMPLE.COM", service, "EXAMPLE.COM", types.NewKrbFlags(), kt, enctype, 1, now, now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return Ticket{Realm: "EXAMPLE.COM", Client: alice, Ticket: k, Key: key}, &acceptor{keytab: kt, offer: 7}
}

// accept reads an AP-REQ token and gives the AP-REP token.
func (a *acceptor) accept(t *testing.T, token []byte) []byte {
	t.Helper()
	i := bytes.Index(token, append(slices.Clone(gssOID), isAPReq...))
	var req messages.APReq
	if i < 0 || token[0] != 0x60 {
		t.Fatalf("%x is no token", token[:20])
	}
	if err := req.Unmarshal(token[i+len(gssOID)+2:]); err != nil {
		t.Fatal(err)
	}
	if err := req.Ticket.DecryptEncPart(a.keytab, &service); err != nil {
		t.Fatal(err)
	}
	session := req.Ticket.DecryptedEncPart.Key
	if err := req.DecryptAuthenticator(session); err != nil {
		t.Fatal(err)
	}
	auth := req.Authenticator
	if !types.IsFlagSet(&req.APOptions, optionMutual) || binary.LittleEndian.Uint32(auth.Cksum.Checksum[20:])&14 != 14 {
		t.Error("neither a proof nor a sequence is asked for")
	}
	part := messages.EncAPRepPart{CTime: auth.CTime, Cusec: auth.Cusec + a.lie, SequenceNumber: 4711}
	a.context = &gssContext{key: session, in: uint64(auth.SeqNumber), out: 4711}
	if a.subkey {
		e, err := crypto.GetEtype(session.KeyType)
		if err != nil {
			t.Fatal(err)
		}
		if part.Subkey, err = types.GenerateEncryptionKey(e); err != nil {
			t.Fatal(err)
		}
		a.context.key, a.context.subkey = part.Subkey, true
	}
	var err error
	if a.context.etype, err = crypto.GetEtype(session.KeyType); err != nil {
		t.Fatal(err)
	}
	b, err := asn1.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(b, asnAppTag.EncAPRepPart), session, keyusage.AP_REP_ENCPART, 1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = asn1.Marshal(messages.APRep{PVNO: 5, MsgType: 15, EncPart: enc}); err != nil {
		t.Fatal(err)
	}
	return asn1tools.AddASNAppTag(bytes.Join([][]byte{gssOID, isAPRep, asn1tools.AddASNAppTag(b, asnAppTag.APREP)}, nil), 0)
}

// run plays a whole exchange, and gives both layers; nil for Auth.
func (a *acceptor) run(t *testing.T, g *GSS) (client, server Layer, err error) {
	t.Helper()
	token, done, err := g.Step(nil)
	if err != nil || done {
		t.Fatal(done, err)
	}
	if token, done, err = g.Step(a.accept(t, token)); err != nil {
		return nil, nil, err
	}
	if done || len(token) != 0 {
		t.Fatal("done too early")
	}
	offer, err := a.context.wrap([]byte{a.offer, 1, 0, 0}, false)
	if err != nil {
		t.Fatal(err)
	}
	if token, done, err = g.Step(offer); err != nil {
		return nil, nil, err
	}
	answer, err := a.context.unwrap(token, false)
	if err != nil || !done || len(answer) != 4 {
		t.Fatal(answer, done, err)
	}
	if answer[0] != 1 {
		server = &gssLayer{a.context, answer[0] == 4}
	}
	return g.Layer(), server, nil
}

func TestGSSExchange(t *testing.T) {
	for _, enctype := range []int32{etypeID.AES128_CTS_HMAC_SHA1_96, etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA256_128} { // the library makes session keys of type 20 too short to be used
		for _, allowed := range [][]QOP{{Auth}, {Integrity}, nil} {
			for _, subkey := range []bool{false, true} {
				k, a := ticketFor(t, enctype)
				a.subkey = subkey
				client, server, err := a.run(t, NewGSS(k, allowed))
				if err != nil {
					t.Fatal(enctype, allowed, err)
				}
				if (client == nil) != slices.Equal(allowed, []QOP{Auth}) || (server == nil) != (client == nil) {
					t.Error(allowed, client, server)
				}
				if client == nil {
					continue
				}
				for _, text := range []string{"", "a name of a file", strings.Repeat("long", 50_000)} {
					for _, way := range [][2]Layer{{client, server}, {server, client}} {
						token, err := way[0].Wrap([]byte(text))
						if err != nil {
							t.Fatal(err)
						}
						if allowed == nil && text != "" && bytes.Contains(token, []byte(text[:4])) {
							t.Error("sealed, and yet to be read")
						}
						if got, err := way[1].Unwrap(token); err != nil || string(got) != text {
							t.Fatal(enctype, allowed, len(got), err)
						}
					}
				}
			}
		}
	}
}

// SASL-2.
func TestServiceMustProveItself(t *testing.T) {
	k, a := ticketFor(t, etypeID.AES256_CTS_HMAC_SHA1_96)
	a.lie = 1
	if _, _, err := a.run(t, NewGSS(k, nil)); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
	k, a = ticketFor(t, etypeID.AES256_CTS_HMAC_SHA1_96)
	g := NewGSS(k, nil)
	token, _, _ := g.Step(nil)
	rep := a.accept(t, token)
	rep[len(rep)-1] ^= 1
	if _, _, err := g.Step(rep); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
}

// SASL-4.
func TestGSSProtection(t *testing.T) {
	k, a := ticketFor(t, etypeID.AES256_CTS_HMAC_SHA1_96)
	a.offer = 1
	if _, _, err := a.run(t, NewGSS(k, []QOP{Privacy})); !errors.Is(err, ErrProtection) {
		t.Error(err)
	}
}

// SASL-3.
func TestGSSLayers(t *testing.T) {
	for _, q := range []QOP{Integrity, Privacy} {
		for name, spoil := range map[string]func(one, two []byte) []byte{
			"changed":        func(one, _ []byte) []byte { one[20] ^= 1; return one },
			"its end":        func(one, _ []byte) []byte { one[len(one)-1] ^= 1; return one },
			"its flags":      func(one, _ []byte) []byte { one[2] ^= sealed; return one },
			"its direction":  func(one, _ []byte) []byte { one[2] ^= fromServer; return one },
			"its number":     func(one, _ []byte) []byte { one[15]++; return one },
			"its checksum":   func(one, _ []byte) []byte { one[5]++; return one },
			"left out":       func(_, two []byte) []byte { return two },
			"short":          func(one, _ []byte) []byte { return one[:17] },
			"a header alone": func(one, _ []byte) []byte { return one[:16] },
			"empty":          func(_, _ []byte) []byte { return nil },
		} {
			k, a := ticketFor(t, etypeID.AES256_CTS_HMAC_SHA1_96)
			client, server, err := a.run(t, NewGSS(k, []QOP{q}))
			if err != nil {
				t.Fatal(err)
			}
			one, _ := server.Wrap([]byte("the first of two"))
			two, _ := server.Wrap([]byte("the second of two"))
			if got, err := client.Unwrap(spoil(slices.Clone(one), two)); !errors.Is(err, ErrForged) {
				t.Errorf("%s, %s: %q %v", q, name, got, err)
			}
			if name != "changed" {
				continue
			}
			// Rotated, as other implementations than Java's write it.
			n := len(one) - gssHeader
			rotated := append(slices.Clone(one[:gssHeader]), append(slices.Clone(one[len(one)-5:]), one[gssHeader:len(one)-5]...)...)
			binary.BigEndian.PutUint16(rotated[6:], uint16(5+n))
			if got, err := client.Unwrap(rotated); err != nil || string(got) != "the first of two" {
				t.Errorf("%s, rotated: %q %v", q, got, err)
			}
			if _, err := client.Unwrap(one); !errors.Is(err, ErrForged) {
				t.Errorf("%s, repeated: %v", q, err)
			}
		}
	}
}

// SASL-1.
func FuzzGSSChallenge(f *testing.F) {
	t := &testing.T{}
	k, a := ticketFor(t, etypeID.AES128_CTS_HMAC_SHA1_96)
	g := NewGSS(k, nil)
	token, _, _ := g.Step(nil)
	f.Add(a.accept(t, token))
	f.Add([]byte{0x60, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		fresh := *g
		if _, done, err := fresh.Step(b); done {
			t.Fatal("done", err)
		}
		if fresh.context != nil {
			fresh.Step(b)
		}
		(&gssLayer{a.context, true}).Unwrap(b)
		(&gssLayer{a.context, false}).Unwrap(b)
	})
}
