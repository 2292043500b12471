package rt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

var errSentinel = errors.New("a sentinel")

var deep *rt.Func[int, int]

func init() {
	rt.RegisterError("rt_test.errSentinel", errSentinel)
	deep = rt.NewFunc("deep", deepBody) // a variable that is declared with it would refer to itself
}

type pair struct {
	Left  *rt.Ref[int]
	Right []*rt.Ref[int]
	Note  string
}

var (
	square = rt.NewFunc("square", func(_ context.Context, n int) (int, error) { return n * n, nil })
	total  = rt.NewFunc("total", func(ctx context.Context, n int) (int, error) {
		refs := make([]*rt.Ref[int], n)
		for i := range refs {
			refs[i] = square.Remote(ctx, i)
		}
		all, err := rt.GetAll(ctx, refs)
		sum := 0
		for _, v := range all {
			sum += v
		}
		return sum, err
	})
	adds = rt.NewFunc("adds", func(ctx context.Context, p pair) (int, error) {
		sum, err := p.Left.Get(ctx)
		for _, r := range p.Right {
			var v int
			if v, err = r.Get(ctx); err != nil {
				break
			}
			sum += v
		}
		return sum, err
	})
	gives = rt.NewFunc("gives", func(ctx context.Context, n int) (pair, error) {
		return pair{Left: rt.Put(ctx, n), Right: []*rt.Ref[int]{square.Remote(ctx, n)}, Note: "given"}, nil
	})
	length = rt.NewFunc("length", func(_ context.Context, b []byte) (int, error) { return len(b), nil })
	fill   = rt.NewFunc("fill", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil })
	fails  = rt.NewFunc("fails", func(_ context.Context, how string) (int, error) {
		switch how {
		case "sentinel":
			return 0, fmt.Errorf("no luck: %w", errSentinel)
		case "panic":
			var none []int
			return none[len(how)], nil
		case "die":
			return 0, syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "func":
			return 0, io.ErrUnexpectedEOF
		case "leave":
			runtime.Goexit()
		}
		return 0, errors.New(how)
	})
	diesOnce = rt.NewFunc("diesOnce", func(_ context.Context, flag string) (string, error) {
		f, err := os.OpenFile(flag, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			return "", syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return "the second time", nil
	})
	waits = rt.NewFunc("waits", func(ctx context.Context, flag string) (string, error) {
		if err := os.WriteFile(flag, nil, 0o600); err != nil {
			return "", err
		}
		<-ctx.Done()
		return "", ctx.Err()
	})
	stubborn = rt.NewFunc("stubborn", func(_ context.Context, flag string) (string, error) {
		if err := os.WriteFile(flag, nil, 0o600); err != nil {
			return "", err
		}
		select {}
	})
	passes = rt.NewFunc("passes", func(ctx context.Context, flag string) (string, error) { return waits.Remote(ctx, flag).Get(ctx) })
	lasts  = rt.NewFunc("lasts", func(ctx context.Context, d time.Duration) (int, error) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return os.Getpid(), nil
	})
	timeout = rt.NewFunc("timeout", func(ctx context.Context, _ rt.None) (time.Time, error) {
		d, _ := ctx.Deadline()
		return d, nil
	})
	childTimeout = rt.NewFunc("childTimeout", func(ctx context.Context, _ rt.None) (time.Time, error) {
		return timeout.Remote(ctx, rt.None{}).Get(ctx)
	})
	unsent = rt.NewFunc("unsent", func(context.Context, any) (any, error) { return struct{ F func() }{func() {}}, nil })
)

func deepBody(ctx context.Context, n int) (int, error) {
	if n == 0 {
		return 0, nil
	}
	below, err := deep.Remote(ctx, n-1).Get(ctx)
	return below + 1, err
}

func TestTasks(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	refs := make([]*rt.Ref[int], 1000)
	for i := range refs {
		refs[i] = square.Remote(ctx, i)
	}
	for i, v := range must[[]int](t)(rt.GetAll(ctx, refs)) {
		if v != i*i {
			t.Fatalf("square of %d is %d", i, v)
		}
	}
	if v := must[int](t)(refs[7].Get(ctx)); v != 49 {
		t.Errorf("the second time it is %d", v)
	}
	if v := must[int](t)(total.Remote(ctx, 20).Get(ctx)); v != 2470 {
		t.Errorf("total of squares: %d", v)
	}
	if v := must[int](t)(square.After(ctx, square.Remote(ctx, 3)).Get(ctx)); v != 81 {
		t.Errorf("square of a square: %d", v)
	}
}

