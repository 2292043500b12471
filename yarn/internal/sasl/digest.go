package sasl

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Digest is DIGEST-MD5 (RFC 2831) as Hadoop's tokens use it.
type Digest struct {
	User, Password string // base64 of the token's identifier and password
	URI            string // protocol + "/" + server ID of the server's offer
	Allowed        []QOP  // nil: all

	nonce  string // the client's; random if empty
	expect string
	layer  Layer
	step   int
}

// TokenDigest gives the mechanism for a token at a server that calls itself protocol/serverID.
func TokenDigest(identifier, password []byte, protocol, serverID string, allowed []QOP) *Digest {
	return &Digest{
		User: base64.StdEncoding.EncodeToString(identifier), Password: base64.StdEncoding.EncodeToString(password),
		URI: protocol + "/" + serverID, Allowed: allowed,
	}
}

// Layer is nil before the exchange is done, and when the quality is Auth.
func (d *Digest) Layer() Layer { return d.layer }

// Step answers the challenge with the nonce, then checks the server's proof.
func (d *Digest) Step(challenge []byte) ([]byte, bool, error) {
	d.step++
	fields, err := directives(string(challenge))
	if err != nil {
		return nil, false, err
	}
	if d.step == 1 {
		r, err := d.respond(fields)
		return r, false, err
	}
	got := fields["rspauth"]
	if d.step > 2 || subtle.ConstantTimeCompare([]byte(got), []byte(d.expect)) != 1 {
		return nil, false, fmt.Errorf("sasl: DIGEST-MD5: %w", ErrServer)
	}
	return nil, true, nil
}

func (d *Digest) respond(fields map[string]string) ([]byte, error) {
	nonce, realm := fields["nonce"], fields["realm"]
	if nonce == "" || fields["algorithm"] != "md5-sess" {
		return nil, fmt.Errorf("sasl: DIGEST-MD5: %w: no nonce, or an algorithm other than md5-sess", ErrChallenge)
	}
	offered := []QOP{}
	for _, q := range words(fields["qop"]) {
		offered = append(offered, QOP(q))
	}
	if len(offered) == 0 {
		offered = []QOP{Auth} // RFC 2831, 2.1.1: if it is missing
	}
	qop, err := choose(offered, d.Allowed)
	if err != nil {
		return nil, fmt.Errorf("sasl: DIGEST-MD5: %w", err)
	}
	cipher := ""
	if qop == Privacy {
		ciphers := words(fields["cipher"])
		for _, c := range []string{"rc4", "rc4-56", "rc4-40"} {
			if slices.Contains(ciphers, c) {
				cipher = c
				break
			}
		}
		if cipher == "" {
			return nil, fmt.Errorf("sasl: DIGEST-MD5: %w: the server offers the ciphers %q and none of RC4", ErrProtection, ciphers)
		}
	}
	if d.nonce == "" {
		random := make([]byte, 24)
		rand.Read(random)
		d.nonce = base64.StdEncoding.EncodeToString(random)
	}
	k := digestKeys{user: d.User, realm: realm, password: d.Password, nonce: nonce, cnonce: d.nonce, qop: qop, uri: d.URI}
	d.expect = k.proof("")
	if d.layer, err = k.layer(cipher, true); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `charset=utf-8,username=%s,realm=%s,nonce=%s,nc=00000001,cnonce=%s,digest-uri=%s,maxbuf=65536,response=%s,qop=%s`,
		quote(d.User), quote(realm), quote(nonce), quote(d.nonce), quote(d.URI), k.proof("AUTHENTICATE"), qop)
	if cipher != "" {
		fmt.Fprintf(&b, ",cipher=%s", quote(cipher))
	}
	return []byte(b.String()), nil
}

// digestKeys are what both sides compute the proofs and keys from.
type digestKeys struct {
	user, realm, password, nonce, cnonce, uri string
	qop                                       QOP
}

// secret is H(A1).
func (k digestKeys) secret() []byte {
	inner := md5.Sum([]byte(k.user + ":" + k.realm + ":" + k.password))
	outer := md5.Sum(append(inner[:], ":"+k.nonce+":"+k.cnonce...))
	return outer[:]
}

// proof is the client's response, with verb AUTHENTICATE, or the server's rspauth, with none.
func (k digestKeys) proof(verb string) string {
	a2 := verb + ":" + k.uri
	if k.qop != Auth {
		a2 += ":00000000000000000000000000000000"
	}
	h2 := md5.Sum([]byte(a2))
	sum := md5.Sum([]byte(hex.EncodeToString(k.secret()) + ":" + k.nonce + ":00000001:" + k.cnonce + ":" + string(k.qop) + ":" + hex.EncodeToString(h2[:])))
	return hex.EncodeToString(sum[:])
}

// directives reads `a="b",c=d`; the value of a name that comes twice is the first one.
func directives(s string) (map[string]string, error) {
	out := map[string]string{}
	for s = strings.TrimLeft(s, ", \t\r\n"); s != ""; s = strings.TrimLeft(s, ", \t\r\n") {
		name, rest, ok := strings.Cut(s, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, `",`) {
			return nil, fmt.Errorf("sasl: DIGEST-MD5: %w: %.40q", ErrChallenge, s)
		}
		value := ""
		rest = strings.TrimLeft(rest, " \t")
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				b.WriteByte(rest[i])
			}
			if i >= len(rest) {
				return nil, fmt.Errorf("sasl: DIGEST-MD5: %w: a quote is open", ErrChallenge)
			}
			value, rest = b.String(), rest[i+1:]
		} else {
			value, rest, _ = strings.Cut(rest, ",")
			value = strings.TrimSpace(value)
		}
		if _, twice := out[name]; !twice {
			out[name] = value
		}
		s = rest
	}
	return out, nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// quote is a quoted string of RFC 2831.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
