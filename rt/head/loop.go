package head

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/rt/head/journal"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var (
	errEnds       = errors.New("head: it ends")
	errKeeperGone = errors.New("head: the keeper is gone")
	aLongTimeAgo  = time.Unix(1, 0)
)

const (
	inboxSize  = 1024 // events that wait; whoever brings more waits
	batchSize  = 256  // events per commit of the journal
	compactMin = 1 << 20

	calmTime     = 500 * time.Microsecond // what nobody waits for leaves so much later, when who waits has been told: nodes may share processors
	farewellTime = 500 * time.Millisecond // to tell the other nodes that all is over
)

// loop is the shell around a Core: one goroutine (run) owns core, journal and maps; others bring
// events through inbox. They end when ctx does and what they read is closed; wait counts them.
//
// In one turn it takes what waits, up to batchSize events, commits all their records with one write,
// and only then carries out what the core wants of the outside.
type loop struct {
	name    string // of the node
	core    *Core
	journal *journal.Journal
	ring    *ring
	keeper  *uds.FDConn
	cred    *tcp.Credential
	log     *slog.Logger
	now     func() int64

	inbox chan item
	wait  sync.WaitGroup
	turns uint64

	members map[id.Agent]*memberLink
	waiting map[Conn]*caller // connections that the core was asked about
	conns   Conn

	effects   []Effect
	calm      []*transport.Link // with what nobody waits for, until
	calmAt    time.Time
	taken     []item // of this turn, whose links get their credit back
	builder   *flatbuffers.Builder
	low       bool
	lowAt     time.Time
	compactAt int64
	exit      *Exit
	err       error
	successor bool // another head takes this one's place when its launcher is gone
}

// item is one thing for the loop: an event, with the link whose message it is, or something to do.
type item struct {
	ev   Event
	do   func()
	link *transport.Link
	msg  transport.Msg
}

func newLoop(core *Core, keeper *uds.FDConn, cred *tcp.Credential, now func() int64, log *slog.Logger) *loop {
	return &loop{
		core: core, keeper: keeper, cred: cred, log: log,
		now:   now,
		inbox: make(chan item, inboxSize), members: map[id.Agent]*memberLink{}, waiting: map[Conn]*caller{},
		builder: flatbuffers.NewBuilder(1024), compactAt: compactMin,
	}
}

// openJournal reads the journal into the core.
func (l *loop) openJournal(path string, opt journal.Options) error {
	j, err := journal.Open(path, opt)
	if err != nil {
		return fmt.Errorf("head: %w", err)
	}
	n := 0
	cut, err := j.Replay(func(typ uint16, body []byte) error {
		n++
		rec, err := wire.Unmarshal(wire.Type(typ), body)
		if err != nil {
			return fmt.Errorf("head: journal: record %d: %w", n, err)
		}
		return l.core.Replay(rec)
	})
	if err != nil {
		_ = j.Close()
		return err
	}
	if cut.Bytes > 0 && n > 0 {
		l.log.Warn("the journal's last record was not whole and was cut", "bytes", cut.Bytes, "at", cut.At)
	}
	l.journal = j
	if n > 0 {
		l.log.Info("journal read", "records", n, "bytes", j.Size())
		l.compact()
	}
	return j.Share()
}

// copyJournal connects to who keeps a copy of the journal, and takes that one where there is none at path: then this head comes in the
// place of one that was elsewhere.
func copyJournal(ctx context.Context, socket, path string) (c *journal.Copier, took bool, err error) {
	c, have, err := journal.DialCopy(ctx, socket)
	if err != nil {
		return nil, false, fmt.Errorf("head: %w", err)
	}
	if _, err := os.Stat(path); len(have) == 0 || err == nil {
		return c, false, nil
	}
	part := path + ".new" // half of it must not be taken for a journal
	err = os.WriteFile(part, have, 0o600)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		_ = c.Close()
		return nil, false, fmt.Errorf("head: the journal's copy: %w", err)
	}
	return c, true, nil
}

