package agent

import (
	"context"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// desk is the shell around a work.Core, beside the loop, so that neither a flood of tasks delays a drain nor a
// gang's output a task. What comes in lies in one box, of which a turn takes all; what goes out is flushed
// once at the end of the turn. So at load a turn has many frames, and when idle it has one, which waits for nobody.
//
// Turns have a lock and no goroutine of their own: who reads the connections takes one for what they brought if nobody
// turns, so that at rest a frame goes from socket to socket on one thread. All else, and what came meanwhile, is run's.
//
// To the loop's core the desk is a client, with a number of its own: it asks the head for the node's
// resources (desk_stake.go) and for the templates of jobs (desk_worker.go) by groups, as `maniple run` does. What a
// process asks that is not about work (groups, the cluster's state) goes to the loop's core in its name.
//
// Bounds: two batches of each connection lie in the box at most, and what the loop's core says to clients;
// what a process does not read is bounded by maxUnsent, and then its connection ends.
type desk struct {
	l       *loop
	process uint32 // as a client of the loop's core; 0: not opened yet. The loop's.

	mu   sync.Mutex
	box  []mail
	wake chan struct{} // capacity 1

	turning sync.Mutex    // guards all that follows; held until run begins, and from its end on
	poll    *carrier.Poll // reads the connections; nil: each has a goroutine
	taken   []mail        // the box of this turn
	timer   *time.Timer
	due     int64 // when it fires; 0: it has

	core      *work.Core // nil until this agent is a member
	agent     uint32
	node      string     // its name: the head may have given it another than its keeper
	early     []*arrival // attached before that
	conns     map[id.Process]*workConn
	dirty     []*workConn
	jobs      []*job
	hired     map[uint64]*hired
	templates []*template // all whose group has not ended
	stake     stake
	wants     *work.Wants       // of this turn
	groups    map[id.Task]*made // of processes here, until they end
	store     *deskStore        // nil: this node has no memory to share
	lingering []*workConn       // whose processes may outlive them, and look at what lies in the store
	acking    []*workConn       // with output that is not acknowledged
	half      []*hired          // of which only the process or only the connection is over
	acks      []outputAck       // of output that nobody wants
	errands   []*errand
	fetches   []*fetch       // for which memory was asked, or that are over
	lined     []*fetch       // the others, the most urgent first, in the order in which they were wanted
	asking    *fetch         // the one that waits for memory; nil: none does
	fetchSlab map[uint64]int // how many write in a slab of the agent's own
	tickets   tickets        // for connections for values
	bulkConns openConns
	fabric    *deskFabric // nil: there is to be none
	dialing   func(ctx context.Context, peer uint32, ticket uint64, addresses []string) (net.Conn, error)
	full      []*errand         // with frames to send
	waiting   []func()          // for the core
	nodes     map[uint32]string // names of agents' nodes
	held      []*heldGroup
	pieces    []*piece // in the order in which they were made
	creates   []*piece // that wait for the stake
	unsure    []*piece // of which the head has not said anything yet
	broken    []brokenPeer
	lent      []*lent
	lentDue   map[lentKey]int64 // when more is asked for
	lentTight map[lentKey]bool  // of what there was no room the last time
	lentNever map[lentKey]int64 // when the head said that no node could ever have it
	up        int               // nodes, as the head said last
	upText    string            // what the core was told of them
	minted    uint64
	keys      uint64       // of templates
	over      string       // the node ends, and why
	drained   []work.Drain // that the core has not heard of yet
	going     bool         // this node is being drained
	lost      bool         // the node ends because it reaches no head
	effects   []work.Effect
	frames    work.Frames
	events    []work.Event // that effects brought about, for after them
	expected  []*hired     // actors' workers that templates were told of, whose connections are to be taken over before the turn ends
	slay      func(pid int)
	memory    *deskMemory // nil: a simulation has no memory to watch
	storeless bool        // a simulation has no memory to share
}

// made is a group that a process made.
type made struct {
	group    id.Task
	detached bool
	places   []*fb.RecPlaceT    // of its bundles, here and elsewhere
	bundles  []*fb.BundlePlaceT // here
}

// mail is one thing for the desk: a batch of a connection, or something to do.
type mail struct {
	conn  *workConn
	batch carrier.Batch
	do    func()
}

// maxUnsent is how much a process may leave unread of what is for it.
const maxUnsent = 1 << 30

func newDesk(l *loop) *desk {
	d := &desk{
		l: l, slay: slay, wake: make(chan struct{}, 1), conns: map[id.Process]*workConn{},
		hired: map[uint64]*hired{}, groups: map[id.Task]*made{}, nodes: map[uint32]string{}, lentDue: map[lentKey]int64{}, lentTight: map[lentKey]bool{}, lentNever: map[lentKey]int64{}, fetchSlab: map[uint64]int{},
	}
	d.dialing = l.dialTicket
	d.turning.Lock()
	return d
}

// open makes the desk a client of the loop's core, with the first work connection; on the loop.
func (d *desk) open(ctx context.Context) {
	if d.process != 0 {
		return
	}
	l := d.l
	d.process = l.number()
	l.clients[d.process] = &clientLink{desk: true}
	if l.outside == nil { // else a simulation takes the turns
		if l.gauge != nil {
			d.memory = &deskMemory{gauge: l.gauge}
			l.goes(func() { d.watchMemory(ctx) })
		}
		l.goes(func() { d.run(ctx) })
	}
	l.step(ctx, FromClient{Process: d.process, M: &fb.AttachT{Name: "tasks", Pid: uint32(os.Getpid()), Build: l.build}})
}

func (d *desk) take(ctx context.Context, m *mail) {
	closeAll(m.batch.Files) // nothing that a process says here comes with a descriptor
	switch {
	case m.do != nil:
		m.do()
	case d.core == nil:
		m.batch.Release() // of a process that was refused
	case m.conn.through:
		m.batch.Release() // it said that it says no more
	case m.conn.template != nil:
		d.templateSays(ctx, m.conn, m.batch)
	default:
		if h := m.conn.hired; h != nil {
			h.spoke = true
		}
		d.frames.Process, d.frames.Bytes = m.conn.process, m.batch.Bytes
		d.step(ctx, &d.frames)
		m.batch.Release()
		return
	}
	d.later(ctx)
}

// settle does what a turn left to be done once, and tells when the next one is due at the latest.
func (d *desk) settle(ctx context.Context) int64 {
	next := d.l.now() + int64(time.Hour)
	if d.core != nil {
		if d.core.NextDeadline() <= d.l.now() {
			d.step(ctx, work.Tick{})
		}
		d.tidyJobs(ctx)
		next = min(next, d.settleStake(ctx), d.settleLent(ctx), d.settlePieces(ctx), d.settleWorkers(), d.settleStore(), d.settleInstalls(ctx, d.l.now()))
		d.settleFetches(ctx)
		next = min(next, d.settlePulls(ctx))
		d.later(ctx)
		next = min(next, d.core.NextDeadline())
	}
	next = min(next, d.settleErrands(ctx))
	next = min(next, d.settleOutput(ctx))
	d.shareViews()
	d.flush()
	return next
}

// step gives the core an event, does what it wants, and then what that brought about.
func (d *desk) step(ctx context.Context, ev work.Event) {
	d.effects = d.core.Step(d.l.now(), ev, d.effects[:0])
	for i := range d.effects {
		d.apply(ctx, &d.effects[i])
		d.effects[i] = work.Effect{}
	}
	d.later(ctx)
}

// later gives the core what effects brought about.
func (d *desk) later(ctx context.Context) {
	for d.core != nil {
		d.bearExpected(ctx)
		var ev work.Event
		switch {
		case d.stake.changed: // first, for what is a group's now no task may use
			ev = d.stake.grant()
		case len(d.events) > 0:
			ev, d.events = d.events[0], d.events[1:]
		case d.store != nil && d.store.settled():
			continue
		default:
			return
		}
		d.effects = d.core.Step(d.l.now(), ev, d.effects[:0])
		for i := range d.effects {
			d.apply(ctx, &d.effects[i])
			d.effects[i] = work.Effect{}
		}
	}
}

// brings notes an event for after the effects that are being done.
func (d *desk) brings(ev work.Event) { d.events = append(d.events, ev) }

func (d *desk) apply(ctx context.Context, e *work.Effect) {
	switch e.Do {
	case work.Append:
		if c := d.conns[e.Process]; c != nil {
			d.append(c, e.Bytes)
		} else if k := d.errandBy(e.Process); k != nil {
			d.errandAppend(k, e.Bytes)
		}
	case work.NeedWorker:
		d.hire(ctx, e.Need)
	case work.KillWorker:
		if h := d.hired[e.Key]; h != nil {
			d.kill(h, e.Text)
		}
	case work.CloseProcess:
		if c := d.conns[e.Process]; c != nil {
			d.refuse(c, e.Text)
		} else if k := d.errandBy(e.Process); k != nil {
			d.closeErrand(ctx, k, e.Text)
		}
	case work.NeedHost:
		d.needHost(ctx, uint32(e.Key), e.Need.Job)
	case work.Claim:
		d.claimName(ctx, e)
	case work.Free:
		d.ask(ctx, d.process, &fb.NameFreeT{Actor: taskT(e.Group)}, 0, nil)
	case work.Find:
		d.findName(ctx, e)
	case work.Survey:
		d.ask(ctx, d.process, &fb.StateQueryT{What: "room", Id: e.Text}, askRoom+e.Key, nil)
	case work.Watch:
		d.watch(ctx, e.Group)
	case work.Slice, work.Unslice:
		d.slice(ctx, e)
	case work.Fetch:
		d.fetch(e)
	case work.Hasten:
		d.hasten(ctx, e)
	case work.Say:
		d.l.log.Warn(e.Text, "code", e.Code, "process", e.Process)
		d.say(e)
	case work.Join:
		d.join(d.conns[e.Process], d.conns[e.Worker], e.Line)
	case work.Meet:
		if c := d.conns[e.Process]; c != nil {
			d.store.do(nil, d.store.meet(c, e.Key))
		}
	case work.Pass:
		if c := d.conns[e.Process]; c != nil {
			d.pass(ctx, c, carrier.Frame(e.Bytes))
		} else if k := d.errandBy(e.Process); k != nil {
			d.passErrand(ctx, k, carrier.Frame(e.Bytes))
		}
	}
}

// sorted gives the connections in the order of their processes.
func (d *desk) sorted() []*workConn {
	list := make([]*workConn, 0, len(d.conns))
	for _, c := range d.conns {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *workConn) int { return int(a.process) - int(b.process) })
	return list
}

