// Command driver uses each part of the Go API once, or, by its argument, a part of it for the tests of this tree.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/rt"
)

var errLuck = errors.New("no luck")

type counter struct{ n int }

func (c *counter) Add(_ context.Context, k int) (int, error) {
	c.n += k
	return c.n, nil
}

var (
	noop   = rt.NewFunc("noop", func(context.Context, rt.None) (rt.None, error) { return rt.None{}, nil })
	square = rt.NewFunc("square", func(_ context.Context, n int) (int, error) { return n * n, nil })
	total  = rt.NewFunc("total", func(ctx context.Context, n int) (int, error) {
		sum := 0
		for i := range n {
			v, err := square.Remote(ctx, i).Get(ctx)
			if err != nil {
				return 0, err
			}
			sum += v
		}
		return sum, nil
	})
	fails    = rt.NewFunc("fails", func(context.Context, rt.None) (int, error) { return 0, fmt.Errorf("today: %w", errLuck) })
	dies     = rt.NewFunc("dies", func(context.Context, rt.None) (int, error) { return 0, syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	diesOnce = rt.NewFunc("diesOnce", func(_ context.Context, flag string) (string, error) {
		if _, err := os.Stat(flag); err != nil {
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				return "", err
			}
			return "", syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return "the second time", nil
	})
	sleeps = rt.NewFunc("sleeps", func(ctx context.Context, d time.Duration) (int, error) {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(d):
			return os.Getpid(), nil
		}
	})
	says     = rt.NewFunc("says", func(context.Context, rt.None) (rt.None, error) { fmt.Println("a worker speaks"); return rt.None{}, nil })
	colour   = rt.NewFunc("colour", func(context.Context, rt.None) (string, error) { return os.Getenv("COLOUR"), nil })
	Counter  = rt.NewActor("counter", func(_ context.Context, n int) (*counter, error) { return &counter{n}, nil })
	Add      = rt.NewMethod(Counter, "Add", (*counter).Add)
	addsInIt = rt.NewFunc("addsInIt", func(ctx context.Context, h rt.Handle[*counter]) (int, error) { return Add.Remote(ctx, h, 10).Get(ctx) })
	room     = rt.NewFunc("bytes", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil })
	size     = rt.NewFunc("size", func(_ context.Context, b []byte) (int, error) { return len(b), nil })
)

func init() { rt.RegisterError("driver.errLuck", errLuck) }

func main() {
	address := ""
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	client, err := rt.Init(context.Background(), rt.Config{Address: address})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	switch os.Args[1] {
	case "all":
		all(ctx, client)
		fmt.Println("all is well")
	case "nodes":
		nodes(ctx, client)
		fmt.Println("all is well")
	case "objects":
		objects(ctx)
		fmt.Println("all is well")
	case "cached":
		cached(ctx)
		fmt.Println("all is well")
	case "sleep":
		must(sleeps.Remote(ctx, 0).Get(ctx))
		var refs []*rt.Ref[int]
		for range 3 {
			refs = append(refs, sleeps.Remote(ctx, time.Hour))
		}
		fmt.Println("up")
		_, err := rt.GetAll(ctx, refs)
		var e *rt.Error
		if errors.As(err, &e) {
			fmt.Println(e.Code)
		}
	case "noop":
		for range 5 {
			began := time.Now()
			tasks(ctx, 10_000)
			fmt.Printf("10000 tasks in %v\n", time.Since(began).Round(time.Millisecond))
		}
	}
}

func tasks(ctx context.Context, n int) {
	refs := make([]*rt.Ref[rt.None], n)
	for i := range refs {
		refs[i] = noop.Remote(ctx, rt.None{})
	}
	must(rt.GetAll(ctx, refs))
}

type letter struct {
	To   *rt.Ref[int]
	Text []byte
}