// run is the loop; it returns when the core said Exit, or with an error when the keeper is gone.
func (l *loop) run(ctx context.Context) (*Exit, error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for l.exit == nil && l.err == nil {
		wait := time.Hour
		if due := l.core.NextDeadline(); due != 0 {
			wait = max(0, time.Duration(due-l.now()))
		}
		if l.low {
			wait = min(wait, time.Second)
		}
		if len(l.calm) > 0 {
			wait = min(wait, max(0, time.Until(l.calmAt)))
		}
		timer.Reset(wait)
		tick := false
		select {
		case it := <-l.inbox:
			l.take(it)
		case <-timer.C:
			tick = true
		case <-ctx.Done():
			return &Exit{Reason: "stopped"}, nil
		}
		// What has come counts before what is late: after a pause of this process itself, a deadline
		// is past that was kept.
		l.drainInbox()
		if due := l.core.NextDeadline(); tick || due != 0 && due <= l.now() {
			l.step(Tick{})
		}
		l.turn(ctx)
	}
	return l.exit, l.err
}

func (l *loop) drainInbox() {
	for range batchSize {
		select {
		case it := <-l.inbox:
			l.take(it)
		default:
			return
		}
	}
}

func (l *loop) take(it item) {
	if it.do != nil {
		it.do()
		return
	}
	l.step(it.ev)
	if it.link != nil {
		l.taken = append(l.taken, it)
	}
}

func (l *loop) step(ev Event) {
	now := l.now()
	if err := l.ring.note(now, ev); err != nil {
		l.log.Warn("the last events are not written down any more", "file", RingName, "error", err)
	}
	l.effects = l.core.Step(now, ev, l.effects)
}

// turn ends a turn: records to the journal, then everything else.
func (l *loop) turn(ctx context.Context) {
	l.turns++
	if err := l.commit(); err != nil {
		l.fail(err)
	}
	l.carryOut(ctx)
	for i, it := range l.taken {
		it.link.Consumed(it.msg)
		l.taken[i] = item{}
	}
	l.taken = l.taken[:0]
	l.disk(ctx)
}

// commit writes the records among the effects.
func (l *loop) commit() error {
	for _, e := range l.effects {
		a, ok := e.(Append)
		if !ok {
			continue
		}
		l.builder.Reset()
		body, err := wire.Marshal(l.builder, a.Rec)
		if err != nil {
			return err
		}
		if err := l.journal.Add(uint16(wire.TypeOf(a.Rec)), body); err != nil {
			return err
		}
	}
	if cap(l.builder.Bytes) > 1<<20 {
		l.builder = flatbuffers.NewBuilder(1024)
	}
	return l.journal.Commit()
}

// fail is for a journal that can't be written: what depends on the lost records must not leave.
func (l *loop) fail(err error) {
	if errors.Is(err, journal.ErrCopy) { // the head that comes in this one's place knows nothing of it
		l.err, l.effects = err, l.effects[:0]
		return
	}
	l.log.Error("the journal can't be written: the cluster ends", "error", err)
	l.effects = l.effects[:0]
	for _, c := range l.waiting {
		c.answer(nil, nil, &fb.RefuseT{Code: fb.RefuseCodeBusy, Text: "the head can't write its journal"})
	}
	clear(l.waiting)
	l.step(Full{err.Error()})
}

// disk looks after the journal's file: whether it still has room, and whether it has grown too much.
func (l *loop) disk(ctx context.Context) {
	if l.exit != nil || !l.low && l.journal.Low() == nil && l.journal.Size() < l.compactAt {
		return
	}
	if l.journal.Size() >= l.compactAt {
		l.compact()
	}
	if l.low && time.Since(l.lowAt) < time.Second {
		return
	}
	err := l.journal.Low()
	if (err != nil) == l.low {
		l.lowAt = time.Now()
		return
	}
	l.low, l.lowAt = err != nil, time.Now()
	reason := ""
	if err != nil {
		reason = err.Error()
		l.log.Error("the journal's disk is full: nothing new can begin", "error", err)
	} else {
		l.log.Info("there is room for the journal again")
	}
	l.step(Short{reason})
	if err := l.commit(); err != nil {
		l.fail(err)
	}
	l.carryOut(ctx)
}

