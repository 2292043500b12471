package gang

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FoldFor is how long a line waits for its like from other ranks.
const FoldFor = 50 * time.Millisecond

// A folder holds no more than this; the oldest lines go first.
const (
	foldLines = 16 << 10
	foldBytes = 4 << 20
)

// Bounds of WindowOf.
const (
	Window     = 256 << 10 // of a stream
	gangWindow = 16 << 20  // of all streams of a gang, at whoever gathers them
	minWindow  = 1 << 10
)

// WindowOf is how many bytes of a stream may be unacknowledged in a gang of so many ranks: who gathers the output of thousands must be able to
// hold what all of them may send.
func WindowOf(world int) int {
	return min(Window, max(minWindow, gangWindow/(2*max(world, 1))))
}

// folder gathers equal lines of several ranks and writes whole lines, each marked with who said it.
//
// Lines wait in the order in which they first came. A rank's line joins the first waiting line of the
// same text that comes after all that the rank has said: so the lines of each rank keep their order.
// The first line goes when all living ranks have said it, or when it has waited FoldFor.
type folder struct {
	w     io.Writer
	plain bool // no marks, no folding
	world int
	term  *terminal // not nil: w is one
	both  bool      // both streams of a rank come here, so the end of one says little
	held  bool      // nothing goes because it has waited
	ahead uint64    // bytes of a stream that wait at most

	queue  []said // [head:] wait
	head   int
	first  int64           // sequence number of queue[0]
	index  map[string]pair // text to the first and last waiting lines that have it
	lastOf map[int]int64   // rank to the last line that it is part of
	bytes  int
	over   map[int]bool // ranks of which nothing more comes
	buf    bytes.Buffer
	marks  map[int]string // the mark of a single rank
}

type said struct {
	text string
	origin
	more []origin // further ranks
	due  int64
	next int64 // sequence number of the next waiting line with this text; 0: none
}

// origin is who said a line: a rank, in bytes of a stream that end there. nil: the line is none of a stream.
type origin struct {
	rank int
	of   *received
	end  uint64
}

// gone: the line is written, or about to be.
func (o origin) gone() {
	if o.of != nil {
		o.of.waits--
		o.of.gone = o.end
	}
}

type pair struct{ first, last int64 }

// maxSame is how many waiting lines of one text are looked at for one to join.
const maxSame = 32

func newFolder(w io.Writer, world int, plain bool, term *terminal) *folder {
	return &folder{
		w: w, plain: plain, world: world, term: term, index: map[string]pair{}, lastOf: map[int]int64{},
		over: map[int]bool{}, marks: map[int]string{}, first: 1, ahead: uint64(WindowOf(world)) / 2,
	}
}

// add takes a line, without its end, at time now.
func (f *folder) add(from origin, line []byte, now int64) {
	if from.of != nil {
		from.of.waits++
	}
	if f.plain || f.world == 1 {
		f.emit(said{text: string(line), origin: from})
		from.gone()
		return
	}
	rank := from.rank
	same, waits := f.index[string(line)]
	if seq := f.joins(rank, same); waits && seq != 0 {
		e := &f.queue[seq-f.first]
		e.more = append(e.more, from)
		f.lastOf[rank] = seq
		f.spare(from)
		f.release(now)
		return
	}
	text := string(line)
	seq := f.first + int64(len(f.queue))
	f.queue = append(f.queue, said{text: text, origin: from, due: now + int64(FoldFor)})
	if waits {
		f.queue[same.last-f.first].next = seq
		same.last = seq
	} else {
		same = pair{seq, seq}
	}
	f.index[text], f.lastOf[rank] = same, seq
	f.bytes += len(text)
	f.spare(from)
	f.release(now)
}

// spare lets lines go for which others would still be waited for, when half of what their agent may send is here: what waits is not acknowledged, and a
// rank that says much would wait with it.
func (f *folder) spare(from origin) {
	for o := from.of; o != nil && o.waits > 0 && from.end-o.gone > f.ahead; {
		f.pop()
	}
}