var (
	post = rt.NewFunc("post", func(ctx context.Context, n int) (letter, error) { return letter{rt.Put(ctx, n), make([]byte, n)}, nil })
	open = rt.NewFunc("open", func(ctx context.Context, l letter) (bool, error) {
		n, err := l.To.Get(ctx)
		return n == len(l.Text), err
	})
)

var keptSize = rt.NewFunc("keptSize", func(ctx context.Context, key string) (int, error) {
	b, err := rt.Cached(ctx, key, func(context.Context) ([]byte, error) { return nil, errLuck })
	return len(b), err
})

// cached has the node keep a value, and reads what a program in Python had kept.
func cached(ctx context.Context) {
	none := func(context.Context) ([]byte, error) { return nil, errLuck }
	if b := must(rt.Cached(ctx, "of Python", none)); string(b) != "by Pythonby Pythonby Python" {
		log.Fatalf("%q", b)
	}
	if _, err := rt.Cached(ctx, "of Go", none); !errors.Is(err, errLuck) {
		log.Fatal(err)
	}
	_, err := rt.Cached(ctx, "of Go", func(ctx context.Context) ([]byte, error) { return rt.Cached(ctx, "of Go", none) })
	var e *rt.Error
	if !errors.As(err, &e) || e.Code != "DEADLOCK" {
		log.Fatal(err)
	}
	begun, end := make(chan bool), make(chan bool)
	go func() {
		must(rt.Cached(ctx, "of Go", func(context.Context) ([]byte, error) {
			close(begun)
			<-end
			return []byte("by Go"), nil
		}))
	}()
	<-begun
	ref := keptSize.Remote(ctx, "of Go")
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := rt.Cached(short, "of Go", none); !errors.Is(err, context.DeadlineExceeded) {
		log.Fatal(err)
	}
	close(end)
	if n := must(ref.Get(ctx)); n != len("by Go") {
		log.Fatal(n)
	}
	if b := must(rt.Cached(ctx, "of Go", none)); string(b) != "by Go" {
		log.Fatalf("%q", b)
	}
	if b := must(rt.Cached(ctx, "empty", func(context.Context) ([]byte, error) { return []byte{}, nil })); len(b)+len(must(rt.Cached(ctx, "empty", none))) > 0 {
		log.Fatal("it is not empty")
	}
}

// objects has many times what the node's shared memory takes go through it, one after the other.
func objects(ctx context.Context) {
	const large = 64 << 20
	b := make([]byte, large)
	for i := range 12 {
		b[large-1] = byte(i)
		put := rt.Put(ctx, b)
		got := must(put.Get(ctx))
		check(len(got) == large && got[large-1] == byte(i), "put %d", i)
		n := must(size.After(ctx, put).Get(ctx))
		check(n == large, "argument %d: %d", i, n)
		put.Release()
		made := room.Remote(ctx, large)
		for range 2 {
			check(len(must(made.Get(ctx))) == large, "result %d", i)
		}
		made.Release()
		check(must(size.Remote(ctx, b).Get(ctx)) == large, "by value %d", i)
		l := post.Remote(ctx, large)
		check(must(open.After(ctx, l).Get(ctx)), "letter %d", i)
		text := must(l.Get(ctx))
		check(len(text.Text) == large && must(text.To.Get(ctx)) == large, "letter %d, here", i)
		text.To.Release()
		l.Release()
	}
	var kept []*rt.Ref[[]byte]
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var full *rt.Error
	for range 10 {
		r := rt.Put(short, b)
		if _, err := r.Get(ctx); errors.As(err, &full) {
			break
		}
		kept = append(kept, r)
	}
	check(full != nil && full.Code == "STORE_FULL", "%d puts did not fill it: %v", len(kept), full)
	for _, r := range kept {
		r.Release()
	}
	check(len(must(rt.Put(ctx, b).Get(ctx))) == large, "afterwards")
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatalf("%+v", err)
	}
	return v
}