// ask gives the loop's core a message of a client.
func (d *desk) ask(ctx context.Context, process uint32, m Message, corr uint64, payload []byte) {
	d.l.post(ctx, item{ev: FromClient{Process: process, M: m, Corr: corr, Payload: payload}})
}

// mint gives a new group an ID of the desk's own.
func (d *desk) mint() id.Task {
	d.minted++
	return id.Task{Agent: id.Agent(d.agent), Process: id.Process(d.process), Counter: d.minted}
}

// told takes what the loop's core says to a client that is the desk's; on the loop.
func (d *desk) told(ctx context.Context, e ToClient) {
	var bundles []*fb.BundlePlaceT
	if u, ok := e.M.(*fb.GroupUpdateT); ok && u.Phase == fb.GroupPhaseCreated {
		bundles = d.l.core.bundlesOf(taskOf(u.Group), u.Incarnation)
	}
	d.post(mail{do: func() {
		if e.Process == d.process {
			d.toldDesk(ctx, e, bundles)
			return
		}
		if u, ok := e.M.(*fb.GroupUpdateT); ok {
			d.toldPiece(u)
			d.grantGroup(u, bundles)
			if len(u.Places) > 0 { // where its bundles are agents need to know; a process that reads of a thousand of them is slow
				short := *u
				short.Places, short.Nodes = nil, nil
				e.M = &short
			}
		}
		if c := d.conns[id.Process(e.Process)]; c != nil {
			if _, ok := e.M.(*fb.AttachedT); !ok { // it is attached
				d.send(c, e.M, e.Corr, e.Payload)
			}
			if bundles != nil { // it waits for that, and what the core has to learn of a group's places takes longer
				c.conn.Flush()
			}
		}
	}})
}

