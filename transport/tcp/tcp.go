// Package tcp carries connections between nodes: TCP with mutual TLS 1.3 from the cluster's own
// certificate authority.
//
// An Authority is derived from the cluster's secret, so every process of the cluster makes the same
// one and mints a Credential for itself: a fresh key and a certificate whose URI names the cluster
// and the process's role. A client outside the allocation gets a Credential as PEM, never the
// secret. Dial sends the preamble in clear, then speaks TLS; Server speaks TLS on a connection whose
// preamble the keeper has read.
//
//	TCP-1: neither side sends or accepts a byte of a handshake before both certificates are proved.
//	TCP-2: a certificate of another cluster's authority, or none, is refused.
//
// Limits: certificates are valid from 2020 to 2120, since the clocks of nodes may be wrong; a key
// that leaked ends with its cluster.
package tcp

import (
	"context"
	"net"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Authority is the cluster's certificate authority. Whoever has it can be anybody.
type Authority struct{}

// NewAuthority derives the authority from the cluster's ID (32 hex digits) and secret (32 bytes).
func NewAuthority(cluster string, secret []byte) (*Authority, error) { return nil, nil }

// Credential mints a credential for a process of this role.
func (a *Authority) Credential(role fb.Role) (*Credential, error) { return nil, nil }

// Credential proves a role in a cluster, and checks the proofs of others.
type Credential struct{}

// PEM gives what ParseCredential reads. key is a secret.
func (c *Credential) PEM() (ca, cert, key []byte) { return nil, nil, nil }

// ParseCredential reads a credential that was kept as PEM.
func ParseCredential(ca, cert, key []byte) (*Credential, error) { return nil, nil }

// Cluster tells the cluster's ID.
func (c *Credential) Cluster() string { return "" }

// Dial connects to host:port, says who is wanted and proves both sides, all within ctx.
func Dial(ctx context.Context, addr string, c *Credential, p transport.Preamble) (transport.Conn, error) {
	return nil, nil
}

// Server proves both sides of a connection that came in and whose preamble was read. On error nc is
// closed.
func Server(ctx context.Context, nc net.Conn, c *Credential) (transport.Conn, error) {
	return nil, nil
}
