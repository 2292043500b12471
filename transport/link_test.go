package transport_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/simnet"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// simWorld is a world on a network in memory that the test may disturb.
func simWorld(t testing.TB, seed uint64, shape simnet.Shape) (*simnet.Net, transporttest.World) {
	n := simnet.New(seed)
	n.Shape("", "", shape)
	ln, err := n.Listen("site")
	if err != nil {
		t.Fatal(err)
	}
	return n, transporttest.World{
		Accept: ln.Accept,
		Close:  func() { ln.Close() },
		Dial: func(ctx context.Context) (transport.Conn, error) {
			return n.Dial(ctx, "dialler", "site", transport.Peer{Role: fb.RoleAgent, UID: -1}, transport.Peer{Role: fb.RoleHead, UID: -1})
		},
	}
}

func offset(m transport.Msg) uint64 { return m.M.(*fb.RankOutputT).Offset }

// TestLinkFaults runs links over networks that break connections, lose writes and cut bytes, and
// asserts that everything arrives once and in order all the same.
func TestLinkFaults(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				shape := simnet.Shape{
					Latency: time.Duration(r.IntN(5)) * time.Millisecond,
					Jitter:  time.Duration(r.IntN(5)) * time.Millisecond,
					Break:   0.02 * r.Float64(),
					Loss:    0.01 * r.Float64(),
					Chop:    []int{0, 7, 1000}[r.IntN(3)],
				}
				if shape.Chop > 0 {
					shape.Loss = 0 // what loses bytes inside a frame is neither TCP nor TLS, and may look like another frame
				}
				_, w := simWorld(t, seed, shape)
				quick := func(c *transport.LinkConfig) { c.Core.AckTimeout = 200 * time.Millisecond }
				s := transporttest.NewSite(t, w, quick)
				d := transporttest.Dial(t, w, quick, nil)
				const n = 300
				for i := range uint64(n) {
					if err := d.Link.Send(&fb.RankOutputT{Offset: i}, 0, make([]byte, r.IntN(3000))); err != nil {
						t.Fatal(err)
					}
					if err := s.Link.Send(&fb.RankOutputT{Offset: i}, 0, make([]byte, r.IntN(300))); err != nil {
						t.Fatal(err)
					}
				}
				for i, m := range s.Inbox.Take(t, n) {
					if offset(m) != uint64(i) {
						t.Fatalf("LINK-1: message %d to the site is %d", i, offset(m))
					}
				}
				for i, m := range d.Inbox.Take(t, n) {
					if offset(m) != uint64(i) {
						t.Fatalf("LINK-1: message %d from the site is %d", i, offset(m))
					}
				}
			})
		})
	}
}

// TestLinkPartition: a partition that heals loses nothing, and one that lasts is found by the
// acknowledgements that do not come.
func TestLinkPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := simWorld(t, 1, simnet.Shape{Latency: time.Millisecond})
		s := transporttest.NewSite(t, w, nil)
		d := transporttest.Dial(t, w, nil, nil)
		send := func(i uint64) {
			t.Helper()
			if err := d.Link.Send(&fb.RankOutputT{Offset: i}, 0, nil); err != nil {
				t.Fatal(err)
			}
		}
		send(0)
		s.Inbox.Take(t, 1)
		n.Partition("dialler", "site", true)
		send(1)
		<-time.After(3 * time.Second)
		if len(s.Inbox.Msgs) != 0 || len(d.Inbox.Downs) != 0 {
			t.Fatalf("during the partition %d messages came, down %v", len(s.Inbox.Msgs), d.Inbox.Downs)
		}
		n.Partition("dialler", "site", false)
		s.Inbox.Take(t, 1)

		n.Partition("dialler", "site", true)
		send(2)
		<-time.After(30 * time.Second)
		if len(d.Inbox.Downs) == 0 || !errors.Is(d.Inbox.Downs[0], transport.ErrStalled) {
			t.Fatalf("after 30 s without an acknowledgement: %v", d.Inbox.Downs)
		}
		n.Partition("dialler", "site", false)
		if got := offset(s.Inbox.Take(t, 1)[0]); got != 2 {
			t.Errorf("message %d came", got)
		}
	})
}

