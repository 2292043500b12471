package gang

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// streamKey names a stream of a rank's run.
type streamKey struct {
	incarnation, rank uint32
	stream            uint8
}

func (k streamKey) compare(o streamKey) int {
	for _, d := range []int{int(k.incarnation) - int(o.incarnation), int(k.rank) - int(o.rank), int(k.stream) - int(o.stream)} {
		if d != 0 {
			return d
		}
	}
	return 0
}

// received is how far a stream has come.
type received struct {
	next uint64 // offset of the next byte
	eof  bool
	part lines
	at   int64 // when part last changed
	seen string
	told int64 // when part was last written as a line, where no terminal is

	waits  int                // lines that wait for their like
	gone   uint64             // offset behind the last one that does no more
	ack    *fb.RankOutputAckT // the last one
	unsaid bool               // there is more than that
	owed   bool               // a repetition came: the acknowledgement was lost
}

// partHeld is how much of a line without an end is acknowledged only with its end: less than the least that an agent has without one.
const partHeld = 512

// written is the offset before which all is where it belongs: what waits in this process only would be lost with it.
func (st *received) written() uint64 {
	switch n := len(st.part.part); {
	case st.waits > 0:
		return st.gone
	case st.eof:
		return st.next + 1
	case n < partHeld:
		return st.next - uint64(n)
	}
	return st.next
}

// output is one message for the writer.
type output struct {
	m    *fb.RankOutputT
	data []byte
	text string // a message of ours
	from uint32 // the incarnation that begins
}

// writer puts output where it belongs. One goroutine owns all but what mu guards; it may wait for a
// reader that does not read, and nothing else waits for it but close.
type writer struct {
	io    IO
	spec  Spec
	world int
	ack   func(*fb.RankOutputAckT)

	files  *files
	stdout *folder
	stderr *folder // the same one if both are terminals
	shared map[string]*folder
	goes   map[streamKey]target
	writes map[written]map[string]int // how many ranks write to a file
	parted map[streamKey]*received    // streams with a line that has no end yet
	unsaid []*received                // streams of which not all is acknowledged
	raw    bool                       // bytes as they come: a single rank without marks
	waits  bool                       // file names depend on where ranks run
	early  []output
	failed map[string]bool
	lost   error // why a file has not all of its output; read when done is closed

	mu      sync.Mutex
	queue   []output
	busy    bool
	held    bool // the agent is away
	streams map[streamKey]*received
	past    map[streamKey]uint64 // what is here, with its end, of streams of earlier incarnations: an agent that was cut off may send it again
	expect  map[uint32]bool      // incarnations whose places are known
	current uint32
	ranks   []uint32
	node    map[[2]uint32]names // incarnation and rank to where it runs
	last    time.Time
	ready   chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

func newWriter(s Spec, rio IO, ack func(*fb.RankOutputAckT)) (*writer, error) {
	w := &writer{
		io: rio, spec: s, world: s.Ranks(), ack: ack, files: newFiles(rio.Append), shared: map[string]*folder{},
		goes: map[streamKey]target{}, writes: map[written]map[string]int{}, parted: map[streamKey]*received{},
		failed: map[string]bool{}, streams: map[streamKey]*received{}, past: map[streamKey]uint64{}, expect: map[uint32]bool{}, node: map[[2]uint32]names{},
		ready: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), last: time.Now(),
	}
	plain := rio.Prefix == PrefixNever || rio.Prefix == PrefixAuto && w.world <= 1
	w.raw = plain && w.world <= 1
	w.stdout = newFolder(rio.Stdout, w.world, plain, terminalOf(rio.Stdout))
	w.stderr = newFolder(rio.Stderr, w.world, plain, terminalOf(rio.Stderr))
	if w.stdout.term != nil && w.stderr.term != nil {
		w.stdout.both = true
		w.stderr = w.stdout
	}
	for _, p := range []string{rio.Output, rio.Error} {
		if p == "" {
			continue
		}
		w.waits = w.waits || perPlace(p)
		if err := checkPattern(p, rio.Dir, w.files, w.names(0, 0)); err != nil {
			return nil, err
		}
	}
	go w.run()
	return w, nil
}

func terminalOf(w io.Writer) *terminal {
	if f := fileOf(w); isTerminal(f) {
		return newTerminal(f)
	}
	return nil
}

// put brings output; the run's loop calls it.
func (w *writer) put(m *fb.RankOutputT, data []byte) { w.push(output{m: m, data: data}) }

// message brings a line of ours, for stderr.
func (w *writer) message(text string) { w.push(output{text: text}) }

