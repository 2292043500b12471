package tcp

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Credential proves a role in a cluster, and checks the proofs of others. It is immutable.
type Credential struct {
	cluster string
	role    fb.Role
	ca      *x509.Certificate
	roots   *x509.CertPool
	leaf    tls.Certificate
}

func newCredential(ca *x509.Certificate, leaf tls.Certificate) (*Credential, error) {
	cert, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	leaf.Leaf = cert
	c := &Credential{ca: ca, roots: x509.NewCertPool(), leaf: leaf}
	c.roots.AddCert(ca)
	if c.cluster, c.role, err = identity(cert); err == nil {
		_, _, err = c.prove([]*x509.Certificate{cert})
	}
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	return c, nil
}

// Cluster tells the cluster's ID.
func (c *Credential) Cluster() string { return c.cluster }

// Role tells what the credential proves.
func (c *Credential) Role() fb.Role { return c.role }

// PEM gives what ParseCredential reads. key is a secret.
func (c *Credential) PEM() (ca, cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.leaf.PrivateKey)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("tcp: credential: %w", err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return block("CERTIFICATE", c.ca.Raw), block("CERTIFICATE", c.leaf.Certificate[0]), block("PRIVATE KEY", der), nil
}

// ParseCredential reads a credential that was kept as PEM.
func ParseCredential(ca, cert, key []byte) (*Credential, error) {
	leaf, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	if _, ok := leaf.PrivateKey.(ed25519.PrivateKey); !ok {
		return nil, errors.New("tcp: credential: not an ed25519 key")
	}
	block, _ := pem.Decode(ca)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("tcp: credential: the authority is no certificate in PEM")
	}
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("tcp: credential: %w", err)
	}
	if !authority.IsCA {
		return nil, errors.New("tcp: credential: the authority's certificate is no authority's")
	}
	return newCredential(authority, leaf)
}

// prove checks that the cluster's authority signed the certificate, and tells whose it is.
func (c *Credential) prove(certs []*x509.Certificate) (string, fb.Role, error) {
	if len(certs) == 0 {
		return "", 0, errors.New("the peer has no certificate")
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots:       c.roots,
		CurrentTime: checkedAt,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", 0, fmt.Errorf("the peer is not of this cluster: %w", err)
	}
	cluster, role, err := identity(certs[0])
	if err == nil && cluster != c.cluster {
		err = fmt.Errorf("the peer is of cluster %s, this process of %s", cluster, c.cluster)
	}
	return cluster, role, err
}

// config is for one side of TLS; want is the role that the peer must have, None: any.
func (c *Credential) config(want fb.Role) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{c.leaf},
		ClientAuth:   tls.RequireAnyClientCert,
		// Names and clocks mean nothing here: VerifyConnection is the whole proof, on both sides.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, role, err := c.prove(s.PeerCertificates)
			if err == nil && want != fb.RoleNone && role != want {
				err = fmt.Errorf("the peer is %s, not %s", role, want)
			}
			return err
		},
		SessionTicketsDisabled:      true, // a connection lives long, and a ticket is one more secret
		DynamicRecordSizingDisabled: true,
	}
}