func check(ok bool, what string, args ...any) {
	if !ok {
		log.Fatalf(what, args...)
	}
}

func all(ctx context.Context, client *rt.Client) {
	tasks(ctx, 10_000)
	v := must(total.Remote(ctx, 20).Get(ctx))
	check(v == 2470, "total: %d", v)
	_, err := fails.Remote(ctx, rt.None{}).Get(ctx)
	var task *rt.TaskError
	check(errors.As(err, &task) && errors.Is(err, errLuck), "fails: %v", err)
	v = must(square.After(ctx, square.Remote(ctx, 3)).Get(ctx))
	check(v == 81, "after: %d", v)

	c := Counter.Remote(ctx, 5, rt.Name("it"))
	for range 100 {
		Add.Remote(ctx, c, 1)
	}
	v = must(Add.Remote(ctx, must(rt.GetActor(ctx, Counter, "it")), 1).Get(ctx))
	check(v == 106, "actor: %d", v)
	v = must(addsInIt.Remote(ctx, c).Get(ctx))
	check(v == 116, "from a task: %d", v)
	check(rt.Kill(c) == nil, "kill")
	_, err = Add.Remote(ctx, c, 1).Get(ctx)
	var dead *rt.ActorError
	check(errors.As(err, &dead) && dead.Dead, "killed: %v", err)

	slow := sleeps.Remote(ctx, time.Hour)
	ready, _, err := rt.Wait(ctx, []*rt.Ref[int]{slow, sleeps.Remote(ctx, 0)}, 1)
	check(err == nil && len(ready) == 1 && ready[0] != slow, "wait: %v", err)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = slow.Get(short)
	check(errors.Is(err, context.DeadlineExceeded), "deadline: %v", err)
	check(rt.Cancel(slow) == nil, "cancel")
	_, err = slow.Get(ctx)
	check(errors.Is(err, rt.ErrCancelled), "cancelled: %v", err)

	flag, err := filepath.Abs("flag")
	check(err == nil, "%v", err)
	again := must(diesOnce.Remote(ctx, flag).Get(ctx))
	check(again == "the second time", "%s", again)
	_, err = dies.Remote(ctx, rt.None{}, rt.Retries(0)).Get(ctx)
	var worker *rt.WorkerError
	check(errors.As(err, &worker), "dies: %v", err)

	group := must(rt.NewGroup(ctx, rt.Pack, rt.Bundle{"CPU": 1}, rt.Bundle{"CPU": 1}))
	check(group.Ready(ctx) == nil, "group")
	for i := range group.Bundles() {
		h := Counter.Remote(ctx, i, rt.CPUs(1), rt.InGroup(group, i))
		v = must(Add.Remote(ctx, h, 1).Get(ctx))
		check(v == i+1, "on bundle %d: %d", i, v)
	}
	check(group.Remove(ctx) == nil, "remove")
	_, err = square.Remote(ctx, 1, rt.InGroup(group, 0)).Get(ctx)
	check(err != nil, "a task of a group that is gone")
	_, err = rt.NewGroup(ctx, rt.StrictPack, rt.Bundle{"CPU": 100_000})
	var never *rt.GroupError
	check(errors.As(err, &never), "a group that can never be: %v", err)

	red := must(colour.Remote(ctx, rt.None{}, rt.Env(map[string]string{"COLOUR": "red"})).Get(ctx))
	check(red == "red", "environment: %q", red)
	b := room.Remote(ctx, 80<<20)
	check(len(must(b.Get(ctx))) == 80<<20, "80 MiB")
	check(must(size.After(ctx, b).Get(ctx)) == 80<<20, "80 MiB handed on")
	nodes := must(client.Nodes(ctx))
	check(len(nodes) == 1 && nodes[0].Total["CPU"] >= 1, "nodes: %v", nodes)
	must(says.Remote(ctx, rt.None{}).Get(ctx))
	time.Sleep(300 * time.Millisecond) // for what it said
}