// compact writes the state in place of its history.
func (l *loop) compact() {
	before := l.journal.Size()
	err := l.journal.Compact(func(add func(typ uint16, body []byte) error) error {
		for _, rec := range l.core.Snapshot(nil) {
			body, err := wire.Marshal(nil, rec)
			if err != nil {
				return err
			}
			if err := add(uint16(wire.TypeOf(rec)), body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.log.Warn("the journal could not be compacted", "error", err)
	} else {
		l.log.Info("journal compacted", "before", before, "after", l.journal.Size())
	}
	l.compactAt = max(compactMin, 4*l.journal.Size())
}

// carryOut does what the core wants of the outside, in order. The records are in the journal. What goes to one agent in a row
// leaves together.
func (l *loop) carryOut(ctx context.Context) {
	var to *transport.Link
	for i, e := range l.effects {
		switch e := e.(type) {
		case Send:
			link := l.send(e)
			if e.Calm && link != nil {
				l.calmly(link)
				break
			}
			if to != nil && link != nil && link != to {
				to.Flush()
			}
			to = cmp.Or(link, to)
		case Admitted:
			l.admitted(ctx, e)
		case Refused:
			if c := l.waiting[e.Conn]; c != nil {
				delete(l.waiting, e.Conn)
				l.log.Info("refused", "from", c.from, "code", e.Refuse.Code, "why", e.Refuse.Text)
				c.answer(nil, nil, e.Refuse)
			}
		case Bury:
			l.log.Info("dead", "agent", e.Agent, "why", e.Reason)
			if m := l.members[e.Agent]; m != nil {
				delete(l.members, e.Agent)
				m.drop(fmt.Errorf("head: agent %d was declared dead: %s", e.Agent, e.Reason))
			}
		case Exit:
			l.exit = &e
		}
		l.effects[i] = nil
	}
	l.effects = l.effects[:0]
	if to != nil {
		to.Flush()
	}
	if len(l.calm) > 0 && (l.exit != nil || !time.Now().Before(l.calmAt)) {
		for i, link := range l.calm {
			link.Flush()
			l.calm[i] = nil
		}
		l.calm = l.calm[:0]
	}
}

// calmly has what was queued for an agent be sent in a moment.
func (l *loop) calmly(link *transport.Link) {
	if len(l.calm) == 0 {
		l.calmAt = time.Now().Add(calmTime)
	}
	if !slices.Contains(l.calm, link) {
		l.calm = append(l.calm, link)
	}
}

// post brings something from another goroutine; false: the loop is over.
func (l *loop) post(ctx context.Context, it item) bool {
	select {
	case l.inbox <- it:
		return true
	case <-ctx.Done():
		return false
	}
}

// ask runs f on the loop and waits for what it returns; false: the loop is over, or f has yet to run. What f
// finds comes in its result: nobody reads a variable that f may still write after the asker has left.
func ask[T any](ctx context.Context, l *loop, f func() T) (found T, ok bool) {
	answer := make(chan T, 1) // the loop waits for no asker
	if !l.post(ctx, item{do: func() { answer <- f() }}) {
		return found, false
	}
	select {
	case found = <-answer:
		return found, true
	case <-ctx.Done():
		return found, false
	}
}

// turnsNow is how often the loop has turned, which only one that goes on tells.
func (l *loop) turnsNow(ctx context.Context) (uint64, error) {
	n, ok := ask(ctx, l, func() uint64 { return l.turns })
	if !ok {
		return 0, context.Canceled
	}
	return n, nil
}

// goes runs f as one of the loop's goroutines.
func (l *loop) goes(f func()) {
	l.wait.Add(1)
	go func() {
		defer l.wait.Done()
		f()
	}()
}

// farewell ends the other nodes when this one dies: without its keeper there will be no head any more.
func (l *loop) farewell() {
	reason := "node " + l.name + " died: its keeper was killed"
	l.log.Warn("the cluster is over", "reason", reason)
	ctx, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	var told sync.WaitGroup
	for _, m := range l.members {
		if m.link.Send(&fb.DrainT{Reason: reason, ExitCode: codeNodeLost, Now: true}, 0, nil) != nil {
			continue // it is dead itself
		}
		told.Go(func() { _ = m.link.Close(ctx, reason) })
	}
	told.Wait()
}

// readKeeper brings what the keeper says, until it is gone.
func (l *loop) readKeeper(ctx context.Context) {
	for {
		m, files, err := l.keeper.Recv()
		if err != nil {
			closeAll(files)
			l.post(ctx, item{do: func() { l.err = errKeeperGone }})
			return
		}
		switch msg := m.M.(type) {
		case *fb.KeeperConnT:
			if len(files) == 1 {
				l.connected(ctx, msg, files[0])
				files = nil
			}
		case *fb.DrainT:
			l.post(ctx, item{ev: FromAgent{Msg: msg}})
		}
		closeAll(files)
	}
}
