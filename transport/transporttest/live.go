package transporttest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// loop stands for the main loop of a process.
type loop struct {
	turns atomic.Uint64
	stuck atomic.Bool
}

func (l *loop) turn(ctx context.Context) (uint64, error) {
	if l.stuck.Load() {
		<-ctx.Done()
	}
	return l.turns.Add(1), ctx.Err()
}

func do(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	return done
}

// testLiveness: a loop that turns keeps its process alive, also over a connection that breaks; a
// loop that stands still does not, although its connection lives.
func testLiveness(t *testing.T, w World) {
	const deadline = 400 * time.Millisecond
	var there, here loop
	ctx, cancel := context.WithCancel(context.Background())
	conns := make(chan transport.Conn, 100)
	site := do(func() {
		watch := transport.NewLiveness(transport.LivenessConfig{Turns: there.turn, Interval: deadline / 20})
		for {
			conn, err := w.Accept()
			if err != nil {
				return
			}
			_, _, err = transport.Answer(conn, func(*fb.HelloT, transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
				return &fb.WelcomeT{}, nil
			})
			if err != nil {
				t.Errorf("liveness handshake: %v", err)
			}
			conns <- conn
			_ = watch.Serve(ctx, conn)
		}
	})
	var silent atomic.Bool
	watch := transport.NewLiveness(transport.LivenessConfig{
		Turns: here.turn, Interval: deadline / 20, Deadline: deadline,
		OnSilent: func() { silent.Store(true) },
	})
	keep := do(func() { _ = watch.Keep(ctx, w.Dial, Hello) })
	end := make(chan error, 1)
	run := do(func() { end <- watch.Run(ctx) })
	defer func() { w.Close(); cancel(); <-site; <-keep; <-run }()

	wait := func(d time.Duration) {
		select {
		case err := <-end:
			t.Fatalf("LIVE-1: after %d turns the peer is called silent: %v", there.turns.Load(), err)
		case <-time.After(d):
		}
	}
	wait(2 * deadline)
	(<-conns).Close()
	wait(2 * deadline)
	if len(conns) == 0 {
		t.Fatal("no new connection after the first broke")
	}
	there.stuck.Store(true)
	wait(deadline / 4) // a short stop is no death
	select {
	case err := <-end:
		if !errors.Is(err, transport.ErrSilent) || !silent.Load() {
			t.Errorf("ended with %v, told %v", err, silent.Load())
		}
	case <-time.After(patience):
		t.Error("a loop that stands still was not noticed")
	}
}
