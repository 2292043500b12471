package uds_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// FuzzFDConn reads any bytes, with and without a descriptor among them: Recv ends with an error or
// a message, and what came along is closed or the caller's.
func FuzzFDConn(f *testing.F) {
	body, err := wire.Marshal(nil, &fb.KeeperReadyT{Text: "t"})
	if err != nil {
		f.Fatal(err)
	}
	frame := make([]byte, wire.HeaderSize)
	wire.PutHeader(frame, wire.Header{Length: uint32(len(body)) + 3, Body: uint32(len(body)), Type: fb.FrameTypeKeeperReady, Class: wire.ClassControl, Message: 1})
	f.Add(append(append(frame, body...), "pay"...), 0)
	f.Add([]byte("garbage"), 3)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		parent, child, err := uds.Pair()
		if err != nil {
			t.Fatal(err)
		}
		c, err := uds.NewFDConn(child)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if len(b) > 60<<10 {
			b = b[:60<<10] // what a socket holds
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if at = max(at, 0) % (len(b) + 1); at > 0 {
			_, err = unix.Write(int(parent.Fd()), b[:at])
		}
		if err == nil && at < len(b) {
			err = unix.Sendmsg(int(parent.Fd()), b[at:], unix.UnixRights(int(null.Fd())), nil, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		null.Close()
		parent.Close()
		for {
			m, files, err := c.Recv()
			for _, file := range files {
				file.Close()
			}
			if err != nil {
				if files != nil || m.M != nil {
					t.Errorf("an error, and %T with %d descriptors", m.M, len(files))
				}
				return
			}
		}
	})
}
