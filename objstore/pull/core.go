package pull

import (
	"cmp"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Config is what a Core must know. Zero is the value in parentheses.
type Config struct {
	Agent    uint32 // this one
	Streams  int    // most to one agent (4)
	Chunk    int64  // bytes that are asked for at once (4 MiB)
	Worth    int64  // bytes that another stream is opened for (32 MiB)
	Large    int64  // from so many bytes on the owner is asked for a source (16 MiB)
	Idle     int64  // a stream without a range goes after (30 s)
	Patience int64  // an owner that can't be reached fails its fetches after (30 s); a source that is no owner after a tenth of that
}

func (c Config) filled() Config {
	c.Streams = cmp.Or(c.Streams, 4)
	c.Chunk = cmp.Or(c.Chunk, 4<<20)
	c.Worth = cmp.Or(c.Worth, 32<<20)
	c.Large = cmp.Or(c.Large, 16<<20)
	c.Idle = cmp.Or(c.Idle, 30_000_000_000)
	c.Patience = cmp.Or(c.Patience, 30_000_000_000)
	return c
}

const (
	ahead    = 16 // ranges on a stream
	firstTry = int64(50_000_000)
	lastTry  = int64(2_000_000_000)
)

// Core decides for one agent.
type Core struct {
	cfg     Config
	now     int64
	out     []Effect
	fetches []*fetch // in the order in which they were wanted
	ways    []*way   // by agent
	trees   []*tree  // the oldest first
	waits   []wait
}

// fetch is a value on its way here.
type fetch struct {
	number uint64
	object id.Object
	size   int64
	owner  uint32
	source uint32 // 0: the owner has been asked for it
	fresh  int64  // from here on nothing was asked for yet
	back   []span // what was, and did not come
	came   []span // what did
	flying int    // ranges
	over   bool   // it ends when none is
	why    string
	here   bool
	anew   bool

	version uint32 // of what came; 0: nobody told
	part    bool
	base    int64 // where its first byte lies in the value
	urgency int
}

// span is bytes from..to.
type span struct{ from, to int64 }

// way is all that goes between this agent and another one.
type way struct {
	agent   uint32
	streams []*stream
	opening int
	tries   int   // that failed since the last one that did not
	since   int64 // of the first of those
	again   int64 // when the next one may be
	why     string
}

type stream struct {
	number uint64
	way    *way
	flying []flight // the oldest first
	bytes  int64    // of them
	idle   int64    // since when it has none, if it has none
	cut    bool
}

type flight struct {
	fetch *fetch
	span
}

type wait struct {
	Wanted
}

// New gives a Core.
func New(cfg Config) *Core { return &Core{cfg: cfg.filled()} }

// Step takes an event and appends to out what is to be done.
func (c *Core) Step(now int64, ev Event, out []Effect) []Effect {
	c.now, c.out = now, out
	switch ev := ev.(type) {
	case Want:
		f := &fetch{number: ev.Fetch, object: ev.Object, size: ev.Size, owner: ev.Owner, source: ev.Owner, urgency: ev.Urgency, part: ev.Part, base: ev.Offset, version: ev.Version}
		c.fetches = append(c.fetches, f)
		if f.size >= c.cfg.Large && !f.part {
			c.askSource(f, false)
		}
	case Hasten:
		if f := c.fetch(ev.Fetch); f != nil {
			f.urgency = min(f.urgency, ev.Urgency)
		}
	case Drop:
		if f := c.fetch(ev.Fetch); f != nil {
			c.fail(f, "nobody wants it any more", true)
			c.cutFlights(f)
		}
	case Opened:
		w := c.wayTo(ev.Agent)
		w.opening--
		w.streams = append(w.streams, &stream{number: ev.Stream, way: w, idle: now})
	case Failed:
		w := c.wayTo(ev.Agent)
		w.opening--
		c.failed(w, ev.Why)
	case Came:
		c.onCame(ev)
	case Broke:
		c.onBroke(ev)
	case SourceIs:
		c.sourceIs(ev)
	case Lost:
		c.lost(ev)
	case Asked:
		c.asked(ev)
	case Freed:
		c.trees = slices.DeleteFunc(c.trees, func(t *tree) bool { return t.object == ev.Object })
	case Wanted:
		c.waits = append(c.waits, wait{ev})
	case LineOver:
		c.answerWaits(func(w wait) (string, bool) { return "the connection is over", w.Line == ev.Line })
	}
	c.settle()
	out, c.out = c.out, nil
	return out
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

func (c *Core) fetch(number uint64) *fetch {
	for _, f := range c.fetches {
		if f.number == number {
			return f
		}
	}
	return nil
}

func (c *Core) wayTo(agent uint32) *way {
	i, found := slices.BinarySearchFunc(c.ways, agent, func(w *way, n uint32) int { return cmp.Compare(w.agent, n) })
	if !found {
		c.ways = slices.Insert(c.ways, i, &way{agent: agent})
	}
	return c.ways[i]
}

func (c *Core) stream(number uint64) *stream {
	for _, w := range c.ways {
		for _, s := range w.streams {
			if s.number == number {
				return s
			}
		}
	}
	return nil
}

// fail has a fetch end with why it did, once nothing of it is under way.
func (c *Core) fail(f *fetch, why string, here bool) {
	if !f.over {
		f.over, f.why, f.here = true, why, here
	}
}

// cutFlights breaks the streams that have something of a fetch under way: nobody waits for those bytes.
func (c *Core) cutFlights(f *fetch) {
	for _, w := range c.ways {
		for _, s := range w.streams {
			if !s.cut && slices.ContainsFunc(s.flying, func(x flight) bool { return x.fetch == f }) {
				s.cut = true
				c.emit(Cut{s.number})
			}
		}
	}
}

// askSource asks the owner of a value whom to get it from.
func (c *Core) askSource(f *fetch, again bool) {
	f.source = 0
	c.emit(AskSource{Owner: f.owner, Object: f.object, Again: again})
}

func (c *Core) sourceIs(ev SourceIs) {
	for _, f := range c.fetches {
		if f.owner == ev.Owner && f.object == ev.Object && f.source == 0 {
			f.source = ev.Agent
			if ev.Agent == 0 || ev.Agent == c.cfg.Agent {
				f.source = f.owner
			}
		}
	}
}

// sourceFails goes from a source that has failed to the owner, or gives up if that is the one.
func (c *Core) sourceFails(f *fetch, why string, here bool) {
	if f.source == f.owner {
		c.fail(f, why, here)
	} else {
		c.askSource(f, true)
	}
}

func (c *Core) onCame(ev Came) {
	s := c.stream(ev.Stream)
	if s == nil || len(s.flying) == 0 {
		return
	}
	x := s.pop()
	f := x.fetch
	s.idle = c.now
	if ev.Why == "" {
		c.works(s)
		c.takes(f, x.span, ev.Version)
		return
	}
	f.back = with(f.back, x.span)
	if f.source == s.way.agent && !f.over {
		c.sourceFails(f, ev.Why, false)
	}
}

// works: bytes come by a stream, so there is a way.
func (c *Core) works(s *stream) {
	s.way.tries, s.way.again = 0, 0
}

// pop takes the oldest range off a stream.
func (s *stream) pop() flight {
	x := s.flying[0]
	s.flying = s.flying[1:]
	s.bytes -= x.to - x.from
	x.fetch.flying--
	return x
}

func (c *Core) onBroke(ev Broke) {
	s := c.stream(ev.Stream)
	if s == nil {
		return
	}
	w := s.way
	w.streams = slices.DeleteFunc(w.streams, func(x *stream) bool { return x == s })
	wanted := len(s.flying) > 0
	for first := true; len(s.flying) > 0; first = false {
		x := s.pop()
		if first && ev.Size > 0 {
			came := min(ev.Size, x.to-x.from)
			c.takes(x.fetch, span{x.from, x.from + came}, ev.Version)
			x.from += came
			c.works(s)
		}
		if x.from < x.to {
			x.fetch.back = with(x.fetch.back, x.span)
		}
	}
	if wanted && !s.cut && ev.Size == 0 { // not just one that nobody needed
		c.failed(w, ev.Why)
	}
}

// failed: something was tried with an agent, and brought nothing.
func (c *Core) failed(w *way, why string) {
	w.why = why
	if c.now < w.again {
		return // at the same time as another one
	}
	if w.tries == 0 {
		w.since = c.now
	}
	w.again = c.now + min(firstTry<<min(w.tries, 10), lastTry)
	w.tries++
}

// lost: an agent can't be reached. Its own values are given up by who wanted them.
func (c *Core) lost(ev Lost) {
	w := c.wayTo(ev.Agent)
	for _, s := range w.streams {
		if !s.cut {
			s.cut = true
			c.emit(Cut{s.number})
		}
	}
	for _, f := range c.fetches {
		if f.source == ev.Agent && f.owner != ev.Agent && !f.over {
			c.askSource(f, true)
		} else if f.source == ev.Agent && f.part {
			c.fail(f, ev.Why, true)
		}
	}
	for _, t := range c.trees {
		t.lost(ev.Agent)
	}
}

// settle does what there is to do now.
func (c *Core) settle() {
	for _, f := range c.fetches {
		if f.source != 0 && !f.over {
			c.wayTo(f.source)
		}
	}
	for _, w := range c.ways {
		c.impatient(w)
		c.assign(w)
	}
	c.serveWaits()
	c.fetches = slices.DeleteFunc(c.fetches, func(f *fetch) bool {
		whole := len(f.came) == 1 && f.came[0] == span{0, f.size}
		if f.flying > 0 || !whole && !f.over {
			return false
		}
		if whole && !f.over {
			f.why = ""
		}
		c.emit(Got{Fetch: f.number, Version: f.version, Why: f.why, Here: f.here, Anew: f.anew})
		return true
	})
	c.answerWaits(func(w wait) (string, bool) {
		return "it is not in this node's memory any more", c.coming(w.Object) == nil
	})
	c.ways = slices.DeleteFunc(c.ways, func(w *way) bool { return len(w.streams)+w.opening+w.tries == 0 })
}

// impatient gives up what comes from an agent to which there is no way for too long.
func (c *Core) impatient(w *way) {
	if w.tries == 0 {
		return
	}
	wanted := false
	for _, f := range c.fetches {
		if f.source != w.agent || f.over {
			continue
		}
		wanted = true
		patience := c.cfg.Patience
		if f.source != f.owner || f.part { // all of the value comes by another way
			patience /= 10
		}
		if c.now-w.since >= patience && len(w.streams)+w.opening == 0 {
			c.sourceFails(f, "no connection for it could be made: "+w.why, true)
		}
	}
	if !wanted && c.now >= w.again { // the next one begins anew
		w.tries = 0
	}
}

// assign asks for what there is to ask for of an agent, over streams that have room, and has more of them opened if it is worth it.
func (c *Core) assign(w *way) {
	for {
		f := c.next(w)
		if f == nil {
			break
		}
		var best *stream
		for _, s := range w.streams {
			if !s.cut && len(s.flying) < ahead && s.bytes < 2*c.cfg.Chunk && (best == nil || s.bytes < best.bytes) {
				best = s
			}
		}
		if best == nil {
			break
		}
		x := flight{f, f.take(c.cfg.Chunk)}
		f.flying++
		best.flying = append(best.flying, x)
		best.bytes += x.to - x.from
		c.emit(Ask{Stream: best.number, Fetch: f.number, Object: f.object, Offset: f.base + x.from, Size: x.to - x.from, At: x.from})
	}
	var left int64
	for _, f := range c.fetches {
		if f.source == w.agent && !f.over {
			left += f.left()
		}
	}
	standing := 0
	for _, s := range w.streams {
		if !s.cut {
			standing++
		}
		if !s.cut && len(s.flying) == 0 && left == 0 && c.now-s.idle >= c.cfg.Idle {
			s.cut = true
			c.emit(Cut{s.number})
		}
	}
	if left == 0 || c.now < w.again {
		return
	}
	want := int(min(1+left/c.cfg.Worth, int64(c.cfg.Streams)))
	if more := want - standing - w.opening; more > 0 {
		w.opening += more
		c.emit(Open{w.agent, more})
	}
}

// left is how many bytes were not asked for, or in vain.
func (f *fetch) left() int64 {
	n := f.size - f.fresh
	for _, s := range f.back {
		n += s.to - s.from
	}
	return n
}

// take gives the next range to ask for.
func (f *fetch) take(chunk int64) span {
	if len(f.back) > 0 {
		s := f.back[0]
		if s.to-s.from > chunk {
			f.back[0].from += chunk
			return span{s.from, s.from + chunk}
		}
		f.back = f.back[1:]
		return s
	}
	s := span{f.fresh, min(f.fresh+chunk, f.size)}
	f.fresh = s.to
	return s
}

// with adds a span to spans that are in order and don't touch.
func with(list []span, s span) []span {
	i, _ := slices.BinarySearchFunc(list, s.from, func(x span, from int64) int { return cmp.Compare(x.from, from) })
	if i > 0 && list[i-1].to >= s.from {
		i--
		s = span{list[i].from, max(list[i].to, s.to)}
		list = slices.Delete(list, i, i+1)
	}
	for i < len(list) && list[i].from <= s.to {
		s.to = max(s.to, list[i].to)
		list = slices.Delete(list, i, i+1)
	}
	return slices.Insert(list, i, s)
}

// NextDeadline is when Step wants a Tick; 0: never.
func (c *Core) NextDeadline() int64 {
	at := int64(0)
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	for _, w := range c.ways {
		if w.tries > 0 && w.again > c.now {
			sooner(w.again)
		}
		for _, s := range w.streams {
			if len(s.flying) == 0 && !s.cut {
				sooner(s.idle + c.cfg.Idle)
			}
		}
	}
	return at
}

// Under tells how many fetches there are, and streams.
func (c *Core) Under() (fetches, streams int) {
	for _, w := range c.ways {
		streams += len(w.streams) + w.opening
	}
	return len(c.fetches), streams
}