// SES-4: a task that waits gives its CPU away.
func TestDeepOnOneCPU(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	if v := must[int](t)(deep.Remote(ctx, 15).Get(ctx)); v != 15 {
		t.Errorf("depth %d", v)
	}
}

// SES-3: what has no credit waits, in a driver and in a task, and goes on.
func TestCredit(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{Records: 16, Bytes: 4096})
	if v := must[int](t)(total.Remote(ctx, 200).Get(ctx)); v != 2646700 {
		t.Errorf("total of squares: %d", v)
	}
	refs := make([]*rt.Ref[int], 100)
	for i := range refs {
		refs[i] = length.Remote(ctx, make([]byte, 100*i))
	}
	all := must[[]int](t)(rt.GetAll(ctx, refs))
	if all[99] != 9900 {
		t.Errorf("lengths: %v", all)
	}
	blocker := lasts.Remote(ctx, time.Hour)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var err error
	for err == nil {
		r := square.Remote(short, 1)
		if r.ID() == "" {
			_, err = r.Get(ctx)
		}
	}
	if contains(t, err, "credit"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without credit: %v", err)
	}
	_ = rt.Abort(blocker)
}

// VAL-2: references travel inside of values, both ways; the other side's are references, too.
func TestReferencesInValues(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	p := pair{Left: rt.Put(ctx, 1), Right: []*rt.Ref[int]{square.Remote(ctx, 2), rt.Put(ctx, 3)}}
	p.Right = append(p.Right, p.Left)
	if v := must[int](t)(adds.Remote(ctx, p).Get(ctx)); v != 9 {
		t.Errorf("sum %d", v)
	}
	got := must[pair](t)(gives.Remote(ctx, 5).Get(ctx))
	if got.Note != "given" || must[int](t)(got.Left.Get(ctx)) != 5 || must[int](t)(got.Right[0].Get(ctx)) != 25 {
		t.Errorf("given: %+v", got)
	}
	if v := must[int](t)(adds.After(ctx, gives.Remote(ctx, 6)).Get(ctx)); v != 42 {
		t.Errorf("sum of what was given: %d", v)
	}
}

// RT-4, SES-1: what nobody has any more is gone from the agent, whether it was released or forgotten.
func TestRelease(t *testing.T) {
	ctx, n := join(t, 1, work.Config{})
	kept := rt.Put(ctx, "kept")
	func() {
		r := square.Remote(ctx, 3)
		must[int](t)(r.Get(ctx))
		r.Release()
		r.Release()
		_, err := r.Get(ctx)
		var lost *rt.LostError
		if !errors.As(err, &lost) {
			t.Errorf("get of what was released: %v", err)
		}
		must[pair](t)(gives.Remote(ctx, 1).Get(ctx))
		rt.Put(ctx, pair{Left: rt.Put(ctx, 1)})
	}()
	until(t, ctx, "one object is left", func() bool {
		runtime.GC()
		return strings.Count(n.State("objects"), `"id"`) == 1
	})
	if must[string](t)(kept.Get(ctx)) != "kept" {
		t.Error("what was kept is another")
	}
}

// SES-2: who waits hears of the context's end, in explain's words, and of the connection's.
func TestWaitingEnds(t *testing.T) {
	ctx, n := join(t, 1, work.Config{})
	flag := filepath.Join(t.TempDir(), "flag")
	r := waits.Remote(ctx, flag)
	until(t, ctx, "the task runs", func() bool { _, err := os.Stat(flag); return err == nil })
	queued := square.Remote(ctx, 2)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := queued.Get(short)
	if contains(t, err, "square", "waits for"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get with a deadline: %v", err)
	}
	ready, rest, err := rt.Wait(short, []*rt.Ref[int]{rt.Put(ctx, 1), queued}, 2)
	if len(ready) != 1 || len(rest) != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %d there, %d not, %v", len(ready), len(rest), err)
	}
	ended := make(chan error)
	go func() {
		_, err := r.Get(ctx)
		ended <- err
	}()
	n.Die()
	err = <-ended
	var e *rt.Error
	if !errors.As(err, &e) || e.Code != "AGENT_DIED" {
		t.Errorf("with the connection gone: %v", err)
	}
	if _, err := square.Remote(ctx, 2).Get(ctx); !errors.As(err, &e) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWait(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	slow, fast := lasts.Remote(ctx, time.Hour), lasts.Remote(ctx, 0)
	ready, rest, err := rt.Wait(ctx, []*rt.Ref[int]{slow, fast}, 1)
	if err != nil || len(ready) != 1 || ready[0] != fast || len(rest) != 1 || rest[0] != slow {
		t.Errorf("%v, %v, %v", ready, rest, err)
	}
	if err := fast.Ready(ctx); err != nil {
		t.Error(err)
	}
	if err := rt.Abort(slow); err != nil {
		t.Error(err)
	}
	if _, err := slow.Get(ctx); !errors.Is(err, rt.ErrCancelled) {
		t.Errorf("aborted: %v", err)
	}
}

