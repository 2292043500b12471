package rt

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Part is the range [Start:Stop] of what a reference will give. Stop may be End.
type Part struct {
	Ref         *Ref[[]byte]
	Start, Stop int
}

// Whole is all of what a reference will give.
func Whole(r *Ref[[]byte]) Part { return Part{r, 0, End} }

const (
	concatPiece     = 16 << 20        // so much of a part is brought at once
	concatAhead     = 4 * concatPiece // so much is on its way
	concatQuestions = 64              // that are asked at once, about as many parts or for as many pieces
)

var concat = func() *declaration {
	d := &declaration{run: func(ctx context.Context, _ any, arg serve.Arg) (session.Encoded, error) {
		parts, err := value.Decode[[]Part](arg.Format, arg.Bytes)
		if err != nil {
			return session.Encoded{}, err
		}
		v, err := join(ctx, parts)
		var fault *session.Fault
		if errors.As(err, &fault) && ctx.Err() == nil { // that of a part, or of the memory
			err = serve.Argument(fault)
		}
		return v, err
	}}
	declared.add(" function", "rt.concat", d)
	return d
}()

// Concat gives a reference to the parts one behind another. A task with these options makes that as soon as all parts are there: it takes memory of its node for all, and has of
// each part only the range brought there. Get's error is the one of a part, or says which part does not have its range.
func Concat(ctx context.Context, parts []Part, options ...Option) *Ref[[]byte] {
	for i, p := range parts {
		switch {
		case p.Ref == nil:
			return failed[[]byte](&Error{Code: session.CodeOption, Message: fmt.Sprintf("Concat: part %d has no reference", i)})
		case p.Ref.h == nil:
			return failed[[]byte](p.Ref.fault())
		case p.Start < 0 || p.Stop != End && p.Stop < p.Start:
			return failed[[]byte](&Error{Code: session.CodeOption, Message: fmt.Sprintf("Concat: [%d:%d] of part %d is no range", p.Start, p.Stop, i)})
		}
	}
	defer runtime.KeepAlive(parts)
	f := &Func[[]Part, []byte]{concat}
	return f.Remote(ctx, parts, options...)
}

// joined is a part that is to be copied, and what is known of its value.
type joined struct {
	number      int
	h           *session.Hold
	start, stop int
	size        int // of the value
	version     uint32
	alone       bool   // ranges of it are brought, else all of it is got
	into        []byte // where all of the part is to lie
	done        bool   // it lies there
}

// chunk is a stretch of a part, on its way to its place.
type chunk struct {
	of    *joined
	begin int // in the value
	into  []byte
	slice *session.Slice // nil: all of the value is got
}

// join makes the value: what Concat's task does.
func join(ctx context.Context, parts []Part) (session.Encoded, error) {
	defer runtime.KeepAlive(parts)
	if len(parts) == 0 {
		return session.Encoded{Format: fb.FormatRaw}, nil
	}
	holds := make([]*session.Hold, len(parts))
	for i, p := range parts {
		holds[i] = p.Ref.h
	}
	s := holds[0].Session()
	if _, err := s.Wait(ctx, holds, len(holds)); err != nil {
		return session.Encoded{}, err
	}
	all, size := make([]joined, len(parts)), 0
	for i, p := range parts {
		all[i] = joined{number: i, h: holds[i], start: p.Start, stop: p.Stop}
	}
	if err := measure(ctx, s, all); err != nil {
		return session.Encoded{}, err
	}
	for _, j := range all {
		size += j.stop - j.start
	}
	v, err := s.Alloc(ctx, size)
	if err != nil {
		return session.Encoded{}, err
	}
	if err := fetch(ctx, s, chunks(all, v.Bytes)); err != nil {
		v.Done()
		return session.Encoded{}, err
	}
	return v, nil
}

// measure learns how long parts are, and which can be had alone.
func measure(ctx context.Context, s *session.Session, all []joined) (err error) {
	asked := make([]*session.Slice, len(all))
	at := 0
	for i := range all {
		for ; at < min(i+concatQuestions, len(all)); at++ {
			if err == nil && !all[at].h.Here() {
				asked[at] = s.Measure(all[at].h)
			}
		}
		if err == nil {
			err = all[i].measure(ctx, asked[i])
		} else if asked[i] != nil {
			asked[i].Release()
		}
	}
	return err
}

func (j *joined) measure(ctx context.Context, asked *session.Slice) error {
	if asked != nil {
		w, ok, err := asked.What(ctx)
		if err != nil {
			return err
		}
		if j.alone = ok && w.Format == fb.FormatRaw && w.Size > aloneFrom; j.alone {
			j.size, j.version = int(w.Size), w.Version
		}
	}
	if !j.alone {
		err := j.look(ctx, func(b []byte) error {
			j.size = len(b)
			return nil
		})
		if err != nil {
			return err
		}
	}
	end, err := within(j.name(), j.start, j.stop, j.size)
	j.stop = end
	return err
}

func (j *joined) name() string { return fmt.Sprintf("part %d (%s)", j.number, session.Name(j.h.ID())) }

// look gets all of the value.
func (j *joined) look(ctx context.Context, look func([]byte) error) error {
	var wrong error
	err := j.h.Look(ctx, func(v *session.Value) {
		if v.Format != fb.FormatRaw {
			wrong = fmt.Errorf("%s is of format %s, and not bytes", j.name(), v.Format)
			return
		}
		wrong = look(v.Bytes)
	})
	if err == nil {
		err = wrong
	}
	return err
}

// chunks divides the parts, whose places are one behind another.
func chunks(parts []joined, into []byte) (list []chunk) {
	for i := range parts {
		j := &parts[i]
		j.into, into = into[:j.stop-j.start], into[j.stop-j.start:]
		for at := j.start; at < j.stop; at += concatPiece {
			n := min(concatPiece, j.stop-at)
			list = append(list, chunk{of: j, begin: at, into: j.into[at-j.start:][:n]})
		}
	}
	return list
}

// fetch fills chunks in their order, some of which are on their way before.
func fetch(ctx context.Context, s *session.Session, list []chunk) error {
	asked, ahead := 0, 0
	defer func() {
		for i := range list[:asked] {
			if c := &list[i]; c.slice != nil {
				c.slice.Release()
			}
		}
	}()
	for n := range list {
		for ; asked < min(n+concatQuestions, len(list)) && ahead+len(list[asked].into) <= concatAhead; asked++ {
			c := &list[asked]
			ahead += len(c.into)
			if c.of.alone {
				c.slice = s.Slice(c.of.h, uint64(c.begin), uint64(len(c.into)), c.of.version)
			}
		}
		if err := list[n].fill(ctx); err != nil {
			return err
		}
		ahead -= len(list[n].into)
	}
	return nil
}

// fill has the bytes of a chunk copied to their place. Where all of the value is got, those of all of the part are: it may have been made anew, and what was brought
// before be of another one.
func (c *chunk) fill(ctx context.Context) error {
	j := c.of
	if c.slice != nil && j.alone {
		ok, err := c.slice.Read(ctx, c.into)
		if ok || err != nil {
			return err
		}
		j.alone = false
	}
	if j.done {
		return nil
	}
	j.done = true
	return j.look(ctx, func(b []byte) error {
		if len(b) != j.size {
			return fmt.Errorf("%s was made anew while it was read, and has %d bytes, not %d", j.name(), len(b), j.size)
		}
		copy(j.into, b[j.start:])
		return nil
	})
}
