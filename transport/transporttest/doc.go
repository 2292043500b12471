// Package transporttest is the suite that every carrier passes, and the small world that it makes:
// a Site that answers handshakes as a head does, and links that dial it.
//
// A carrier's test gives a Carrier: how to accept, how to dial, and which strangers there are. Run
// runs all cases, inside testing/synctest bubbles if the carrier has no real sockets.
package transporttest

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"github.com/maniple-hpc/maniple/transport"
)

// Carrier makes worlds of one kind.
type Carrier struct {
	New    func(t testing.TB) World // cleans up with t.Cleanup
	Bubble bool                     // no real sockets: cases run in synctest bubbles
}

// World is one place that can be dialled.
type World struct {
	Accept func() (transport.Conn, error) // next connection whose peer is proved; an error is one that was not, or net.ErrClosed
	Dial   func(context.Context) (transport.Conn, error)
	Close  func() // ends Accept

	// Raw connects without any proof, as a stranger with netcat would. Nil: the carrier has no such way.
	Raw func(context.Context) (net.Conn, error)
	// Strangers dial with what does not prove them.
	Strangers []Stranger
}

// Stranger is somebody whom the carrier itself keeps out.
type Stranger struct {
	Name string
	Dial func(context.Context) (transport.Conn, error)
}

type testCase struct {
	name string
	run  func(t *testing.T, w World)
}

// Run runs the suite.
func Run(t *testing.T, c Carrier) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if !c.Bubble {
				tc.run(t, c.New(t))
				return
			}
			synctest.Test(t, func(t *testing.T) { tc.run(t, c.New(t)) })
		})
	}
}