func (w *writer) push(o output) {
	w.mu.Lock()
	w.queue = append(w.queue, o)
	w.last = time.Now()
	w.mu.Unlock()
	w.poke()
}

func (w *writer) poke() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// hold keeps what waits for its like (GANG-7), or lets it go on.
func (w *writer) hold(on bool) {
	w.mu.Lock()
	w.held = on
	w.mu.Unlock()
	w.poke()
}

// placed says where the ranks of an incarnation run.
func (w *writer) placed(incarnation uint32, places []*fb.RankPlaceT, nodes map[uint32]string) {
	w.mu.Lock()
	if !w.expect[incarnation] {
		w.queue = append(w.queue, output{from: incarnation})
	}
	w.expect[incarnation] = true
	w.current = max(w.current, incarnation)
	w.ranks = w.ranks[:0]
	for _, p := range places {
		w.ranks = append(w.ranks, p.Rank)
		w.node[[2]uint32{incarnation, p.Rank}] = names{node: nodes[p.Agent], nodeRank: int(p.NodeRank)}
	}
	for k, st := range w.streams {
		if k.incarnation < incarnation && st.eof { // done with
			w.past[k] = st.next + 1
			delete(w.streams, k)
		}
	}
	w.mu.Unlock()
	w.poke()
}

// complete tells whether all streams of all ranks have ended and are written.
func (w *writer) complete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 || w.busy {
		return false
	}
	for _, r := range w.ranks {
		for s := uint8(1); s <= 2; s++ {
			if st := w.streams[streamKey{w.current, r, s}]; st == nil || !st.eof {
				return false
			}
		}
	}
	return true
}

// touched is when something last came.
func (w *writer) touched() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy || len(w.queue) > 0 {
		return time.Now()
	}
	return w.last
}

func (w *writer) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
}

// marks tells what is here, for agents to go on from.
func (w *writer) marks() []*fb.OutputMarkT {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]streamKey, 0, len(w.streams))
	for k := range w.streams {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, streamKey.compare)
	out := make([]*fb.OutputMarkT, 0, len(keys))
	for _, k := range keys {
		st := w.streams[k]
		offset := st.next
		if st.eof {
			offset++
		}
		out = append(out, &fb.OutputMarkT{Rank: k.rank, Stream: k.stream, Offset: offset})
	}
	return out
}

// close writes what is left and waits for it.
func (w *writer) close() {
	close(w.quit)
	<-w.done
}

// run is the writer's goroutine.
func (w *writer) run() {
	defer close(w.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-w.ready:
		case <-timer.C:
		case <-w.quit:
			w.work(true)
			if err := w.files.close(); err != nil {
				w.unwritten("close", err)
			}
			return
		}
		w.work(false)
		if next := w.next(); next > 0 {
			timer.Reset(max(0, time.Duration(next-time.Now().UnixNano())))
		} else {
			timer.Reset(time.Hour)
		}
	}
}

// work writes what came, and what has waited long enough.
func (w *writer) work(last bool) {
	w.mu.Lock()
	batch := w.queue
	w.queue, w.busy = nil, true
	held := w.held
	w.mu.Unlock()
	for _, f := range w.folders() {
		f.held = held
	}
	now := time.Now().UnixNano()
	if len(w.early) > 0 {
		batch, w.early = append(w.early, batch...), nil
	}
	for _, o := range batch {
		switch {
		case o.from != 0:
			w.create(o.from)
		case o.m == nil:
			w.line(w.stderr, o.text)
		case w.waits && !w.isPlaced(o.m.Incarnation) && !last:
			w.early = append(w.early, o)
		default:
			w.take(o, now)
		}
	}
	if last {
		w.rest(now)
	}
	w.parts(now)
	for _, f := range w.folders() {
		if last {
			f.drain()
			if f.term != nil {
				f.term.status("")
			}
		}
		f.release(now)
		if f.term != nil {
			f.term.draw(&f.buf)
		}
		if err := f.flush(); err != nil {
			if file, ok := f.w.(pathWriter); ok {
				w.unwritten(file.path, err)
			} else {
				w.complain("output", err)
			}
		}
	}
	w.acknowledge()
	w.mu.Lock()
	w.busy = false
	w.mu.Unlock()
}