// SERVE-5, and the types of errors.
func TestErrors(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	var task *rt.TaskError
	_, err := fails.Remote(ctx, "sentinel").Get(ctx)
	if !errors.As(err, &task) || !errors.Is(err, errSentinel) || task.Type != "*fmt.wrapError" || task.Message != "no luck: a sentinel" || task.Node != "n1" || task.PID == 0 {
		t.Errorf("%#v", err)
	}
	_, err = fails.Remote(ctx, "panic").Get(ctx)
	if !errors.As(err, &task) || task.Type != "panic" || !strings.Contains(task.Traceback, "task_test.go") || errors.Is(err, errSentinel) {
		t.Errorf("%v", err)
	}
	if _, err = fails.Remote(ctx, "func").Get(ctx); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	_, err = fails.Remote(ctx, "leave").Get(ctx)
	if contains(t, err, "runtime.Goexit"); !errors.As(err, &task) {
		t.Errorf("%v", err)
	}
	if n, err := square.Remote(ctx, 3).Get(ctx); n != 9 || err != nil {
		t.Errorf("after a goroutine that ended: %d, %v", n, err)
	}
	if _, err := square.After(ctx, fails.Remote(ctx, "plain")).Get(ctx); !errors.As(err, &task) || task.Message != "plain" {
		t.Errorf("of an argument: %v", err)
	}
	for _, none := range []*rt.Ref[int]{{}, square.After(ctx, &rt.Ref[int]{})} { // the zero value is no 0
		var lost *rt.LostError
		if _, err := none.Get(ctx); !errors.As(err, &lost) {
			t.Errorf("of a reference that was never made: %v", err)
		}
	}
	for _, wrong := range []rt.Option{rt.CPUs(0.00001), rt.Env(map[string]string{"A=B": "x"})} {
		if _, err := square.Remote(ctx, 1, wrong).Get(ctx); err == nil {
			t.Error("an option that can't be was taken")
		}
	}
	var worker *rt.WorkerError
	_, err = fails.Remote(ctx, "die", rt.Retries(0)).Get(ctx)
	if contains(t, err, "signal 9", "fails"); !errors.As(err, &worker) || worker.Node != "n1" {
		t.Errorf("%v", err)
	}
	if v := must[string](t)(diesOnce.Remote(ctx, filepath.Join(t.TempDir(), "flag")).Get(ctx)); v != "the second time" {
		t.Errorf("tried again: %q", v)
	}
	if _, err := unsent.Remote(ctx, 1).Get(ctx); err == nil || !strings.Contains(err.Error(), "result.F: a func can't be sent") {
		t.Errorf("a result that can't be sent: %v", err)
	}
}

// RT-1, RT-2: whatever is wrong with a call comes out of Get.
func TestWrongCalls(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	_, err := square.Remote(ctx, 1, rt.Concurrency(2)).Get(ctx)
	contains(t, err, "square", "Concurrency is no option of tasks")
	_, err = square.Remote(ctx, 1, rt.CPUs(-1)).Get(ctx)
	contains(t, err, "CPUs")
	_, err = unsent.Remote(ctx, []any{1, map[string]any{"hook": func() {}}}).Get(ctx)
	contains(t, err, "unsent: arg[1][hook]: a func can't be sent")
	_, err = square.Remote(ctx, 1, rt.OnNode("elsewhere")).Get(ctx)
	contains(t, err, "node=elsewhere", "n1 is the only node")
	var e *rt.Error
	if !errors.As(err, &e) || e.Code != "TASK_UNSCHEDULABLE" {
		t.Errorf("%v", err)
	}
	if v := must[int](t)(square.Remote(ctx, 2, rt.OnNode("n1"), rt.CPUs(0.5), rt.Name("half"), rt.Env(map[string]string{"A": "b"})).Get(ctx)); v != 4 {
		t.Errorf("with options: %d", v)
	}
	if _, err := rt.Init(ctx, rt.Config{}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second Init: %v", err)
	}
}

