package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// The way to another agent is measured as values go: over connections of the same kind and number, with the same questions
// and answers, but for what is read, which is no value. Who is asked for it by the head reads; the other side serves.

const (
	probeLeast = 20 * time.Millisecond // that a measurement takes
	probeMost  = 10 * time.Second
	probePiece = 1 << 20 // bytes that are read at once
	probeAhead = 4       // such reads on a connection
	probeSmall = 8       // bytes of a read that measures how long one takes
	probeReads = 200     // such reads at most
)

// probeAsked is what the head asks for: the way from another agent to this one.
type probeAsked struct {
	Agent     uint32   `json:"agent"`
	Addresses []string `json:"addresses"`
	Millis    int      `json:"ms"` // that the measurement takes
}

// jsonWay is what was measured (docs/spec/state.md).
type jsonWay struct {
	Carrier   string  `json:"carrier"`         // tls, clear: unencrypted, or a fabric as libfabric calls it
	Latency   float64 `json:"latency"`         // seconds that a read of 8 bytes takes, the median
	Bandwidth float64 `json:"bandwidth"`       // bytes in a second
	Streams   int     `json:"streams"`         // connections that had a part in it, or rails
	Error     string  `json:"error,omitempty"` // in place of numbers
}

// probing is a node's measurements. Safe for concurrent use.
type probing struct {
	busy   atomic.Bool    // this node reads
	piece  func() []byte  // that others read
	fabric *native.Fabric // nil: there is to be none
}

func newProbing(fabric *native.Fabric) *probing {
	return &probing{piece: sync.OnceValue(func() []byte { return make([]byte, probePiece) }), fabric: fabric}
}

// askWay measures the way from another agent, for the head.
func (l *loop) askWay(ctx context.Context, q *fb.StateQueryT, corr uint64) {
	l.goes(func() {
		ways, err := l.ways(ctx, q.Id)
		var text []byte
		if err == nil {
			text, err = json.Marshal(map[string]any{"version": 1, "ways": ways})
		}
		l.replyHead(ctx, corr, text, err)
	})
}

// ways measures it by TCP, and by the fabric if this node has one.
func (l *loop) ways(ctx context.Context, question string) ([]jsonWay, error) {
	var a probeAsked
	if err := json.Unmarshal([]byte(question), &a); err != nil {
		return nil, fmt.Errorf("agent: the way that was asked for: %w", err)
	}
	if !l.probing.busy.CompareAndSwap(false, true) {
		return nil, errors.New("another measurement is under way there; ask again when it is over")
	}
	defer l.probing.busy.Store(false)
	carrier := "clear"
	var lines []*probeLine
	defer func() {
		for _, p := range lines {
			p.stream.Cut()
			p.stream.Done()
		}
	}()
	dial := func(mayClear bool) error {
		conn, err := l.dialBulk(ctx, fb.PurposeProbe, a.Agent, 0, a.Addresses, mayClear)
		if err == nil {
			lines = append(lines, newProbeLine(conn))
		}
		return err
	}
	for range Streams() {
		if err := dial(l.mayClear()); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(lines, func(p *probeLine) bool { return !p.clear }) {
		carrier = "tls"
	}
	took := min(max(time.Duration(a.Millis)*time.Millisecond, probeLeast), probeMost)
	line, noFabric := l.probing.open(ctx)
	if line != nil {
		took /= 2
	}
	way, err := jsonWay{Carrier: carrier, Streams: len(lines)}, error(nil)
	if way.Latency, err = lines[0].latency(ctx, took/4); err != nil {
		return nil, err
	}
	if way.Bandwidth, err = bandwidth(ctx, lines, took-took/4); err != nil {
		return nil, err
	}
	ways := []jsonWay{way}
	switch {
	case line != nil:
		i := slices.IndexFunc(lines, func(p *probeLine) bool { return !p.clear })
		if i < 0 { // no key goes by these: the fabric that values go by is not open at this moment
			if err = dial(false); err != nil {
				ways = append(ways, jsonWay{Carrier: line.Here().Provider, Error: err.Error()})
				break
			}
			i = len(lines) - 1
		}
		ways = append(ways, fabricWay(ctx, lines[i], line, took))
	case noFabric != nil:
		ways = append(ways, jsonWay{Carrier: l.probing.fabric.Wish.Provider, Error: noFabric.Error()})
	}
	return ways, nil
}

// probeLine is a connection that a measurement reads by; its owner is one goroutine.
type probeLine struct {
	clear  bool // it is not encrypted
	stream *bulk.Stream
	ends   chan bulk.End
	into   []byte
}

func newProbeLine(conn net.Conn) *probeLine {
	p := &probeLine{clear: isClear(conn), ends: make(chan bulk.End, probeAhead+1), into: make([]byte, probePiece)}
	p.stream = bulk.NewStream(conn, func(e bulk.End) { p.ends <- e })
	return p
}

func (p *probeLine) ask(size int64) { p.stream.Ask(bulk.Range{Size: size}, p.into) }

// end waits for the end of the oldest read.
func (p *probeLine) end(ctx context.Context) error {
	select {
	case e := <-p.ends:
		if e.Why != "" {
			return errors.New(e.Why)
		}
		return e.Err
	case <-time.After(probeMost):
		return fmt.Errorf("nothing came for %v", probeMost)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// latency is the median of small reads, one after another.
func (p *probeLine) latency(ctx context.Context, most time.Duration) (seconds float64, err error) {
	var took []time.Duration
	for began := time.Now(); len(took) < probeReads && (len(took) < 3 || time.Since(began) < most); {
		at := time.Now()
		p.ask(probeSmall)
		if err := p.end(ctx); err != nil {
			return 0, err
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	return took[len(took)/2].Seconds(), nil
}

// bandwidth reads for some time by all lines and gives the bytes of a second.
func bandwidth(ctx context.Context, lines []*probeLine, most time.Duration) (float64, error) {
	var wait sync.WaitGroup
	var bytes atomic.Int64
	errs := make([]error, len(lines))
	began := time.Now()
	for i, p := range lines {
		wait.Go(func() {
			for range probeAhead {
				p.ask(probePiece)
			}
			for open := probeAhead; open > 0; open-- {
				if errs[i] = p.end(ctx); errs[i] != nil {
					return
				}
				bytes.Add(probePiece)
				if time.Since(began) < most {
					p.ask(probePiece)
					open++
				}
			}
		})
	}
	wait.Wait()
	return float64(bytes.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

// serveProbe answers another agent that measures; on a goroutine of its own.
func (l *loop) serveProbe(ctx context.Context, conn net.Conn, agent uint32) {
	if !l.desk.bulkConns.keep(conn, agent) {
		return
	}
	defer l.desk.bulkConns.letGo(conn)
	_ = bulk.Serve(conn, func(r bulk.Range, answer func(bulk.Piece)) {
		if r.Offset != 0 || r.Size > probePiece {
			answer(bulk.Piece{Why: fmt.Sprintf("a measurement reads %d bytes at once and no more", probePiece)})
			return
		}
		if !r.Locate || !l.probing.serveFar(ctx, answer) {
			answer(bulk.Piece{Bytes: l.probing.piece()[:r.Size]})
		}
	}, func() {}, ctx.Done()) // how it ends is told to who measures
}
