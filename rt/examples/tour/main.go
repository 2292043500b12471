// Command tour goes through what docs/guide/go.md tells.
package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"time"

	"github.com/maniple-hpc/maniple/rt"
)

type document struct {
	Title string
	Words []string
}

var (
	read = rt.NewFunc("read", func(_ context.Context, title string) (document, error) {
		return document{title, []string{"to", "be", "or", "not", "to", "be"}}, nil
	})
	count = rt.NewFunc("count", func(_ context.Context, d document) (map[string]int, error) {
		counts := map[string]int{}
		for _, w := range d.Words {
			counts[w]++
		}
		return counts, nil
	})
	sleep = rt.NewFunc("sleep", func(ctx context.Context, d time.Duration) (rt.None, error) {
		select {
		case <-time.After(d):
			return rt.None{}, nil
		case <-ctx.Done():
			return rt.None{}, ctx.Err()
		}
	})
)

var errNoFuel = errors.New("no fuel")

func init() { rt.RegisterError("tour.errNoFuel", errNoFuel) }

var drive = rt.NewFunc("drive", func(_ context.Context, km int) (int, error) {
	if km > 600 {
		return 0, fmt.Errorf("after 600 km: %w", errNoFuel)
	}
	return km, nil
})

// job is an argument with references inside: they stay references.
type job struct {
	Text *rt.Ref[document]
	Last *rt.Ref[rt.None]
}

var words = rt.NewFunc("words", func(ctx context.Context, j job) (int, error) {
	if err := j.Last.Ready(ctx); err != nil {
		return 0, err
	}
	d, err := j.Text.Get(ctx)
	return len(d.Words), err
})

// squares gives its results one after the other, split gives two.
var (
	squares = rt.NewStream("squares", func(ctx context.Context, n int) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := range n {
				if !yield(i*i, nil) {
					return
				}
			}
		}
	})
	split = rt.NewFunc2("split", func(_ context.Context, d document) (first, rest document, err error) {
		return document{d.Title, d.Words[:1]}, document{d.Title, d.Words[1:]}, nil
	})
)

// fib asks for itself, so it is set where a variable may refer to itself.
var fib *rt.Func[int, int]

func init() {
	fib = rt.NewFunc("fib", func(ctx context.Context, n int) (int, error) {
		if n < 2 {
			return n, nil
		}
		both, err := rt.GetAll(ctx, []*rt.Ref[int]{fib.Remote(ctx, n-1), fib.Remote(ctx, n-2)})
		if err != nil {
			return 0, err
		}
		return both[0] + both[1], nil
	})
}

func main() {
	ctx := context.Background()
	client, err := rt.Init(ctx, rt.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := tour(ctx); err != nil {
		log.Print(err)
	}
}

func tour(ctx context.Context) error {
	counts, err := count.After(ctx, read.Remote(ctx, "Hamlet")).Get(ctx)
	if err != nil {
		return err
	}
	fmt.Println("to:", counts["to"])

	text := rt.Put(ctx, document{"Macbeth", []string{"tomorrow", "and", "tomorrow"}})
	n, err := words.Remote(ctx, job{Text: text, Last: sleep.Remote(ctx, 0)}).Get(ctx)
	if err != nil {
		return err
	}
	fmt.Println("words:", n)

	_, err = drive.Remote(ctx, 1000).Get(ctx)
	var failed *rt.TaskError
	if errors.As(err, &failed) && errors.Is(err, errNoFuel) {
		fmt.Println("on the way:", failed.Message)
	}

	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := sleep.Remote(short, time.Hour).Get(ctx); errors.Is(err, context.DeadlineExceeded) {
		fmt.Println("too late")
	}

	long := sleep.Remote(ctx, time.Hour)
	ready, rest, err := rt.Wait(ctx, []*rt.Ref[rt.None]{long, sleep.Remote(ctx, 0)}, 1)
	if err != nil {
		return err
	}
	fmt.Println("there:", len(ready), "not yet:", len(rest))
	if err := rt.Cancel(long); err != nil {
		return err
	}
	if _, err := long.Get(ctx); errors.Is(err, rt.ErrCancelled) {
		fmt.Println("cancelled")
	}

	sum := 0
	for square, err := range squares.Remote(ctx, 1000).All(ctx) {
		if err != nil {
			return err
		}
		sum += square
	}
	fmt.Println("sum:", sum)

	_, tail := split.Remote(ctx, document{"Macbeth", []string{"tomorrow", "and", "tomorrow"}})
	counts, err = count.After(ctx, tail).Get(ctx)
	if err != nil {
		return err
	}
	fmt.Println("and:", counts["and"])

	play := rt.Put(ctx, []byte("Enter, pursued by a bear"))
	last, err := rt.GetRange(ctx, play, 20, rt.End)
	if err != nil {
		return err
	}
	fmt.Printf("by a: %s\n", last)

	both, err := rt.Concat(ctx, []rt.Part{{Ref: play, Start: 0, Stop: 5}, rt.Whole(rt.Put(ctx, []byte(" the king")))}).Get(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", both)

	primes, err := rt.Cached(ctx, "primes-v1", func(ctx context.Context) ([]byte, error) { return []byte{2, 3, 5, 7}, nil })
	if err != nil {
		return err
	}
	fmt.Println("primes:", primes)

	f, err := fib.Remote(ctx, 7, rt.CPUs(0.5), rt.Retries(1)).Get(ctx)
	if err != nil {
		return err
	}
	fmt.Println("fib:", f)
	return nil
}