// RT-3: the deadline of the caller's context is the task's, and its children's.
func TestDeadlinesTravel(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	d, _ := ctx.Deadline()
	for _, f := range []*rt.Func[rt.None, time.Time]{timeout, childTimeout} {
		if got := must[time.Time](t)(f.Remote(ctx, rt.None{}).Get(ctx)); !got.Equal(d) {
			t.Errorf("deadline %v, want %v", got, d)
		}
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err := waits.Remote(short, filepath.Join(t.TempDir(), "flag")).Get(ctx)
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, rt.ErrCancelled) {
		t.Errorf("a task past its deadline: %v", err)
	}
	_, err = square.Remote(short, 1).Get(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that is late already: %v", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	dir := t.TempDir()
	begins := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	}
	run := func(f *rt.Func[string, string], name string, end func(*rt.Ref[string]) error) {
		t.Helper()
		r := f.Remote(ctx, filepath.Join(dir, name))
		until(t, ctx, name+" begins", begins(name))
		if err := end(r); err != nil {
			t.Error(err)
		}
		if _, err := r.Get(ctx); !errors.Is(err, rt.ErrCancelled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	run(waits, "runs", rt.Cancel[string])
	run(passes, "child", rt.Cancel[string])
	run(stubborn, "stubborn", rt.Abort[string])
	blocker := waits.Remote(ctx, filepath.Join(dir, "blocks"))
	queued := square.Remote(ctx, 1)
	_ = rt.Cancel(queued)
	if _, err := queued.Get(ctx); !errors.Is(err, rt.ErrCancelled) {
		t.Errorf("queued: %v", err)
	}
	_ = rt.Cancel(blocker)
	_, _ = blocker.Get(ctx) // it writes into dir
}

// SERVE-1, SERVE-2: what waits in a worker behind a task that takes long is given back, and each has one result.
func TestRecall(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	var warm []*rt.Ref[int]
	for range 500 {
		warm = append(warm, lasts.Remote(ctx, 0))
	}
	must[[]int](t)(rt.GetAll(ctx, warm))
	slow := lasts.Remote(ctx, time.Hour)
	var behind []*rt.Ref[int]
	for range 20 {
		behind = append(behind, lasts.Remote(ctx, 0))
	}
	for _, r := range behind[:10] {
		_ = rt.Cancel(r)
		if _, err := r.Get(ctx); !errors.Is(err, rt.ErrCancelled) {
			t.Errorf("behind it: %v", err)
		}
	}
	_ = rt.Abort(slow)
	must[[]int](t)(rt.GetAll(ctx, behind[10:]))
}

// SERVE-3: a worker does not outlive its agent.
func TestWorkersEndWithTheirAgent(t *testing.T) {
	ctx, n := join(t, 1, work.Config{})
	pid := must[int](t)(lasts.Remote(ctx, 0).Get(ctx))
	stubborn.Remote(ctx, filepath.Join(t.TempDir(), "flag"))
	n.Die()
	until(t, ctx, "the worker is gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestLargeValues(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	for _, n := range []int{0, 100 << 10, 100<<10 + 1, 10 << 20} {
		if v := must[int](t)(length.Remote(ctx, make([]byte, n)).Get(ctx)); v != n {
			t.Errorf("%d bytes arrived as %d", n, v)
		}
		r := fill.Remote(ctx, n)
		for range 2 {
			if v := must[[]byte](t)(r.Get(ctx)); len(v) != n {
				t.Errorf("%d bytes came back as %d", n, len(v))
			}
		}
		if v := must[int](t)(length.After(ctx, r).Get(ctx)); v != n {
			t.Errorf("%d bytes were handed on as %d", n, v)
		}
		if v := must[[]byte](t)(rt.Put(ctx, make([]byte, n)).Get(ctx)); len(v) != n {
			t.Errorf("%d bytes that were put are %d", n, len(v))
		}
	}
}

func TestNotConnected(t *testing.T) {
	var e *rt.Error
	if _, err := square.Remote(t.Context(), 1).Get(t.Context()); !errors.As(err, &e) {
		t.Errorf("%v", err)
	}
	if _, err := rt.Put(t.Context(), 1).Get(t.Context()); !errors.As(err, &e) {
		t.Errorf("%v", err)
	}
	for _, address := range []string{"tcp://host:1", "no-such-cluster", "/nowhere/agent.sock"} {
		if _, err := rt.Init(t.Context(), rt.Config{Address: address}); err == nil {
			t.Errorf("joined %s", address)
		}
	}
}

// A driver that closes leaves no goroutine, and may join again.
func TestCloseLeavesNothing(t *testing.T) {
	check := leaks(t)
	t.Run("twice", func(t *testing.T) {
		for range 2 {
			t.Run("", func(t *testing.T) {
				ctx, _ := join(t, 1, work.Config{})
				must[int](t)(square.Remote(ctx, 2).Get(ctx))
			})
		}
	})
	check()
}
