package tcp_test

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// FuzzParseCredential: an endpoint file that was cut or written over is an error and never a panic.
func FuzzParseCredential(f *testing.F) {
	c := credential(f, "00112233445566778899aabbccddeeff", make([]byte, 32), fb.RoleClient)
	ca, cert, key, err := c.PEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca, cert, key)
	f.Add(cert, ca, key)
	f.Add(ca[:len(ca)/2], cert, key)
	f.Fuzz(func(t *testing.T, ca, cert, key []byte) {
		c, err := tcp.ParseCredential(ca, cert, key)
		if err == nil && (c.Cluster() == "" || c.Role() == 0) {
			t.Fatalf("accepted a credential of cluster %q, role %v", c.Cluster(), c.Role())
		}
	})
}
