package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/rt"
)

// at is where a process runs: the directory of its node, whose last part is the node's name.
func at() string { return filepath.Base(filepath.Dir(os.Getenv("MANIPLE_ADDRESS"))) }

// place is an actor that knows where it lives, and keeps a reference.
type place struct{ kept *rt.Ref[[]byte] }

func (*place) Where(context.Context, rt.None) (string, error) { return at(), nil }

func (p *place) Keep(_ context.Context, r *rt.Ref[[]byte]) (string, error) {
	p.kept = r
	return at(), nil
}

func (p *place) Read(ctx context.Context, _ rt.None) (int, error) {
	b, err := p.kept.Get(ctx)
	return len(b), err
}

// errand is what a task gets that goes on to other nodes by itself.
type errand struct {
	Group *rt.Group
	Actor rt.Handle[*place]
	Value *rt.Ref[[]byte]
	Third int // a bundle
}

var (
	where  = rt.NewFunc("where", func(context.Context, rt.None) (string, error) { return at(), nil })
	naps   = rt.NewFunc("naps", func(ctx context.Context, d time.Duration) (string, error) { time.Sleep(d); return at(), nil })
	Place  = rt.NewActor("place", func(context.Context, rt.None) (*place, error) { return &place{}, nil })
	Where  = rt.NewMethod(Place, "Where", (*place).Where)
	Keep   = rt.NewMethod(Place, "Keep", (*place).Keep)
	Read   = rt.NewMethod(Place, "Read", (*place).Read)
	visits = rt.NewFunc("visits", func(ctx context.Context, e errand) ([]string, error) {
		actor, err := Where.Remote(ctx, e.Actor, rt.None{}).Get(ctx)
		if err != nil {
			return nil, err
		}
		b, err := e.Value.Get(ctx)
		if err != nil {
			return nil, err
		}
		other, err := where.Remote(ctx, rt.None{}, rt.InGroup(e.Group, e.Third), rt.CPUs(0.5)).Get(ctx)
		return []string{at(), actor, fmt.Sprint(len(b)), other}, err
	})
	// marks says in a file where it is, and ends when there is another one.
	marks = rt.NewFunc("marks", func(ctx context.Context, path string) (string, error) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(f, at())
		if err := f.Close(); err != nil {
			return "", err
		}
		for err = os.ErrNotExist; err != nil && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			_, err = os.Stat(filepath.Join(filepath.Dir(path), "go"))
		}
		return at(), ctx.Err()
	})
)

// nodes uses three nodes of two CPUs each, of which it names one that is to be killed.
func nodes(ctx context.Context, client *rt.Client) {
	check(len(must(client.Nodes(ctx))) == 3, "there are not three nodes")
	home := filepath.Base(filepath.Dir(client.Address()))

	// Tasks of no group, more than one node has room for, end up on all of them.
	var refs []*rt.Ref[string]
	for range 6 {
		refs = append(refs, naps.Remote(ctx, time.Second))
	}
	seen := must(rt.GetAll(ctx, refs))
	slices.Sort(seen)
	check(slices.Equal(slices.Compact(seen), []string{"n1", "n2", "n3"}), "tasks ran on %v", seen)

	group := must(rt.NewGroup(ctx, rt.StrictSpread, rt.Bundle{"CPU": 1}, rt.Bundle{"CPU": 1}, rt.Bundle{"CPU": 1}))
	check(group.Ready(ctx) == nil, "group")
	places := make([]string, 3)
	for i := range places {
		places[i] = must(where.Remote(ctx, rt.None{}, rt.InGroup(group, i)).Get(ctx))
	}
	far := slices.IndexFunc(places, func(p string) bool { return p != home })
	check(len(slices.Compact(slices.Sorted(slices.Values(places)))) == 3 && far >= 0, "bundles are on %v", places)

	// A large value goes there and back, as an argument, as a result, and as what an actor keeps a reference to.
	value := rt.Put(ctx, make([]byte, 40<<20))
	check(must(size.After(ctx, value, rt.InGroup(group, far)).Get(ctx)) == 40<<20, "40 MiB there")
	made := room.Remote(ctx, 30<<20, rt.InGroup(group, far))
	check(len(must(made.Get(ctx))) == 30<<20, "30 MiB back")
	stripes := striped.Remote(ctx, stripesSize, rt.InGroup(group, far))
	ranged(ctx, stripes)
	joined(ctx, stripes, rt.InGroup(group, (far+1)%3))
	stripes.Release()
	actor := Place.Remote(ctx, rt.None{}, rt.InGroup(group, far), rt.CPUs(0), rt.Restarts(1), rt.Retries(1))
	check(must(Where.Remote(ctx, actor, rt.None{}).Get(ctx)) == places[far], "the actor is elsewhere")
	check(must(Keep.Remote(ctx, actor, value).Get(ctx)) == places[far], "keep")
	check(must(Read.Remote(ctx, actor, rt.None{}).Get(ctx)) == 40<<20, "what the actor keeps")

	// A task on one node calls the actor on another, and submits to a third.
	near, third := (far+1)%3, (far+2)%3
	got := must(visits.Remote(ctx, errand{group, actor, value, third}, rt.InGroup(group, near), rt.CPUs(0.5)).Get(ctx))
	check(slices.Equal(got, []string{places[near], places[far], fmt.Sprint(40 << 20), places[third]}), "visits: %v", got)
	_, err := fails.Remote(ctx, rt.None{}, rt.InGroup(group, far)).Get(ctx)
	check(errors.Is(err, errLuck), "an error from there: %v", err)
	check(rt.Kill(actor) == nil && group.Remove(ctx) == nil, "remove")
	killed(ctx, home)
}