// acknowledge tells agents what is written.
func (w *writer) acknowledge() {
	left := w.unsaid[:0]
	for _, st := range w.unsaid {
		all := st.next
		if st.eof {
			all++
		}
		if to := max(st.written(), st.ack.Offset); to > st.ack.Offset || st.owed {
			st.ack.Offset, st.owed = to, false
			ack := *st.ack
			w.ack(&ack)
		}
		if st.unsaid = st.ack.Offset < all; st.unsaid {
			left = append(left, st)
		}
	}
	clear(w.unsaid[len(left):])
	w.unsaid = left
}

func (w *writer) isPlaced(incarnation uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.expect[incarnation]
}

// take books one piece of output and puts it where it belongs.
func (w *writer) take(o output, now int64) {
	k := streamKey{o.m.Incarnation, o.m.Rank, o.m.Stream}
	w.mu.Lock()
	if end := w.past[k]; end > 0 {
		w.mu.Unlock()
		w.ack(&fb.RankOutputAckT{Group: o.m.Group, Incarnation: k.incarnation, Rank: k.rank, Stream: k.stream, Offset: end})
		return
	}
	st := w.streams[k]
	if st == nil {
		st = &received{next: OffsetBase(k.incarnation)}
		st.ack = &fb.RankOutputAckT{Group: o.m.Group, Incarnation: k.incarnation, Rank: k.rank, Stream: k.stream, Offset: st.next}
		st.gone = st.next
		w.streams[k] = st
	}
	data := o.data
	switch end := o.m.Offset + uint64(len(data)); {
	case end <= st.next: // a repetition
		data, st.owed = nil, true
	case o.m.Offset < st.next:
		data = data[st.next-o.m.Offset:]
		st.next, st.owed = end, true
	default:
		st.next = end
	}
	fresh := o.m.Eof && !st.eof
	st.eof = st.eof || o.m.Eof
	w.mu.Unlock()
	w.write(k, st, data, now)
	if fresh {
		w.ended(k, st, now)
	}
	if !st.unsaid {
		st.unsaid, w.unsaid = true, append(w.unsaid, st)
	}
}

// write puts bytes of a stream where they belong.
func (w *writer) write(k streamKey, st *received, data []byte, now int64) {
	if len(data) == 0 {
		return
	}
	f, path := w.target(k)
	if f != nil {
		f.back(int(k.rank))
	}
	switch {
	case path != "":
		if err := w.files.Write(path, data); err != nil {
			w.unwritten(path, err)
		}
	case f.plain && w.raw:
		if _, err := f.w.Write(data); err != nil {
			w.complain("output", err)
		}
	default:
		st.part.feed(data, func(line []byte, after int) { f.add(origin{int(k.rank), st, st.next - uint64(after)}, line, now) })
		st.at = now
		if len(st.part.part) > 0 {
			w.parted[k] = st
		} else {
			delete(w.parted, k)
		}
	}
}

// ended: a stream is over; a last line without an end gets one.
func (w *writer) ended(k streamKey, st *received, now int64) {
	f, path := w.target(k)
	if path != "" {
		return
	}
	st.part.rest(func(line []byte) { f.add(origin{int(k.rank), st, st.next}, line, now) })
	delete(w.parted, k)
	f.gone(int(k.rank))
	if f.term != nil {
		f.term.status("")
	}
}

// next is when work is due without anything having come, 0: never.
func (w *writer) next() int64 {
	var at int64
	for _, f := range w.folders() {
		if n := f.next(); n != 0 && (at == 0 || n < at) {
			at = n
		}
	}
	for _, st := range w.parted {
		if st.told != 0 {
			if n := st.told + int64(stateEvery); at == 0 || n < at {
				at = max(n, time.Now().UnixNano()+int64(time.Second))
			}
		}
	}
	return at
}

// folders lists all, in a fixed order.
func (w *writer) folders() []*folder {
	out := []*folder{w.stdout}
	if w.stderr != w.stdout {
		out = append(out, w.stderr)
	}
	paths := make([]string, 0, len(w.shared))
	for p := range w.shared {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		out = append(out, w.shared[p])
	}
	return out
}

// line writes a line of ours among those of the ranks.
func (w *writer) line(f *folder, text string) {
	if f.term != nil {
		f.term.clear(&f.buf)
	}
	f.buf.WriteString(text + "\n")
}

// unwritten says that a file has not all of its output, which keeps the run from being a success.
func (w *writer) unwritten(path string, err error) {
	w.lost = err
	w.complain(path, err)
}

// complain says once that output can't be written.
func (w *writer) complain(what string, err error) {
	if w.failed[what] || errors.Is(err, os.ErrClosed) {
		return
	}
	w.failed[what] = true
	_, _ = io.WriteString(w.io.Stderr, "maniple: "+err.Error()+"\n")
}