func (d *desk) toldDesk(ctx context.Context, e ToClient, bundles []*fb.BundlePlaceT) {
	switch m := e.M.(type) {
	case *fb.AttachedT:
		d.begin(ctx, m)
	case *fb.DrainT:
		d.lost = m.ExitCode == codeNodeLost
	case *fb.StateReplyT:
		switch e.Corr {
		case askName:
			d.toldName(ctx, e.Payload)
		case askGroups:
			d.toldGroups(ctx, e.Payload)
		case askCount:
			d.nodeOf(e.Payload)
			d.tellDrains()
		case askFree:
			d.toldFree(ctx, m, e.Payload)
		default:
			d.toldFound(e.Corr, m, e.Payload)
		}
	case *fb.NameClaimedT:
		d.toldClaim(m)
	case *fb.GroupUpdateT:
		if !d.toldStake(m, bundles) && !d.toldLent(m, bundles) && !d.toldTemplate(ctx, m) {
			d.grantGroup(m, bundles)
		}
	case *fb.RankOutputT:
		d.toldOutput(m, e.Payload)
	case *fb.NoticeT:
		if m.Code == noticeJoined {
			d.nodeJoined(ctx)
		}
		if m.Level >= fb.LevelWarning && m.Group == nil {
			for _, c := range d.sorted() {
				if c.kind == fb.AttachKindDriver && !c.client { // else it was told itself
					d.send(c, m, 0, nil)
				}
			}
		}
	case *fb.ShutdownT:
		d.leave(ctx, m.Reason)
	}
}

