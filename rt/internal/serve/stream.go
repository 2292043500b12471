package serve

import (
	"context"
	"fmt"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// streamed makes code of a stream: its end is the job's last result, behind those that it has given. Of a function with several results,
// which come together or not at all, it is the last of these.
func (w *worker) streamed(j *job, f Stream) Func {
	if !j.streams {
		return func(ctx context.Context, _ any, arg Arg) (session.Encoded, error) { return w.several(ctx, j, arg, f) }
	}
	return func(ctx context.Context, _ any, arg Arg) (session.Encoded, error) {
		err := f(ctx, arg, func(v session.Encoded) error { return w.give(ctx, j, v) })
		return session.Encoded{Format: fb.FormatRaw}, err
	}
}

func (w *worker) several(ctx context.Context, j *job, arg Arg, f Stream) (last session.Encoded, err error) {
	var all []session.Encoded
	err = f(ctx, arg, func(v session.Encoded) error {
		all = append(all, v)
		return nil
	})
	defer func() {
		for i := range all {
			all[i].Done()
		}
	}()
	for len(all) > 1 && err == nil {
		err = w.give(ctx, j, all[0])
		all = all[1:]
	}
	if err != nil || len(all) == 0 {
		return last, err
	}
	last, all = all[0], nil
	return last, nil
}

// give sends a result that is not the last, and waits until the next one may be made.
func (w *worker) give(ctx context.Context, j *job, v session.Encoded) error {
	defer v.Done()
	switch {
	case w.s.Shared(len(v.Bytes)):
		told := j.result(fb.ResultFlagLocated, session.Encoded{Format: v.Format}, 0, 0)
		if err := w.s.Seal(ctx, id.Object{Task: j.task.ID, Index: j.index}, v, session.Around{Behind: told}); err != nil {
			return err
		}
	case len(v.Bytes) > wire.MaxMessage-1<<20:
		return fmt.Errorf("its result %d has %d MiB, which is more than one message: divide it, or write it to a file", j.index, len(v.Bytes)>>20)
	default:
		refs := session.Heads(v.Refs)
		w.s.Send(j.result(0, v, len(refs)+len(v.Bytes), 0), refs, v.Bytes)
	}
	w.s.Flush()
	j.index++
	if !j.streams {
		return ctx.Err()
	}
	w.s.Lock()
	j.flow.gave(len(v.Bytes))
	w.s.Unlock()
	return w.turn(ctx, j)
}

// readerAt notes how far the reader of a stream is.
func (w *worker) readerAt(o id.Object) {
	if j := w.jobs[o.Task]; j != nil {
		j.flow.readerAt(o.Index)
	}
}
