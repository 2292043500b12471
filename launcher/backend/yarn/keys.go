package yarn

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
	"os"
	"path/filepath"
	"time"
)

// The parties of an application, each of which has a key of its own.
const (
	partyMaster = "master"
	partyNode   = "node"
	partyClient = "client"
)

// keyOf derives a party's key from the cluster's secret. Who has one party's key finds neither the secret nor
// another's.
func keyOf(cluster string, secret []byte, party string) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, secret, []byte("maniple yarn "+party), cluster, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("yarn: the key of the %s: %w", party, err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// Access is what a client proves itself to the master with, and knows it by. Seed is a secret.
type Access struct {
	Seed   []byte `json:"seed"`
	Master []byte `json:"master"` // its public key
}

// NewAccess makes a client's access to the application with this cluster ID and secret.
func NewAccess(cluster string, secret []byte) (*Access, error) {
	client, err := keyOf(cluster, secret, partyClient)
	if err != nil {
		return nil, err
	}
	master, err := keyOf(cluster, secret, partyMaster)
	if err != nil {
		return nil, err
	}
	return &Access{Seed: client.Seed(), Master: master.Public().(ed25519.PublicKey)}, nil
}

// config is one side of TLS: own proves this side, and the other must have one of the keys in peers.
func config(own ed25519.PrivateKey, peers ...ed25519.PublicKey) (*tls.Config, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maniple"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	if err != nil {
		return nil, fmt.Errorf("yarn: certificate: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}},
		// Names and clocks mean nothing here: the key is the whole proof.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, p := range peers {
				if p.Equal(peerKey(s)) {
					return nil
				}
			}
			return errors.New("the peer is not of this application")
		},
	}, nil
}

// peerKey is the key that the other side has proved to have.
func peerKey(s tls.ConnectionState) ed25519.PublicKey {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	key, _ := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey) // nil: equal to none
	return key
}

// replace writes a file beside the one at path and puts it in its place.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tokens-*") // 0600
	if err != nil {
		return fmt.Errorf("yarn: take the secret out of the token file: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("yarn: take the secret out of the token file: %w", err)
	}
	return nil
}