// begin asks for this node's name, now that this agent has its number.
func (d *desk) begin(ctx context.Context, m *fb.AttachedT) {
	d.agent, d.node = m.Agent, m.Node
	d.ask(ctx, d.process, &fb.StateQueryT{What: "nodes"}, askName, nil)
}

// toldName makes the core, and takes in who came before.
func (d *desk) toldName(ctx context.Context, payload []byte) {
	if d.core != nil {
		return
	}
	if n := d.nodeOf(payload); n != nil {
		d.node, d.stake.total = n.Name, n.Total
	}
	cfg := work.Config{Agent: id.Agent(d.agent), Node: d.node, Cluster: d.l.core.cfg.Cluster, Lineage: lineageBudget(&d.l.core.cfg), Jobs: jobsDir(&d.l.core.cfg, d.agent)}
	d.tidyDirs()
	if budget := storeBudget(&d.l.core.cfg); budget > 0 && !d.storeless {
		d.store = newDeskStore(d, budget)
		cfg.Store, cfg.StreamBytes = d.store, streamBytes(budget)
		if d.fabric = newDeskFabric(d); d.fabric != nil {
			d.fabric.begin(ctx)
		}
	}
	d.core = work.New(cfg)
	d.stake.changed = true // nothing yet, which is enough for what needs nothing
	d.tellDrains()
	if d.l.core.cfg.Previous != 0 {
		d.ask(ctx, d.process, &fb.StateQueryT{What: "groups"}, askGroups, nil)
	}
	for _, a := range d.early {
		d.arrive(ctx, a)
	}
	d.early = nil
	d.heldHere(ctx)
	for _, do := range d.waiting {
		do()
	}
	d.waiting = nil
}

// leave ends all connections: the node ends.
func (d *desk) leave(ctx context.Context, why string) {
	if d.over != "" {
		return
	}
	d.over = why
	for _, c := range d.sorted() {
		d.send(c, &fb.ShutdownT{Reason: why}, 0, nil)
		d.refuse(c, why)
	}
	for _, e := range slices.Clone(d.errands) {
		d.closeErrand(ctx, e, "the node ends: "+why)
	}
	for _, a := range d.early {
		d.arrive(ctx, a)
	}
	d.early = nil
	d.l.post(ctx, item{do: func(ctx context.Context) { d.l.clientGone(ctx, d.process) }})
}

// end cuts all connections and waits for their goroutines.
func (d *desk) end() {
	d.mu.Lock()
	box := d.box
	d.box = nil
	d.mu.Unlock()
	for _, m := range box { // a reader may wait for its batch
		closeAll(m.batch.Files)
		if m.do == nil {
			m.batch.Release()
		}
	}
	for _, c := range d.sorted() {
		c.conn.Cut()
		<-c.conn.Done()
	}
	for _, a := range d.early {
		_ = a.conn.Close()
	}
	d.bulkConns.end() // they read and write the store's memory
	d.endStore()
}

// bundlesOf gives what of a group was reserved on this node.
func (c *Core) bundlesOf(group id.Task, incarnation uint32) []*fb.BundlePlaceT {
	if g := c.gangs.byKey[gangKey{group, incarnation}]; g != nil {
		return slices.Clone(g.bundles)
	}
	return nil
}

// grantGroup lets the tasks of a group that a process made use its bundles here.
func (d *desk) grantGroup(u *fb.GroupUpdateT, bundles []*fb.BundlePlaceT) {
	group := taskOf(u.Group)
	if d.core == nil {
		return
	}
	g := d.madeOf(group) // new, if it was not made by a process that is here: of another agent's, or of one before this one
	switch u.Phase {
	case fb.GroupPhaseCreated:
		d.learnNodes(u.Nodes)
		d.grantBundles(group, bundles)
		g.bundles, g.places = bundles, u.Places
		d.tellPlaces(work.Place{Group: group}, g.places, 0)
	case fb.GroupPhasePending, fb.GroupPhaseStopping:
		for _, b := range g.bundles {
			d.brings(work.Grant{Group: group, Bundle: int32(b.Index), Lost: true})
		}
		d.brings(work.Place{Group: group, Gone: true})
		g.bundles, g.places = nil, nil
	case fb.GroupPhaseEnded: // tasks may wait for it of which nothing was ever here
		d.brings(work.Place{Group: group, Gone: true})
		d.brings(work.Grant{Group: group, Gone: true})
		delete(d.groups, group)
	}
}