// TestLinkManualCredit: with Manual the owner queues what came; the windows bound its queue.
func TestLinkManualCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := simWorld(t, 1, simnet.Shape{})
		s := transporttest.NewSite(t, w, func(c *transport.LinkConfig) {
			c.Manual = true
			c.Core.Window[wire.ClassData] = 10000
		})
		d := transporttest.Dial(t, w, func(c *transport.LinkConfig) { c.Core.Window[wire.ClassData] = 10000 }, nil)
		for i := range uint64(100) {
			if err := d.Link.Send(&fb.RankOutputT{Offset: i}, 0, make([]byte, 900)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := len(s.Inbox.Msgs); n < 5 || n > 12 {
			t.Fatalf("LINK-4: %d messages of 1000 bytes came for a window of 10000", n)
		}
		for got := 0; got < 100; {
			for _, m := range s.Inbox.Take(t, 1) {
				if offset(m) != uint64(got) {
					t.Fatalf("message %d is %d", got, offset(m))
				}
				s.Link.Consumed(m)
				got++
			}
		}
	})
}

// With KeepBody a message comes with its body, whether that came in one piece or in several.
func TestLinkKeepsBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := simWorld(t, 1, simnet.Shape{})
		s := transporttest.NewSite(t, w, func(c *transport.LinkConfig) { c.Core.KeepBody = true })
		d := transporttest.Dial(t, w, nil, nil)
		for _, text := range []string{"short", strings.Repeat("long", 60_000), "last"} {
			if err := d.Link.Send(&fb.NoticeT{Text: text}, 0, []byte("beside it")); err != nil {
				t.Fatal(err)
			}
			if err := s.Link.Send(&fb.NoticeT{Text: text}, 0, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range s.Inbox.Take(t, 3) {
			again, err := wire.Unmarshal(wire.TypeOf(m.M), m.Body)
			if err != nil || again.(*fb.NoticeT).Text != m.M.(*fb.NoticeT).Text || len(m.Body) < len(m.M.(*fb.NoticeT).Text) {
				t.Errorf("a body of %d bytes, %v", len(m.Body), err)
			}
		}
		for _, m := range d.Inbox.Take(t, 3) {
			if m.Body != nil {
				t.Error("a body that nobody wanted")
			}
		}
	})
}

// TestDialerOrder: addresses are tried in order, the next one when one fails.
func TestDialerOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := simWorld(t, 1, simnet.Shape{})
		s := transporttest.NewSite(t, w, nil)
		link := transport.NewLink(transport.LinkConfig{})
		var tried []string
		began := time.Now()
		var at []time.Duration
		ctx, cancel := context.WithCancel(context.Background())
		d := &transport.Dialer{
			Link:      link,
			Addresses: func() []string { return []string{"a", "b", "c"} },
			Dial: func(ctx context.Context, addr string) (transport.Conn, error) {
				tried = append(tried, addr)
				at = append(at, time.Since(began))
				if len(tried) < 8 {
					return nil, errors.New("nobody there")
				}
				return w.Dial(ctx)
			},
			Hello: transporttest.Hello,
		}
		end := make(chan error)
		go func() { end <- d.Run(ctx) }()
		s.Inbox.Wait(t, "a connection", func() bool { return len(s.Inbox.Ups) > 0 })
		if fmt.Sprint(tried) != "[a b c a b c a b]" {
			t.Errorf("tried %v", tried)
		}
		if at[2] != at[0] || at[3]-at[2] < 25*time.Millisecond || at[6]-at[5] < 50*time.Millisecond {
			t.Errorf("waits: %v", at)
		}
		cancel()
		if err := <-end; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		link.Kill(nil)
		<-link.Done()
	})
}

// TestDialerGivesUp: a refusal that can't pass ends the dialer; Busy does not.
func TestDialerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := simWorld(t, 1, simnet.Shape{})
		transporttest.NewSite(t, w, nil)
		link := transport.NewLink(transport.LinkConfig{})
		defer func() { link.Kill(nil); <-link.Done() }()
		d := &transport.Dialer{
			Link:      link,
			Addresses: func() []string { return []string{"site"} },
			Dial:      func(ctx context.Context, _ string) (transport.Conn, error) { return w.Dial(ctx) },
			Hello:     func() *fb.HelloT { h := transporttest.Hello(); h.Agent = transporttest.DeadOne; return h },
		}
		err := d.Run(context.Background())
		var refused *transport.RefusedError
		if !errors.As(err, &refused) || refused.Code != fb.RefuseCodeDead {
			t.Errorf("ended with %v", err)
		}
		if (&transport.RefusedError{Code: fb.RefuseCodeBusy}).Final() {
			t.Error("busy is final")
		}
	})
}