// joins finds the waiting line that a rank's line is the same as, 0: none.
func (f *folder) joins(rank int, same pair) int64 {
	last := f.lastOf[rank]
	for n, seq := 0, same.first; seq != 0 && n < maxSame; n++ {
		if seq > last {
			return seq
		}
		seq = f.queue[seq-f.first].next
	}
	return 0
}

// release writes the lines that wait no longer.
func (f *folder) release(now int64) {
	for f.head < len(f.queue) {
		e := &f.queue[f.head]
		if waits := f.held || e.due > now && !f.all(e); waits && len(f.queue)-f.head <= foldLines && f.bytes <= foldBytes {
			break
		}
		f.pop()
	}
	if f.head > 1024 && f.head*2 > len(f.queue) {
		n := copy(f.queue, f.queue[f.head:])
		clear(f.queue[n:])
		f.queue, f.first, f.head = f.queue[:n], f.first+int64(f.head), 0
	}
}

// all tells whether nobody is left who could say it too.
func (f *folder) all(e *said) bool {
	living := f.world - len(f.over)
	if 1+len(e.more) < living {
		return false
	}
	n := 0
	if !f.over[e.rank] {
		n++
	}
	for _, r := range e.more {
		if !f.over[r.rank] {
			n++
		}
	}
	return n >= living
}

func (f *folder) pop() {
	e := &f.queue[f.head]
	if e.next == 0 {
		delete(f.index, e.text)
	} else {
		f.index[e.text] = pair{e.next, f.index[e.text].last}
	}
	f.bytes -= len(e.text)
	f.emit(*e)
	e.gone()
	for _, o := range e.more {
		o.gone()
	}
	*e = said{}
	f.head++
}

// gone: the rank says nothing more, so nobody waits for it.
func (f *folder) gone(rank int) {
	if !f.both {
		f.over[rank] = true
	}
}

// back: it does, in another incarnation.
func (f *folder) back(rank int) { delete(f.over, rank) }

// next is when release is due; 0: never.
func (f *folder) next() int64 {
	if f.head == len(f.queue) || f.held {
		return 0
	}
	return f.queue[f.head].due
}

// drain releases everything.
func (f *folder) drain() {
	for f.head < len(f.queue) {
		f.pop()
	}
}

func (f *folder) emit(e said) {
	if f.term != nil {
		f.term.clear(&f.buf)
	}
	if !f.plain {
		f.buf.WriteString(f.mark(e))
	}
	f.buf.WriteString(e.text)
	f.buf.WriteByte('\n')
	if f.buf.Len() >= 64<<10 {
		_ = f.flush()
	}
}

// flush writes what was released.
func (f *folder) flush() error {
	if f.buf.Len() == 0 {
		return nil
	}
	_, err := f.w.Write(f.buf.Bytes())
	f.buf.Reset()
	return err
}

func (f *folder) mark(e said) string {
	if len(e.more) > 0 {
		ranks := []int{e.rank}
		for _, o := range e.more {
			ranks = append(ranks, o.rank)
		}
		return "[" + rankSet(ranks) + "] "
	}
	m, ok := f.marks[e.rank]
	if !ok {
		m = "[" + strconv.Itoa(e.rank) + "] "
		f.marks[e.rank] = m
	}
	return m
}

// maxRanges is how many pieces of a set of ranks are spelled out.
const maxRanges = 4

// rankSet writes a set of ranks: "0-3", "0,2-5", or "x64 ranks" where that is too long.
func rankSet(ranks []int) string {
	slices.Sort(ranks)
	var parts []string
	for i := 0; i < len(ranks); {
		j := i
		for j+1 < len(ranks) && ranks[j+1] <= ranks[j]+1 {
			j++
		}
		part := strconv.Itoa(ranks[i])
		if ranks[j] > ranks[i] {
			part += "-" + strconv.Itoa(ranks[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	if len(parts) > maxRanges {
		return "x" + strconv.Itoa(len(ranks)) + " ranks"
	}
	return strings.Join(parts, ",")
}
