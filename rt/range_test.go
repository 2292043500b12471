package rt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// elsewhere is an agent whose tasks all give one value, which lies at another node, and which brings ranges of it.
type elsewhere struct {
	conn    *carrier.Conn
	payload []byte
	format  fb.Format

	mu    sync.Mutex
	task  *fb.TaskIDT
	asked [][2]uint64 // ranges: begin and size; of none, what the value is
	got   int         // times that all of it was asked for
	after int         // of later questions than so many nothing can be had
	later []byte      // all of it then; nil: what it is now
}

// farAway makes the test a driver of such an agent.
func farAway(t *testing.T, format fb.Format, payload []byte) (context.Context, *elsewhere) {
	t.Helper()
	x := &elsewhere{format: format, payload: payload, after: 100}
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var serves sync.WaitGroup
	serves.Go(func() { x.serve(t, l) })
	c, err := rt.Init(t.Context(), rt.Config{Address: path})
	l.Close()
	serves.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Cleanup(func() { _ = x.conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, x
}

func (x *elsewhere) serve(t *testing.T, l *net.UnixListener) {
	nc, err := l.AcceptUnix()
	if err != nil {
		t.Error(err)
		return
	}
	c, err := uds.Server(nc)
	if err == nil {
		_, _, err = transport.Answer(c, func(*fb.HelloT, transport.Peer) (*fb.WelcomeT, *fb.RefuseT) { return &fb.WelcomeT{Agent: 1}, nil })
	}
	if err == nil {
		_, err = carrier.Attaching(c)
	}
	if err != nil {
		t.Error(err)
		return
	}
	x.conn = carrier.New(c, carrier.Config{OnBatch: x.hear, MaxUnsent: 1 << 30})
	_ = x.conn.Send(&fb.AttachedT{Agent: 1, Process: 1, Job: 1, CreditBytes: 1 << 30, CreditRecords: 1 << 20, InlineLimit: 100 << 10}, 0, nil)
}

func (x *elsewhere) hear(b carrier.Batch) {
	defer b.Release()
	x.mu.Lock()
	defer x.mu.Unlock()
	for f := range carrier.Frames(b.Bytes) {
		m, _ := f.Message()
		switch m := m.(type) {
		case *fb.SubmitT:
			x.task = m.Task
			x.tell(m.Task, fb.ResultFlagLast|fb.ResultFlagLocated, x.format, nil)
		case *fb.GetT:
			if *m.Object.Task == *x.task {
				x.got++
				all := x.payload
				if x.later != nil {
					all = x.later
				}
				x.tell(x.task, fb.ResultFlagLast|fb.ResultFlagNotTask, x.format, all)
			}
		case *fb.SliceT:
			x.slice(m)
		}
	}
}

func (x *elsewhere) slice(m *fb.SliceT) {
	x.asked = append(x.asked, [2]uint64{m.Offset, m.Size})
	var data []byte
	switch {
	case len(x.asked) > x.after || m.Size > 0 && m.Version != 9:
	case m.Size == 0:
		data = binary.LittleEndian.AppendUint64(nil, uint64(len(x.payload)))
		data = binary.LittleEndian.AppendUint32(data, uint32(x.format))
		data = binary.LittleEndian.AppendUint32(data, 9)
	default:
		data = x.payload[m.Offset : m.Offset+m.Size]
	}
	x.tell(m.Object.Task, fb.ResultFlagLast|fb.ResultFlagNotTask, fb.FormatRaw, data)
}

func (x *elsewhere) tell(task *fb.TaskIDT, flags fb.ResultFlag, format fb.Format, payload []byte) {
	_ = x.conn.Send(&fb.ResultT{Task: task, Flags: uint32(flags), Format: format, Size: uint64(len(payload))}, 0, payload)
}

// set changes what it does from here on.
func (x *elsewhere) set(what func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	what()
}

// was gives what was asked of ranges since the last time, and how often all of the value was.
func (x *elsewhere) was() ([][2]uint64, int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	asked := x.asked
	x.asked = nil
	return asked, x.got
}

const large = 1 << 20

// pattern is so many bytes of which no two stretches are alike soon.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestRangesOfBytesElsewhere(t *testing.T) {
	data := pattern(large)
	ctx, there := farAway(t, fb.FormatRaw, data)
	ref := fill.Remote(ctx, large)
	for _, r := range [][2]int{{5, 1005}, {0, 3}, {large - 7, rt.End}, {0, large}} {
		b, err := rt.GetRange(ctx, ref, r[0], r[1])
		stop := r[1]
		if stop == rt.End {
			stop = large
		}
		if err != nil || !bytes.Equal(b, data[r[0]:stop]) {
			t.Errorf("%v: %d bytes, %v", r, len(b), err)
		}
		if asked, got := there.was(); !slices.Equal(asked, [][2]uint64{{0, 0}, {uint64(r[0]), uint64(stop - r[0])}}) || got > 0 {
			t.Errorf("%v: asked for were %v, and all of it %d times", r, asked, got)
		}
	}
	b, err := rt.GetRange(ctx, ref, 9, 9)
	if asked, _ := there.was(); err != nil || b == nil || len(b) > 0 || len(asked) != 1 {
		t.Errorf("an empty one is %v, %v; asked for were %v", b, err, asked)
	}
	_, err = rt.GetRange(ctx, ref, large-1, large+1)
	contains(t, err, ref.ID(), "1048576 elements", "[1048575:1048577]")
}

func TestRangesThatCanNotBeHadAlone(t *testing.T) {
	for _, after := range []int{0, 1} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			data := pattern(large)
			ctx, there := farAway(t, fb.FormatRaw, data)
			there.set(func() { there.after = after })
			b, err := rt.GetRange(ctx, fill.Remote(ctx, large), 5, 8)
			if _, got := there.was(); err != nil || !bytes.Equal(b, data[5:8]) || got != 1 {
				t.Errorf("%v, %v; all of it was asked for %d times", b, err, got)
			}
			if cap(b) > 64 {
				t.Errorf("it keeps %d bytes", cap(b))
			}
		})
	}
}

