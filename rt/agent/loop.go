package agent

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// loop is the shell around a Core: the one goroutine that owns it, and the goroutines that bring it
// events. All of those end when ctx is cancelled and what they read is closed; wait counts them.
type loop struct {
	core   *Core
	config *fb.KeeperConfigT
	doc    *bootdoc.Doc
	build  string
	cred   *tcp.Credential
	log    *slog.Logger
	gate   *transport.Gate
	ring   *ringFile
	far    func(uri string, getenv func(string) string) (SpillFS, error) // nil: there are directories only
	gauge  *device.Gauge                                                 // of the node's memory; nil: a simulation
	native *native.Client                                                // what needs libraries of others; nil: a simulation
	now    func() int64

	probing *probing

	inbox chan item
	wait  sync.WaitGroup
	turns uint64

	keeper    *uds.FDConn
	toKeeper  chan wire.Message
	head      *headLink
	peers     map[uint32]*peerLinks
	clients   map[uint32]*clientLink
	processes atomic.Uint32 // that were numbered
	desk      *desk
	programs  map[Key]*stdio
	spools    map[Key]*spool // of programs whose descriptors have not come
	sinks     map[Key]Remember

	exit    *Exit
	effects []Effect
	unsent  []*transport.Link // with messages to flush
	outside func(Effect) bool // of a simulation: whether it did an effect
}

// number numbers a process, or what stands for one.
func (l *loop) number() uint32 { return l.processes.Add(1) }

// item is one thing for the loop: an event, or something to do.
type item struct {
	ev    Event
	do    func(context.Context)
	files []*os.File // that came with a ProgramState
	link  *transport.Link
	msg   transport.Msg
}

// inboxSize is how many events may wait; whoever brings more waits. Messages are bounded by the
// windows of their links, which the loop gives back after each.
const inboxSize = 1024

// run is the loop; it returns when the core said Exit.
func (l *loop) run(ctx context.Context) *Exit {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for l.exit == nil {
		if due := l.core.NextDeadline(); due != never {
			timer.Reset(max(0, time.Duration(due-l.now())))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case it := <-l.inbox:
			l.take(ctx, it)
		case <-timer.C:
			l.step(ctx, Tick{})
		case <-ctx.Done():
			return &Exit{Code: 0, Reason: "stopped"}
		}
		l.turns++
		if len(l.inbox) == 0 || l.turns%batch == 0 || l.exit != nil {
			l.flush()
		}
	}
	return l.exit
}

// batch is how many events may come before what they brought about is sent.
const batch = 64

// send queues a message; large ones are the link's writer's, and the others go when the loop has nothing else to do.
func (l *loop) send(link *transport.Link, m Message, corr uint64, payload []byte) error {
	if len(payload) > largePayload {
		return link.Send(m, corr, payload)
	}
	err := link.Queue(m, corr, payload)
	if err == nil && !slices.Contains(l.unsent, link) {
		l.unsent = append(l.unsent, link)
	}
	return err
}

// largePayload is more than the loop itself encrypts.
const largePayload = 16 << 10

func (l *loop) flush() {
	for i, link := range l.unsent {
		link.Flush()
		l.unsent[i] = nil
	}
	l.unsent = l.unsent[:0]
}

func (l *loop) take(ctx context.Context, it item) {
	if it.do != nil {
		it.do(ctx)
		return
	}
	if m, ok := it.ev.(FromKeeper); ok {
		l.programFiles(ctx, m.M, it.files)
	}
	if w, ok := it.ev.(InputWritten); ok {
		if d := l.programs[w.Key]; d != nil && d.spool != nil {
			d.written += uint64(w.N)
			d.spool.input(d.written)
		}
	}
	if p, ok := it.ev.(FromPeer); ok && isErrand(p.M) {
		if !l.core.Dead(p.Peer) {
			l.desk.fromPeer(ctx, p)
		}
	} else {
		l.step(ctx, it.ev)
	}
	if it.link != nil {
		it.link.Consumed(it.msg)
	}
}

// step gives the core an event and does what it wants.
func (l *loop) step(ctx context.Context, ev Event) {
	now := l.now()
	if err := l.ring.note(now, ev); err != nil {
		l.log.Warn("the last events are not written down any more", "file", ringName, "error", err)
	}
	l.effects = l.core.Step(now, ev, l.effects[:0])
	for i, e := range l.effects {
		if l.outside == nil || !l.outside(e) {
			l.apply(ctx, e)
		}
		l.effects[i] = nil
	}
	l.tellDesk(ctx, ev)
}

// tellDesk tells the desk what it has to know of other agents, and of bundles.
func (l *loop) tellDesk(ctx context.Context, ev Event) {
	if l.desk == nil || l.desk.process == 0 { // it is told of what is there when it begins
		if ev, ok := ev.(FromHead); ok && l.head != nil {
			if q, ok := ev.M.(*fb.StateQueryT); ok {
				l.headAsks(ctx, q, ev.Corr)
			}
		}
		return
	}
	switch ev := ev.(type) {
	case PeerDead:
		l.desk.peerLost(ctx, ev.Peer, "the connection to it broke", l.core.Dead(ev.Peer))
	case FromHead:
		switch m := ev.M.(type) {
		case *fb.AgentDeadT:
			l.desk.peerLost(ctx, m.Agent, "it died: "+m.Reason, true)
		case *fb.PeerInfoT:
			if m.Dead {
				l.desk.peerLost(ctx, m.Agent, "it died", true)
			}
		case *fb.StateQueryT:
			l.headAsks(ctx, m, ev.Corr)
		case *fb.BundleReserveT:
			l.desk.reserved(taskOf(m.Group), m.Incarnation, l.core.bundlesOf(taskOf(m.Group), m.Incarnation))
		case *fb.BundleReleaseT:
			l.desk.reserved(taskOf(m.Group), m.Incarnation, nil)
		}
	}
}

// post brings an event from another goroutine; false: the loop is over.
func (l *loop) post(ctx context.Context, it item) bool {
	select {
	case l.inbox <- it:
		return true
	case <-ctx.Done():
		return false
	}
}

// poster is post for events.
func (l *loop) poster(ctx context.Context) poster {
	return func(ev Event) bool { return l.post(ctx, item{ev: ev}) }
}

// ask runs f on the loop and waits for what it returns; false: the loop is over, or f has yet to run. What f
// finds comes in its result: nobody reads a variable that f may still write after the asker has left.
func ask[T any](ctx context.Context, l *loop, f func() T) (found T, ok bool) {
	answer := make(chan T, 1) // the loop waits for no asker
	if !l.post(ctx, item{do: func(context.Context) { answer <- f() }}) {
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
