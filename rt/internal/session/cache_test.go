package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// cacheAgent has whoever asks make what is asked for, and counts.
type cacheAgent struct {
	t    *testing.T
	s    *Session
	conn *work.Conn

	mu      sync.Mutex
	silent  bool     // it answers later
	waiting []uint64 // questions
	asked   int
	making  map[id.Task]bool
	most    int // questions, and what is made, at a time
}

func newCacheAgent(t *testing.T) *cacheAgent {
	near, far := net.Pipe()
	s := &Session{
		objects: map[id.Object]*object{}, cached: map[uint64]chan cachedAnswer{}, actors: map[id.Task]calls{}, several: map[id.Task]uint32{},
		ended: make(chan struct{}), places: make(chan struct{}, maxMaking),
	}
	s.credits.init(1<<20, 1<<20)
	s.memory = newMemory(s)
	a := &cacheAgent{t: t, s: s, making: map[id.Task]bool{}}
	s.conn = work.New(near, work.Config{OnBatch: s.batch, OnEnd: s.end})
	a.conn = work.New(far, work.Config{OnBatch: a.batch})
	return a
}

// close ends the connection at both ends.
func (a *cacheAgent) close() {
	a.s.conn.Close()
	a.conn.Close()
	synctest.Wait()
}

func (a *cacheAgent) batch(b work.Batch) {
	defer b.Release()
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range work.Frames(b.Bytes) {
		switch f.Type() {
		case fb.FrameTypeSeal:
			delete(a.making, work.Seal(f).Object().Task)
			continue
		case fb.FrameTypeRelease, fb.FrameTypeGet:
			continue
		}
		m, err := f.Message()
		if err != nil {
			a.t.Error(err)
			return
		}
		switch m := m.(type) {
		case *fb.CacheWantedT:
			a.asked++
			if a.waiting = append(a.waiting, f.Corr()); !a.silent {
				a.answer(true)
			}
		case *fb.CacheUnmadeT:
			delete(a.making, TaskOf(m.Object))
		case *fb.SlabWantedT:
			a.lend()
		}
		a.most = max(a.most, len(a.making)+len(a.waiting))
	}
}

// answer answers all questions. mine: their values are to be made.
func (a *cacheAgent) answer(mine bool) {
	for _, corr := range a.waiting {
		task := id.Task{Agent: 7, Counter: corr}
		a.making[task] = mine
		if !mine {
			delete(a.making, task)
		}
		b, err := work.AppendMessage(nil, &fb.CachedT{Object: TaskT(task), Make: mine}, corr, nil)
		if err == nil {
			err = a.conn.Append(b)
		}
		if err != nil {
			a.t.Error(err)
		}
	}
	a.most = max(a.most, len(a.making))
	a.waiting = nil
	a.conn.Flush()
}

// lend gives memory to write into.
func (a *cacheAgent) lend() {
	fd, err := unix.MemfdCreate("slab", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, 1<<20)
	}
	if err == nil {
		err = a.s.memory.client.Lent(client.Lease{Slab: 1, Arena: 1, Size: 1 << 20, To: 1 << 20}, os.NewFile(uintptr(fd), "slab"))
	}
	if err != nil {
		a.t.Error(err)
	}
}

// counts tells of all that was asked until nothing moves any more.
func (a *cacheAgent) counts() (asked, making int) {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked, len(a.making)
}

// A process never makes so many cached values, or asks for them, that its agent ends it: what comes beyond waits for one of them to end, and for 30 s at most.
func TestCachedWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCacheAgent(t)
		defer a.close()
		const all = 1100
		mine, errs := make(chan *Hold, all), make(chan error, all)
		for i := range all {
			go func() {
				h, _, err := a.s.Cached(context.Background(), fmt.Sprint("k", i))
				if err != nil {
					errs <- err
					return
				}
				mine <- h
			}()
		}
		if asked, making := a.counts(); asked != 1000 || making != 1000 {
			t.Fatalf("%d were asked for, %d are made", asked, making)
		}
		a.s.Unmade(<-mine)
		if asked, making := a.counts(); asked != 1001 || making != 1000 {
			t.Errorf("one is not made, and %d were asked for, %d are made", asked, making)
		}
		if err := a.s.Keep(context.Background(), <-mine, Encoded{Format: fb.FormatRaw, Bytes: []byte("value")}); err != nil {
			t.Error(err)
		}
		if asked, making := a.counts(); asked != 1002 || making != 1000 {
			t.Errorf("one is made, and %d were asked for, %d are made", asked, making)
		}
		began := time.Now()
		for range all - 1002 {
			if err := <-errs; !errors.Is(err, ErrMaking) || time.Since(began) != patience {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		for range 1000 {
			a.s.Unmade(<-mine)
		}
		if asked, making := a.counts(); asked != 1002 || making != 0 || a.most != 1000 || len(a.s.places) != 0 {
			t.Errorf("%d were asked for, %d are made, %d at most; %d places are taken", asked, making, a.most, len(a.s.places))
		}
	})
}

// Who does not wait any more has asked all the same, until the agent has answered.
func TestCachedThatNobodyWaitsFor(t *testing.T) {
	for _, make := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a := newCacheAgent(t)
			defer a.close()
			a.silent = true
			ctx, cancel := context.WithCancel(context.Background())
			var all sync.WaitGroup
			for i := range 1000 {
				all.Go(func() {
					if _, _, err := a.s.Cached(ctx, fmt.Sprint("k", i)); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			cancel()
			all.Wait()
			short, end := context.WithTimeout(context.Background(), time.Second)
			defer end()
			if _, _, err := a.s.Cached(short, "more"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if asked, _ := a.counts(); asked != 1000 {
				t.Errorf("%d were asked for", asked)
			}
			a.mu.Lock()
			a.answer(make)
			a.mu.Unlock()
			if _, making := a.counts(); making != 0 || len(a.s.places) != 0 {
				t.Errorf("%d are made, %d places are taken", making, len(a.s.places))
			}
		})
	}
}