func TestSmallValuesAreGotWhole(t *testing.T) {
	ctx, there := farAway(t, fb.FormatRaw, pattern(100<<10))
	b, err := rt.GetRange(ctx, fill.Remote(ctx, large), 5, 8)
	if asked, got := there.was(); err != nil || len(b) != 3 || len(asked) != 1 || got != 1 {
		t.Errorf("%v, %v; asked for were %v, all of it %d times", b, err, asked, got)
	}
}

var (
	numbers = rt.NewFunc("numbers", func(_ context.Context, n int) ([]int, error) {
		out := make([]int, n)
		for i := range out {
			out[i] = i * i
		}
		return out, nil
	})
	noBytes    = rt.NewFunc("noBytes", func(context.Context, rt.None) ([]byte, error) { return nil, errSentinel })
	neverBytes = rt.NewFunc("neverBytes", func(ctx context.Context, _ rt.None) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
)

// Of what is here, and of what is no bytes, all is got, and sliced.
func TestRangesOfWhatIsHere(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	if v, err := rt.GetRange(ctx, numbers.Remote(ctx, 10), 3, 6); err != nil || !slices.Equal(v, []int{9, 16, 25}) {
		t.Errorf("%v, %v", v, err)
	}
	put := rt.Put(ctx, pattern(large))
	if b, err := rt.GetRange(ctx, put, 100, rt.End); err != nil || !bytes.Equal(b, pattern(large)[100:]) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	_, err := rt.GetRange(ctx, numbers.Remote(ctx, 10), 11, rt.End)
	contains(t, err, "10 elements")
	for _, r := range [][2]int{{-1, 2}, {3, 2}, {0, -2}} {
		_, err := rt.GetRange(ctx, put, r[0], r[1])
		contains(t, err, "no range")
	}
	_, err = rt.GetRange(ctx, noBytes.Remote(ctx, rt.None{}), 0, 1)
	var failed *rt.TaskError
	if !errors.As(err, &failed) {
		t.Errorf("of a task that failed: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	late := neverBytes.Remote(ctx, rt.None{})
	if _, err = rt.GetRange(short, late, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in no time: %v", err)
	}
	if err := rt.Cancel(late); err != nil {
		t.Error(err)
	}
}
