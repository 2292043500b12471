package tcp

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// The time for which all certificates are valid, and a moment in it at which they are checked.
var (
	validFrom = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	validTo   = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
	checkedAt = time.Date(2070, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Authority is the cluster's certificate authority. Whoever has it can be anybody.
type Authority struct {
	cluster string
	key     ed25519.PrivateKey
	cert    *x509.Certificate
}

// NewAuthority derives the authority from the cluster's ID (32 hex digits) and secret (32 bytes).
// Equal arguments give equal bytes, on every node.
func NewAuthority(cluster string, secret []byte) (*Authority, error) {
	if cluster == "" || strings.ContainsAny(cluster, "/?#%@:") {
		return nil, fmt.Errorf("tcp: authority: %q is no cluster ID", cluster)
	}
	if len(secret) < 16 {
		return nil, fmt.Errorf("tcp: authority: a secret of %d bytes is too short", len(secret))
	}
	seed, err := hkdf.Key(sha256.New, secret, []byte("maniple ca"), cluster, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("tcp: authority: %w", err)
	}
	a := &Authority{cluster: cluster, key: ed25519.NewKeyFromSeed(seed)}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "maniple cluster " + cluster},
		NotBefore:             validFrom,
		NotAfter:              validTo,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("tcp: authority: %w", err)
	}
	return a, nil
}

// Credential mints a credential for a process of this role: a new key each time.
func (a *Authority) Credential(role fb.Role) (*Credential, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	name, err := roleName(role)
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(2)),
		Subject:      pkix.Name{CommonName: "maniple " + name},
		NotBefore:    validFrom,
		NotAfter:     validTo,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{{Scheme: "maniple", Host: a.cluster, Path: "/" + name}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	return newCredential(a.cert, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

func roleName(r fb.Role) (string, error) {
	switch r {
	case fb.RoleHead, fb.RoleAgent, fb.RoleClient:
		return strings.ToLower(r.String()), nil
	}
	return "", fmt.Errorf("%s is no role that has a certificate", r)
}

// identity reads what a certificate says; who signed it is checked elsewhere.
func identity(cert *x509.Certificate) (cluster string, role fb.Role, err error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "maniple" {
		return "", 0, errors.New("certificate without a maniple URI")
	}
	u := cert.URIs[0]
	for _, r := range []fb.Role{fb.RoleHead, fb.RoleAgent, fb.RoleClient} {
		if name, _ := roleName(r); u.Path == "/"+name {
			return u.Host, r, nil
		}
	}
	return "", 0, fmt.Errorf("certificate with role %q", u.Path)
}
