package rt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

type counter struct {
	n     int
	now   atomic.Int32
	left  string // a file that Close makes
	peers []rt.Handle[*counter]
}

type start struct {
	N    int
	Left string
}

func newCounter(_ context.Context, s start) (*counter, error) {
	if s.N < 0 {
		return nil, errSentinel
	}
	return &counter{n: s.N, left: s.Left}, nil
}

func (c *counter) Add(_ context.Context, k int) (int, error) {
	c.n += k
	return c.n, nil
}

func (c *counter) PID(context.Context, rt.None) (int, error) { return os.Getpid(), nil }

// Together waits until three of it run.
func (c *counter) Together(ctx context.Context, _ rt.None) (bool, error) {
	c.now.Add(1)
	for c.now.Load() < 3 {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		default:
			runtime.Gosched()
		}
	}
	return true, nil
}

func (c *counter) Meet(_ context.Context, peers []rt.Handle[*counter]) (int, error) {
	c.peers = append(c.peers, peers...)
	return len(c.peers), nil
}

func (c *counter) AskPeers(ctx context.Context, k int) (int, error) {
	sum := 0
	for _, p := range c.peers {
		v, err := Add.Remote(ctx, p, k).Get(ctx)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

func (c *counter) Exit(context.Context, rt.None) (int, error) {
	return 0, syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// Leave ends its goroutine.
func (c *counter) Leave(context.Context, rt.None) (int, error) {
	runtime.Goexit()
	return 0, nil
}

func (c *counter) Close() error { return os.WriteFile(c.left, nil, 0o600) }

var (
	Counter  = rt.NewActor("counter", newCounter)
	Add      = rt.NewMethod(Counter, "Add", (*counter).Add)
	Leave    = rt.NewMethod(Counter, "Leave", (*counter).Leave)
	PID      = rt.NewMethod(Counter, "PID", (*counter).PID)
	Together = rt.NewMethod(Counter, "Together", (*counter).Together)
	Meet     = rt.NewMethod(Counter, "Meet", (*counter).Meet)
	AskPeers = rt.NewMethod(Counter, "AskPeers", (*counter).AskPeers)
	Exit     = rt.NewMethod(Counter, "Exit", (*counter).Exit)
	Other    = rt.NewActor("other", func(context.Context, rt.None) (*counter, error) { return &counter{}, nil })
	addsTo   = rt.NewFunc("addsTo", func(ctx context.Context, h rt.Handle[*counter]) (int, error) {
		return Add.Remote(ctx, h, 10).Get(ctx)
	})
	slowInt = rt.NewFunc("slowInt", func(ctx context.Context, n int) (int, error) {
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
		return n, nil
	})
)

// SERVE-4, SES-5: calls arrive in their order, also behind one whose argument is late.
func TestActor(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	c := Counter.Remote(ctx, start{N: 5})
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	refs := []*rt.Ref[int]{Add.After(ctx, c, slowInt.Remote(ctx, 100))}
	for range 200 {
		refs = append(refs, Add.Remote(ctx, c, 1))
	}
	for i, v := range must[[]int](t)(rt.GetAll(ctx, refs)) {
		if v != 105+i {
			t.Fatalf("call %d gave %d", i, v)
		}
	}
	if v := must[int](t)(addsTo.Remote(ctx, c).Get(ctx)); v != 315 {
		t.Errorf("from a task: %d", v)
	}
	d := Counter.Remote(ctx, start{})
	if v := must[int](t)(Meet.Remote(ctx, d, []rt.Handle[*counter]{c, c}).Get(ctx)); v != 2 {
		t.Errorf("peers: %d", v)
	}
	if v := must[int](t)(AskPeers.Remote(ctx, d, 1).Get(ctx)); v != 316+317 {
		t.Errorf("of peers: %d", v)
	}
	if must[int](t)(PID.Remote(ctx, c, rt.None{}).Get(ctx)) == must[int](t)(PID.Remote(ctx, d, rt.None{}).Get(ctx)) {
		t.Error("two actors live in one process")
	}
}

func TestActorEnds(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	left := filepath.Join(t.TempDir(), "left")
	c := Counter.Remote(ctx, start{Left: left})
	must[int](t)(Add.Remote(ctx, c, 1).Get(ctx))
	c.Release()
	until(t, ctx, "Close was called", func() bool { _, err := os.Stat(left); return err == nil })
	var dead *rt.ActorError
	k := Counter.Remote(ctx, start{})
	must[int](t)(Add.Remote(ctx, k, 1).Get(ctx))
	if err := rt.Kill(k); err != nil {
		t.Error(err)
	}
	if _, err := Add.Remote(ctx, k, 1).Get(ctx); !errors.As(err, &dead) || !dead.Dead {
		t.Errorf("killed: %v", err)
	}
	x := Counter.Remote(ctx, start{})
	if _, err := Exit.Remote(ctx, x, rt.None{}).Get(ctx); !errors.As(err, &dead) || !strings.Contains(err.Error(), "signal 9") {
		t.Errorf("its process died: %v", err)
	}
	bad := Counter.Remote(ctx, start{N: -1})
	err := bad.Ready(ctx)
	if contains(t, err, "a sentinel"); !errors.Is(err, errSentinel) {
		t.Errorf("a constructor that fails: %v", err)
	}
	if _, err := Add.Remote(ctx, bad, 1).Get(ctx); !errors.As(err, &dead) || !strings.Contains(err.Error(), "a sentinel") {
		t.Errorf("a call of it: %v", err)
	}
}

func TestActorRestarts(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	c := Counter.Remote(ctx, start{N: 3}, rt.Restarts(1), rt.Retries(1))
	must[int](t)(Add.Remote(ctx, c, 1).Get(ctx))
	pid := must[int](t)(PID.Remote(ctx, c, rt.None{}).Get(ctx))
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for i := range 5 { // numbered anew
		if v := must[int](t)(Add.Remote(ctx, c, 1).Get(ctx)); v != 4+i {
			t.Errorf("call %d of its second life: %d", i, v)
		}
	}
	if must[int](t)(PID.Remote(ctx, c, rt.None{}).Get(ctx)) == pid {
		t.Error("it is the same process")
	}
}

// A call that ends its goroutine ends the actor's process, which is no end of its own: it is made again.
func TestActorWhoseGoroutineEnds(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	c := Counter.Remote(ctx, start{N: 3}, rt.Restarts(1), rt.Retries(1))
	_, err := Leave.Remote(ctx, c, rt.None{}, rt.Retries(0)).Get(ctx)
	contains(t, err, "runtime.Goexit")
	if v := must[int](t)(Add.Remote(ctx, c, 1).Get(ctx)); v != 4 {
		t.Errorf("in its second life: %d", v)
	}
}

func TestConcurrency(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	c := Counter.Remote(ctx, start{}, rt.Concurrency(3))
	var refs []*rt.Ref[bool]
	for range 3 {
		refs = append(refs, Together.Remote(ctx, c, rt.None{}))
	}
	must[[]bool](t)(rt.GetAll(ctx, refs))
}

// MaxPending bounds what waits; 0 is no bound, as -1 is.
func TestMaxPending(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	for _, n := range []int{0, -1, 2} {
		c := Counter.Remote(ctx, start{}, rt.MaxPending(n))
		var refs []*rt.Ref[int]
		for range 20 {
			refs = append(refs, Add.Remote(ctx, c, 1))
		}
		refused := 0
		for _, r := range refs {
			var e *rt.Error
			if _, err := r.Get(ctx); errors.As(err, &e) && e.Code == "PENDING_CALLS" {
				refused++
			} else if err != nil {
				t.Errorf("MaxPending(%d): %v", n, err)
			}
		}
		if (refused > 0) != (n > 0) {
			t.Errorf("MaxPending(%d): %d of 20 calls were refused", n, refused)
		}
	}
}

// A call that waits for one of the actor's places has not begun: it can be cancelled, its deadline can pass, and the
// calls that run go on.
func TestCallsWithoutAPlace(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	c := Counter.Remote(ctx, start{}, rt.Concurrency(2))
	running := []*rt.Ref[bool]{Together.Remote(ctx, c, rt.None{}), Together.Remote(ctx, c, rt.None{})}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	late, unwanted := PID.Remote(short, c, rt.None{}), PID.Remote(ctx, c, rt.None{})
	_ = rt.Cancel(unwanted)
	if _, err := unwanted.Get(ctx); !errors.Is(err, rt.ErrCancelled) {
		t.Errorf("cancelled while it waits for a place: %v", err)
	}
	if _, err := late.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late while it waits for a place: %v", err)
	}
	_ = rt.Cancel(running[0])
	if _, err := running[0].Get(ctx); !errors.Is(err, rt.ErrCancelled) {
		t.Errorf("one that runs: %v", err)
	}
	must[int](t)(PID.Remote(ctx, c, rt.None{}).Get(ctx)) // by the same process, which is there
	_ = rt.Cancel(running[1])
	_, _ = running[1].Get(ctx)
}

func TestNamedActors(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	c := Counter.Remote(ctx, start{N: 1}, rt.Name("it"))
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := rt.GetActor(ctx, Counter, "it")
	if err != nil || must[int](t)(Add.Remote(ctx, got, 1).Get(ctx)) != 2 || got.ID() != c.ID() {
		t.Errorf("by its name: %v", err)
	}
	if _, err := rt.GetActor(ctx, Counter, "nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a name of nobody: %v", err)
	}
	if _, err := rt.GetActor(ctx, Other, "it"); err == nil || !strings.Contains(err.Error(), "counter") {
		t.Errorf("as another actor: %v", err)
	}
	if _, err := rt.GetActor(ctx, Counter, "it", rt.Namespace("elsewhere")); err == nil {
		t.Error("found in another namespace")
	}
	var taken *rt.ActorError
	if err := Counter.Remote(ctx, start{}, rt.Name("it")).Ready(ctx); !errors.As(err, &taken) || !strings.Contains(err.Error(), "another name") {
		t.Errorf("a name that is taken: %v", err)
	}
	c.Release()
	if v := must[int](t)(Add.Remote(ctx, got, 1).Get(ctx)); v != 3 {
		t.Errorf("with one handle left: %d", v)
	}
}

func TestDeclarations(t *testing.T) {
	for name, declare := range map[string]func(){
		"a function twice":  func() { rt.NewFunc("square", func(context.Context, int) (int, error) { return 0, nil }) },
		"a name of nothing": func() { rt.NewFunc("", func(context.Context, int) (int, error) { return 0, nil }) },
		"a method twice":    func() { rt.NewMethod(Counter, "Add", (*counter).Add) },
		"an error twice":    func() { rt.RegisterError("io.EOF", errSentinel) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is taken", name)
				}
			}()
			declare()
		}()
	}
}
