package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/native"
)

// The way by the fabric is measured as values go by it: who reads asks on a connection where bytes lie, and has maniple-native read them there, as many
// at a time. That is a maniple-native of its own, which ends a while later: it disturbs no values, and is there before the first.

const (
	probeChunk = 4 << 20          // bytes that others read, and that each of several reads brings at once, as of values
	probeIdle  = 30 * time.Second // until the process ends that nobody asks
	probeLost  = "the fabric is not measured"
)

// probeFabric gives what measurements use; nil: there is to be none.
func probeFabric(cfg *Config, client *native.Client, log *slog.Logger) *native.Fabric {
	wish, is := fabricWish(cfg)
	if client == nil || !is {
		return nil
	}
	return &native.Fabric{Client: native.Client{Path: client.Path, Log: log, Idle: probeIdle, Lost: probeLost}, Wish: wish, Arena: probeMemory}
}

// probeMemory is what others read, and behind it what is read into: maniple-native alone has it.
func probeMemory(uint64) (*os.File, int64, error) {
	size := int64(probeChunk * (1 + Streams()))
	fd, err := unix.MemfdCreate("maniple-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, 0, fmt.Errorf("agent: memory to measure by the fabric: %w", err)
	}
	file := os.NewFile(uintptr(fd), "maniple-probe")
	if err := file.Truncate(size); err != nil {
		_ = file.Close()
		return nil, 0, fmt.Errorf("agent: memory to measure by the fabric: %w", err)
	}
	return file, size, nil
}

// open gives the endpoint. Without one there is a reason if somebody named it: else values go by TCP here, as `status` says.
func (p *probing) open(ctx context.Context) (*native.FabricLine, error) {
	if p.fabric == nil {
		return nil, nil
	}
	line, err := p.fabric.Open(ctx)
	if err != nil && p.fabric.Wish.Provider == "auto" {
		err = nil
	}
	return line, err
}

// serveFar tells who measures where bytes lie in the fabric; false: there is none.
func (p *probing) serveFar(ctx context.Context, answer func(bulk.Piece)) bool {
	line, err := p.open(ctx)
	if line == nil && err == nil {
		return false
	}
	var number uint64
	var place native.FabricPlace
	if err == nil {
		number, place, err = line.Expose(ctx, native.FabricRange{Size: probeChunk})
	}
	if err != nil {
		answer(bulk.Piece{Why: "the other node: " + err.Error()})
		return true
	}
	answer(bulk.Piece{Far: place.Encode(), Done: func() { line.Conceal(ctx, number) }})
	return true
}

// fabricWay measures the way by a fabric, over a connection to the other agent.
func fabricWay(ctx context.Context, c *probeLine, line *native.FabricLine, most time.Duration) jsonWay {
	measured := make(chan jsonWay, 1)
	none := jsonWay{Carrier: line.Here().Provider, Streams: len(line.Here().Rails)}
	c.stream.AskFar(bulk.Range{Size: probeSmall}, c.into, func(text []byte) error {
		place, err := native.DecodePlace(text)
		if err != nil {
			return err
		}
		way := none
		if way.Latency, err = farLatency(ctx, line, place); err != nil {
			return err
		}
		if way.Bandwidth, err = farBandwidth(ctx, line, place, most); err != nil {
			return err
		}
		measured <- way
		return nil
	})
	err := c.end(ctx)
	select {
	case way := <-measured:
		return way
	default:
	}
	if none.Error = "the other node has no fabric open"; err != nil {
		none.Error = err.Error()
	}
	return none
}

// farLatency is the median of small reads, in seconds. The first is one as any other, since one that fails while they are counted ends the process.
func farLatency(ctx context.Context, line *native.FabricLine, place native.FabricPlace) (float64, error) {
	into := native.FabricRange{Offset: probeChunk, Size: probeSmall}
	if _, err := line.Read(ctx, into, place); err != nil {
		return 0, err
	}
	t, err := line.Latency(ctx, into, place, probeReads)
	return t.Median / 1e6, err
}

// farBandwidth reads for some time, as many at once as of values, and gives the bytes of a second.
func farBandwidth(ctx context.Context, line *native.FabricLine, place native.FabricPlace, most time.Duration) (float64, error) {
	var wait sync.WaitGroup
	var bytes atomic.Int64
	errs := make([]error, Streams())
	began := time.Now()
	for i := range errs {
		wait.Go(func() {
			for errs[i] == nil && time.Since(began) < most {
				into := native.FabricRange{Offset: int64(1+i) * probeChunk, Size: probeChunk}
				if _, errs[i] = line.Read(ctx, into, place); errs[i] == nil {
					bytes.Add(probeChunk)
				}
			}
		})
	}
	wait.Wait()
	return float64(bytes.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}
