package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// udsPair and tcpPair connect two ends over real sockets.
func udsPair(b testing.TB) (x, y transport.Conn) {
	path := filepath.Join(b.TempDir(), "s")
	ln, err := uds.Listen(path)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	x, err = uds.Dial(context.Background(), path)
	if err != nil {
		b.Fatal(err)
	}
	nc, err := ln.AcceptUnix()
	if err == nil {
		y, err = uds.Server(nc)
	}
	if err != nil {
		b.Fatal(err)
	}
	return x, y
}

func tcpPair(b testing.TB) (x, y transport.Conn) {
	a, err := tcp.NewAuthority("c0ffee", bytes.Repeat([]byte{1}, 32))
	if err != nil {
		b.Fatal(err)
	}
	cred := func(r fb.Role) *tcp.Credential {
		c, err := a.Credential(r)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	dialled := make(chan error, 1)
	go func() {
		var err error
		x, err = tcp.Dial(context.Background(), ln.Addr().String(), cred(fb.RoleAgent), transport.Preamble{Role: fb.RoleHead})
		dialled <- err
	}()
	nc, err := ln.Accept()
	if err == nil {
		_, err = transport.ReadPreamble(nc)
	}
	if err == nil {
		y, err = tcp.Server(context.Background(), nc, cred(fb.RoleHead))
	}
	if err := errors.Join(err, <-dialled); err != nil {
		b.Fatal(err)
	}
	return x, y
}

// linked makes two links on a pair of connections.
func linked(b testing.TB, pair func(testing.TB) (x, y transport.Conn), x, y transport.LinkConfig) (lx, ly *transport.Link) {
	cx, cy := pair(b)
	lx, ly = transport.NewLink(x), transport.NewLink(y)
	w := &fb.WelcomeT{Session: 1}
	if err := errors.Join(lx.Attach(cx, w, 0), ly.Attach(cy, w, 0)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		lx.Kill(nil)
		ly.Kill(nil)
		<-lx.Done()
		<-ly.Done()
	})
	return lx, ly
}

// BenchmarkLink sends one way as fast as the link takes it.
func BenchmarkLink(b *testing.B) {
	pairs := []struct {
		name string
		pair func(testing.TB) (x, y transport.Conn)
	}{{"uds", udsPair}, {"tcp+tls", tcpPair}}
	for _, p := range pairs {
		for _, size := range []int{0, 1 << 10, 32 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/payload=%d", p.name, size), func(b *testing.B) {
				room := make(chan struct{}, 1)
				all := make(chan struct{})
				got, want := 0, b.N
				lx, _ := linked(b, p.pair,
					transport.LinkConfig{OnRoom: func(wire.Class) { room <- struct{}{} }},
					transport.LinkConfig{OnMessage: func(transport.Msg) {
						if got++; got == want {
							close(all)
						}
					}})
				var m wire.Message = &fb.GetT{Object: &fb.ObjectIDT{Task: &fb.TaskIDT{}}}
				if size > 0 {
					m = &fb.RankOutputT{Stream: 1}
				}
				payload := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; i < b.N; {
					err := lx.Send(m, 0, payload)
					switch {
					case err == nil:
						i++
					case errors.Is(err, transport.ErrBudget):
						<-room
					default:
						b.Fatal(err)
					}
				}
				<-all
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			})
		}
	}
}

// BenchmarkRoundTrip is a query and its reply.
func BenchmarkRoundTrip(b *testing.B) {
	for _, p := range []struct {
		name string
		pair func(testing.TB) (x, y transport.Conn)
	}{{"uds", udsPair}, {"tcp+tls", tcpPair}} {
		b.Run(p.name, func(b *testing.B) {
			back := make(chan struct{}, 1)
			var ly *transport.Link
			var lx *transport.Link
			m := &fb.BlockedT{Task: &fb.TaskIDT{}}
			lx, ly = linked(b, p.pair,
				transport.LinkConfig{OnMessage: func(transport.Msg) { back <- struct{}{} }},
				transport.LinkConfig{OnMessage: func(transport.Msg) { _ = ly.Send(m, 0, nil) }})
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := lx.Send(m, 0, nil); err != nil {
					b.Fatal(err)
				}
				<-back
			}
		})
	}
}

// TestSteadyStateAllocations holds the cost of a small message: what it is decoded into, and little
// more.
func TestSteadyStateAllocations(t *testing.T) {
	r := testing.Benchmark(func(b *testing.B) {
		x, y := transport.NewLinkCore(transport.LinkCoreConfig{}), transport.NewLinkCore(transport.LinkCoreConfig{})
		attach := &transport.LinkEvent{Kind: transport.LinkAttach, Session: 1}
		var out, out2 []transport.LinkEffect
		x.Step(1, attach, nil)
		y.Step(1, attach, nil)
		m := &fb.GetT{Object: &fb.ObjectIDT{Task: &fb.TaskIDT{}}}
		var data []byte
		ev := new(transport.LinkEvent)
		b.ReportAllocs()
		for i := range b.N {
			now := int64(i) * int64(time.Microsecond)
			*ev = transport.LinkEvent{Kind: transport.LinkSend, Msg: transport.Msg{M: m}}
			out = x.Step(now, ev, out[:0])
			*ev = transport.LinkEvent{Kind: transport.LinkRoom, Bytes: 1 << 16}
			out = x.Step(now, ev, out[:0])
			for j := range out {
				data = append(data[:0], out[j].Body...)
				*ev = transport.LinkEvent{Kind: transport.LinkFrame, Header: out[j].Header, Data: data}
				out2 = y.Step(now, ev, out2[:0])
				for k := range out2 {
					*ev = transport.LinkEvent{Kind: transport.LinkConsumed, Msg: out2[k].Msg}
					y.Step(now, ev, nil)
				}
			}
			if y.Ready(now) {
				*ev = transport.LinkEvent{Kind: transport.LinkRoom, Bytes: 1 << 16}
				out = y.Step(now, ev, out[:0])
				for j := range out {
					data = append(data[:0], out[j].Body...)
					*ev = transport.LinkEvent{Kind: transport.LinkFrame, Header: out[j].Header, Data: data}
					x.Step(now, ev, nil)
				}
			}
		}
	})
	// GetT holds an ObjectIDT, which holds a TaskIDT: three objects.
	if a := r.AllocsPerOp(); a > 4 {
		t.Errorf("%d allocations for a small message from core to core", a)
	}
	t.Logf("core to core: %v", r)
}
