package simnet_test

import (
	"context"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/simnet"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// shapes are the networks on which the suite runs.
var shapes = map[string]simnet.Shape{
	"Perfect":  {},
	"Far":      {Latency: 20 * time.Millisecond, Jitter: 5 * time.Millisecond},
	"Slow":     {Latency: time.Millisecond, Bandwidth: 20 << 20},
	"Breaking": {Latency: time.Millisecond, Break: 0.01},
	"Choppy":   {Chop: 1000, Latency: time.Microsecond},
}

func world(shape simnet.Shape) func(t testing.TB) transporttest.World {
	return func(t testing.TB) transporttest.World {
		n := simnet.New(42)
		n.Shape("", "", shape)
		ln, err := n.Listen("site")
		if err != nil {
			t.Fatal(err)
		}
		self := transport.Peer{Role: fb.RoleAgent, Cluster: transporttest.Cluster, UID: -1, Addr: "dialler"}
		return transporttest.World{
			Accept: ln.Accept,
			Close:  func() { ln.Close() },
			Dial: func(ctx context.Context) (transport.Conn, error) {
				return n.Dial(ctx, "dialler", "site", self, transport.Peer{Role: fb.RoleHead, Addr: "site"})
			},
		}
	}
}

func TestConformance(t *testing.T) {
	for _, name := range []string{"Perfect", "Far", "Slow", "Choppy"} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, transporttest.Carrier{New: world(shapes[name]), Bubble: true})
		})
	}
}
