package rt_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

// keeper holds on to references that it is given, for a while.
type keeper struct{ kept []*rt.Ref[int] }

var (
	Keeper = rt.NewActor("keeper", func(context.Context, rt.None) (*keeper, error) { return &keeper{}, nil })
	Keep   = rt.NewMethod(Keeper, "Keep", (*keeper).Keep)
	spread = rt.NewFunc("spread", func(ctx context.Context, p pair) (pair, error) {
		v, err := p.Left.Get(ctx)
		return pair{Left: p.Left, Right: []*rt.Ref[int]{square.Remote(ctx, v), p.Left}, Note: "spread"}, err
	})
)

// Keep gives back the one that it was given some calls before.
func (k *keeper) Keep(ctx context.Context, p pair) (pair, error) {
	k.kept = append(k.kept, p.Left)
	if len(k.kept) > 5 {
		k.kept = k.kept[1:]
	}
	return pair{Left: k.kept[0], Right: p.Right}, nil
}

// Random histories of all that names references, by several goroutines and a garbage collector that is in a hurry: the agent,
// which ends a connection that names what it does not hold, has nothing to say, and in the end holds nothing (SES-1, RT-4).
func TestHistories(t *testing.T) {
	ctx, n := join(t, 2, work.Config{Records: 64, Bytes: 1 << 16})
	const seed, goroutines, steps = 7, 6, 150
	h := Keeper.Remote(ctx, rt.None{})
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			refs := []*rt.Ref[int]{rt.Put(ctx, g)}
			check := func(p pair, err error) {
				if err != nil && !errors.Is(err, rt.ErrCancelled) {
					t.Error(err)
					return
				}
				if err == nil {
					refs = append(append(refs, p.Left), p.Right...)
				}
			}
			for i := range steps {
				any := refs[r.IntN(len(refs))]
				switch r.IntN(10) {
				case 0:
					refs = append(refs, rt.Put(ctx, i))
				case 1:
					refs = append(refs, square.Remote(ctx, i), square.After(ctx, any))
				case 2:
					check(spread.Remote(ctx, pair{Left: any}).Get(ctx))
				case 3:
					check(spread.After(ctx, rt.Put(ctx, pair{Left: any, Right: refs[:1]})).Get(ctx))
				case 4:
					check(Keep.Remote(ctx, h, pair{Left: any, Right: []*rt.Ref[int]{any}}).Get(ctx))
				case 5:
					if _, err := any.Get(ctx); err != nil && !errors.Is(err, rt.ErrCancelled) {
						t.Error(err)
					}
				case 6:
					_, _, err := rt.Wait(ctx, refs, 1+r.IntN(len(refs)))
					if err != nil {
						t.Error(err)
					}
				case 7:
					c := square.Remote(ctx, i)
					_ = rt.Cancel(c)
				case 8:
					runtime.GC()
				case 9:
					refs = refs[len(refs)/2:]
				}
			}
		})
	}
	all.Wait()
	h.Release()
	until(t, ctx, "nothing is held", func() bool {
		runtime.GC()
		return strings.Count(n.State("objects"), `"id"`) == 0
	})
}
