package sasl

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// The example of RFC 2831, section 4: the same nonces and password must give the same proofs.
func TestExampleOfTheRFC(t *testing.T) {
	d := &Digest{User: "chris", Password: "secret", URI: "imap/elwood.innosoft.com", nonce: "OA6MHXh6VqTrRk"}
	r, done, err := d.Step([]byte(`realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8`))
	if err != nil || done || !strings.Contains(string(r), "response=d388dad90d4bbd760a152321f2143af7") || !strings.Contains(string(r), "nc=00000001") {
		t.Fatalf("%s %v %v", r, done, err)
	}
	if _, done, err = d.Step([]byte("rspauth=ea40f60335c427b5527b84dbabcdfffd")); err != nil || !done || d.Layer() != nil {
		t.Fatal(done, err)
	}
}

// exchange runs a whole exchange of a client that holds password with a server that expects "pw".
func exchange(password string, offer, allowed []QOP, cipher string) (client *Digest, server *DigestServer, err error) {
	client, server = TokenDigest([]byte("id\x00\xff"), []byte(password), "", "default", allowed), &DigestServer{ServerID: "default", Offer: offer, Cipher: cipher}
	r, _, err := client.Step(server.Challenge())
	if err != nil {
		return nil, nil, err
	}
	_, proof, err := server.Check(r, func(id []byte) ([]byte, bool) { return []byte("pw"), string(id) == "id\x00\xff" })
	if err != nil {
		return nil, nil, err
	}
	_, done, err := client.Step(proof)
	if err == nil && !done {
		err = errors.New("not done")
	}
	return client, server, err
}

// SASL-4.
func TestTheStrongestAllowedQualityIsTaken(t *testing.T) {
	all := []QOP{Auth, Integrity, Privacy}
	for _, c := range []struct {
		offer, allowed  []QOP
		plain, readable bool
	}{
		{[]QOP{Auth}, nil, true, true}, {all, nil, false, false}, {[]QOP{Auth, Integrity}, nil, false, true},
		{all, []QOP{Integrity}, false, true}, {all, []QOP{Auth}, true, true}, {[]QOP{Privacy}, all, false, false},
	} {
		client, server, err := exchange("pw", c.offer, c.allowed, "")
		if err != nil || (client.Layer() == nil) != c.plain || (server.Layer() == nil) != c.plain {
			t.Fatal(c, err)
		}
		if c.plain {
			continue
		}
		token, err := client.Layer().Wrap([]byte("a name of a file"))
		if err != nil || bytes.Contains(token, []byte("name")) != c.readable {
			t.Errorf("%v: %q %v", c, token, err)
		}
	}
	if _, _, err := exchange("pw", []QOP{Auth}, []QOP{Privacy}, ""); !errors.Is(err, ErrProtection) {
		t.Error(err)
	}
	if _, _, err := exchange("pw", []QOP{Privacy}, nil, "3des,des"); !errors.Is(err, ErrProtection) || !strings.Contains(err.Error(), "3des") {
		t.Error(err)
	}
}

// SASL-2: whoever answers with another secret than the token's is not believed.
func TestServerMustProveItself(t *testing.T) {
	if _, _, err := exchange("wrong", []QOP{Auth}, nil, ""); err == nil || !strings.Contains(err.Error(), "Mismatched") {
		t.Error("a wrong password was taken:", err)
	}
	client, server := TokenDigest([]byte("id"), []byte("pw"), "", "default", nil), &DigestServer{ServerID: "default", Offer: []QOP{Auth}}
	r, _, err := client.Step(server.Challenge())
	if err != nil {
		t.Fatal(err)
	}
	for _, proof := range []string{"", "rspauth=", "rspauth=00000000000000000000000000000000", string(r)} {
		c := *client
		if _, done, err := c.Step([]byte(proof)); done || err == nil {
			t.Errorf("%q was taken for a proof", proof)
		}
	}
}

// SASL-3, in both directions and for every cipher.
func TestLayers(t *testing.T) {
	for _, c := range []struct {
		qop    QOP
		cipher string
	}{{Integrity, ""}, {Privacy, "rc4"}, {Privacy, "rc4-56"}, {Privacy, "rc4-40"}} {
		pair := func() (Layer, Layer) {
			client, server, err := exchange("pw", []QOP{c.qop}, nil, c.cipher)
			if err != nil {
				t.Fatal(c, err)
			}
			return client.Layer(), server.Layer()
		}
		a, b := pair()
		for _, text := range []string{"", "x", strings.Repeat("long", 50_000)} {
			for _, way := range [][2]Layer{{a, b}, {b, a}} {
				token, err := way[0].Wrap([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := way[1].Unwrap(token); err != nil || string(got) != text {
					t.Fatalf("%v: %d bytes, %v", c, len(got), err)
				}
			}
		}
		for name, spoil := range map[string]func(one, two []byte) []byte{
			"changed":  func(one, _ []byte) []byte { one[0] ^= 1; return one },
			"its mac":  func(one, _ []byte) []byte { one[len(one)-8] ^= 1; return one },
			"left out": func(_, two []byte) []byte { return two },
			"short":    func(one, _ []byte) []byte { return one[:9] },
			"empty":    func(_, _ []byte) []byte { return nil },
		} {
			a, b := pair()
			one, _ := a.Wrap([]byte("first"))
			two, _ := a.Wrap([]byte("second"))
			if got, err := b.Unwrap(spoil(slices.Clone(one), two)); !errors.Is(err, ErrForged) {
				t.Errorf("%v, %s: %q, %v", c, name, got, err)
			}
		}
		a, b = pair()
		one, _ := a.Wrap([]byte("first"))
		if _, err := b.Unwrap(one); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Unwrap(one); !errors.Is(err, ErrForged) {
			t.Errorf("%v: repeated: %v", c, err)
		}
	}
}

// SASL-1.
func TestMalformedChallenges(t *testing.T) {
	for _, c := range []string{"", `nonce="x`, `=x`, `nonce`, `nonce="a",algorithm=md5`, `algorithm=md5-sess`, `qop="auth",nonce=a,algorithm="md5-sess\`, "\x00\xff"} {
		if r, _, err := TokenDigest(nil, nil, "", "default", nil).Step([]byte(c)); !errors.Is(err, ErrChallenge) {
			t.Errorf("%q was answered with %q, %v", c, r, err)
		}
	}
	f, err := directives(` a = "b\"\\,c" ,, d=e , a=2`)
	if err != nil || len(f) != 2 || f["a"] != `b"\,c` || f["d"] != "e" {
		t.Error(f, err)
	}
}

func FuzzDigestChallenge(f *testing.F) {
	f.Add([]byte(`realm="default",nonce="n",qop="auth,auth-conf",charset=utf-8,algorithm=md5-sess,cipher="rc4"`))
	f.Fuzz(func(t *testing.T, c []byte) {
		d := TokenDigest([]byte("id"), []byte("pw"), "", "default", nil)
		r, done, err := d.Step(c)
		if done || err == nil && len(r) == 0 {
			t.Fatal("done after the first challenge")
		}
		if fields, bad := directives(string(r)); err == nil && (bad != nil || fields["response"] == "") {
			t.Fatalf("%q is no response: %v", r, bad)
		}
	})
}
