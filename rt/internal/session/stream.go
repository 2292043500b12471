package session

import (
	"context"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// StreamBit in Submit.returns says that a task gives any number of results, one after the other; the bits below it are how many
// of them it may be ahead of who reads them.
const StreamBit = uint32(1) << 31

// ItemCost is what each item counts as beside its own bytes.
const ItemCost = 1 << 10

const (
	tellItems = 16      // items that were taken after which who gives them is told; a reader that waits always tells
	tellBytes = 1 << 20 // or so many bytes
)

// Stream is what a task gives one after the other, as objects of its own. The session's lock guards it.
type Stream struct {
	s      *Session
	task   id.Task
	items  []*Hold // that came and were not taken
	come   uint32
	taken  uint32
	told   uint32 // of taken
	untold int    // bytes that were taken since
	ended  bool
	closed bool // nobody reads any more
	wake   chan struct{}
}

// SubmitStream is Submit of a task that gives a stream, and is not more than ahead items before its reader.
func (s *Session) SubmitStream(ctx context.Context, function uint64, shape, ahead uint32, a Args) (*Stream, error) {
	if err := s.admit(ctx, &a); err != nil {
		return nil, err
	}
	st := &Stream{s: s, task: s.Mint()}
	s.mu.Lock()
	s.streams[st.task] = st
	s.mu.Unlock()
	s.submit(ctx, st.task, function, shape, StreamBit|ahead, a)
	return st, nil
}

// ofMany takes in a result of a task that has more than one; false: it is to be taken in as any.
func (s *Session) ofMany(name id.Object, o *object, v *Value, flags fb.ResultFlag, payload []byte) bool {
	if st := s.streams[name.Task]; st != nil && o == nil {
		st.item(name, v, flags, payload)
		return true
	}
	n := s.several[name.Task]
	if n == 0 || flags&fb.ResultFlagLast == 0 {
		return false
	}
	delete(s.several, name.Task)
	if !v.Failed {
		return false
	}
	v.Bytes = append([]byte(nil), payload...)
	for i := range n { // it is the error of all that have not come
		if o := s.objects[id.Object{Task: name.Task, Index: i}]; o != nil && o.state != here {
			s.settle(o, v, nil)
		}
	}
	return true
}

// item takes in a result. What comes again, because the task was tried again, is dropped.
func (st *Stream) item(name id.Object, v *Value, flags fb.ResultFlag, payload []byte) {
	s := st.s
	last := flags&fb.ResultFlagLast != 0
	if last {
		st.ended = true
		delete(s.streams, st.task)
	}
	if last && !v.Failed || name.Index < st.come {
		v.drop(s)
	} else {
		h := s.newLocked(name, pending)
		st.come = name.Index + 1
		s.take(name, h.o, v, flags, payload)
		if st.closed {
			h.releaseLocked()
		} else {
			st.items = append(st.items, h)
		}
	}
	if st.wake != nil {
		close(st.wake)
		st.wake = nil
	}
}

// Next waits for the next item and gives a hold on it; nil: there are no more.
func (st *Stream) Next(ctx context.Context) (*Hold, error) {
	s := st.s
	for {
		s.mu.Lock()
		switch {
		case len(st.items) > 0:
			h := st.items[0]
			st.items = st.items[1:]
			st.taken++
			st.untold += tellBytes
			if v := h.o.value; v != nil && v.view == nil {
				st.untold += len(v.Bytes) + ItemCost - tellBytes
			}
			told := st.tell(st.taken-st.told >= tellItems || st.untold >= tellBytes)
			s.mu.Unlock()
			if told {
				s.Flush()
			}
			return h, nil
		case st.ended || st.closed:
			s.mu.Unlock()
			return nil, nil
		}
		if st.wake == nil {
			st.wake = make(chan struct{})
		}
		wake := st.wake
		st.tell(true)
		s.mu.Unlock()
		s.Flush()
		if err := s.Block(ctx, wake); err != nil {
			return nil, err
		}
	}
}

// tell tells the task how far its reader is, if it is time for that and the task does not know it.
func (st *Stream) tell(now bool) bool {
	if !now || st.ended || st.told == st.taken {
		return false
	}
	st.told, st.untold = st.taken, 0
	_, f := work.Extend(nil, fb.FrameTypeGet, 0)
	work.Get(f).SetObject(id.Object{Task: st.task, Index: st.taken})
	work.Get(f).SetWant(fb.WantTaken)
	st.s.Send(f)
	return true
}

// Close lets go of what was not read, and cancels the task if it goes on. A second one does nothing.
func (st *Stream) Close() {
	s := st.s
	s.mu.Lock()
	if st.closed {
		s.mu.Unlock()
		return
	}
	st.closed = true
	ReleaseLocked(st.items)
	st.items = nil
	goes := !st.ended && s.why == nil
	if st.wake != nil {
		close(st.wake)
		st.wake = nil
	}
	s.mu.Unlock()
	if goes {
		s.cancel(st.task, 0)
	}
	s.Flush()
}