const stripesSize = 20 << 20

// stripe is the byte at i of what striped gives.
func stripe(i int) byte { return byte(i >> 10) }

var striped = rt.NewFunc("striped", func(_ context.Context, n int) ([]byte, error) {
	b := make([]byte, n)
	for i := range b {
		b[i] = stripe(i)
	}
	return b, nil
})

// ranged reads ranges of a value of 20 MiB that stayed at another node.
func ranged(ctx context.Context, made *rt.Ref[[]byte]) {
	const size = stripesSize
	for _, r := range [][2]int{{1000, 5000}, {3 << 20, 12 << 20}, {size - 3, rt.End}} {
		b := must(rt.GetRange(ctx, made, r[0], r[1]))
		if r[1] == rt.End {
			r[1] = size
		}
		check(len(b) == r[1]-r[0], "%v: %d bytes", r, len(b))
		for i := range b {
			check(b[i] == stripe(r[0]+i), "byte %d of %v", i, r)
		}
	}
	_, err := rt.GetRange(ctx, made, 0, size+1)
	check(err != nil && strings.Contains(err.Error(), "20971520 elements"), "a range that is not there: %v", err)
}

// joined has an object made of ranges of such a value and of others at another node.
func joined(ctx context.Context, made *rt.Ref[[]byte], there rt.Option) {
	const end = stripesSize - 1<<20
	put := rt.Put(ctx, make([]byte, 1<<20))
	all := rt.Concat(ctx, []rt.Part{{Ref: made, Start: 1000, Stop: end}, rt.Whole(put), {Ref: made, Start: end, Stop: rt.End}}, there)
	b := must(all.Get(ctx))
	check(len(b) == stripesSize-1000+1<<20, "joined: %d bytes", len(b))
	for i := range b {
		want := stripe(1000 + i)
		if i >= end-1000 {
			want = 0
		}
		if i >= end-1000+1<<20 {
			want = stripe(1000 + i - 1<<20)
		}
		check(b[i] == want, "byte %d of what was joined", i)
	}
	check(must(rt.GetRange(ctx, all, 0, 1))[0] == stripe(1000), "a range of what was joined")
	_, err := rt.Concat(ctx, []rt.Part{{Ref: made, Start: 0, Stop: stripesSize + 1}}, there).Get(ctx)
	check(err != nil && strings.Contains(err.Error(), "part 0"), "a part that is not there: %v", err)
}

// killed has a task on each CPU, and one of the nodes killed: its tasks go on elsewhere.
func killed(ctx context.Context, home string) {
	dir := must(filepath.Abs("."))
	var refs []*rt.Ref[string]
	var files []string
	for i := range 6 {
		files = append(files, filepath.Join(dir, fmt.Sprint("mark", i)))
		refs = append(refs, marks.Remote(ctx, files[i]))
	}
	began := make([]string, len(files))
	for i := range files {
		for began[i] == "" && ctx.Err() == nil {
			text, _ := os.ReadFile(files[i])
			began[i] = strings.TrimSpace(string(text))
			time.Sleep(5 * time.Millisecond)
		}
	}
	victim := began[slices.IndexFunc(began, func(node string) bool { return node != home })]
	fmt.Println("node", victim)
	again := 0
	for i, where := range must(rt.GetAll(ctx, refs)) {
		text := strings.Fields(string(must(os.ReadFile(files[i]))))
		check(text[0] == began[i] && text[len(text)-1] == where && where != victim, "task %d ran on %v and ended on %s", i, text, where)
		if began[i] == victim {
			check(len(text) == 2, "task %d ran on %v", i, text)
			again++
		}
	}
	check(again > 0, "nothing ran on %s", victim)
}
