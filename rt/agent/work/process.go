package work

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// process is what is known of the other end of a work connection.
type process struct {
	id      id.Process
	kind    Kind
	pid     uint32
	job     *job
	worker  *worker // of a worker
	gone    bool
	closing bool     // nothing more is taken from it
	goodbye bool     // it said that it ends
	direct  bool     // it can have a Line
	mute    bool     // of a worker that was greeted: it has not said anything yet, so that nothing of what it was given has begun
	cut     bool     // it is gone because the connection to its agent was lost, which may live
	shapes  []*shape // by number, in its order
	named   *shape   // of these, what it named last
	held    *holder  // what it holds
	tasks   owned    // what it submitted and has no outcome yet
	piles   []*pile  // of the same, those that wait behind many others
	owed    credit   // spent and not given back
	spent   credit   // of it, to be given back
	last    *function
	met     map[uint64]bool // arenas
	told    int64           // when something was last sent to it, or it began to wait
	watched bool            // what its worker waits for is looked at again in a moment
	making  int             // values for the cache
	sealed  sealed          // a result, of which the next frame has to tell

	// Of another agent.
	agent     id.Agent
	node      string
	lends     []*object   // that it sent references to
	lent      []id.Object // names that came for a frame which is being taken in
	early     bool        // it sent the value of an argument, which the next frame names
	nextActor id.Task
	nextLife  uint32
	fetches   fetches                     // of values that it told of
	states    map[id.Task]*fb.ActorStateT // of actors that it sent handles of
	way       *host                       // to them
	uses      []leaseUse                  // that it was told
	listings  []id.Object                 // of which it was asked to list this agent, and has not answered
	spares    []*object                   // of which it does, and that come from elsewhere still

	out   []byte // frames of this turn
	mark  int    // what of them has an effect
	dirty bool
}

// owned is a list of tasks of one submitter.
type owned struct {
	head, tail *task
	n          int
}

func (l *owned) add(t *task) {
	t.ownedBefore, t.ownedAfter = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.ownedAfter = t
	}
	l.tail = t
	l.n++
}

func (l *owned) remove(t *task) {
	if t.ownedBefore == nil {
		l.head = t.ownedAfter
	} else {
		t.ownedBefore.ownedAfter = t.ownedAfter
	}
	if t.ownedAfter == nil {
		l.tail = t.ownedBefore
	} else {
		t.ownedAfter.ownedBefore = t.ownedBefore
	}
	t.ownedBefore, t.ownedAfter = nil, nil
	l.n--
}

// walk takes in the frames of a batch.
func (c *Core) walk(p *process, b []byte) {
	for len(b) > 0 && !p.closing {
		f, rest, ok := cut(b)
		if !ok {
			c.refuse(p, "sent bytes that are no frames")
			return
		}
		b = rest
		c.frame(p, f)
	}
}

// frame takes in one frame. The hot ones come first.
func (c *Core) frame(p *process, f frame) {
	if p.sealed.is && f.kind != fb.FrameTypeResult {
		c.refuse(p, "sealed a result and did not tell of it")
		return
	}
	switch p.kind {
	case Owner:
		c.ownerFrame(p, f)
		return
	case Host:
		c.hostFrame(p, f)
		return
	}
	switch f.kind {
	case fb.FrameTypeSubmit:
		c.onSubmit(p, f)
	case fb.FrameTypeResult:
		c.onResult(p, f)
	case fb.FrameTypeRelease:
		c.onRelease(p, f)
	case fb.FrameTypeCall:
		c.onCall(p, f)
	case fb.FrameTypeTold:
		c.onTold(p, f)
	case fb.FrameTypeLine:
		c.onLine(p, f)
	case fb.FrameTypePut:
		c.onPut(p, f)
	case fb.FrameTypeGet:
		c.onGet(p, f)
	case fb.FrameTypeSeal:
		c.onSeal(p, f)
	case fb.FrameTypeSlice:
		c.onSlice(p, f)
	case fb.FrameTypeViewEnd:
		c.onViewEnd(p, f)
	case fb.FrameTypeAwaits:
		c.onAwaits(p, f)
	case fb.FrameTypeBlocked, fb.FrameTypeUnblocked, fb.FrameTypeStarted:
		c.onState(p, f)
	case fb.FrameTypeRan:
		c.onRan(p, f)
	case fb.FrameTypeRecalled:
		c.onRecalled(p, f)
	case fb.FrameTypeCancel:
		c.onCancel(p, f)
	case fb.FrameTypeFunction, fb.FrameTypeShape, fb.FrameTypeMethods, fb.FrameTypeCreate, fb.FrameTypeStateQuery, fb.FrameTypeCacheWanted, fb.FrameTypeCacheUnmade, fb.FrameTypeGoodbye:
		c.onTable(p, f)
	default:
		c.out = append(c.out, Effect{Do: Pass, Process: p.id, Bytes: f.whole})
	}
}

// onTable takes in what is said seldom.
func (c *Core) onTable(p *process, f frame) {
	m, err := wire.Unmarshal(f.kind, f.body)
	if err != nil {
		c.refuse(p, "sent a "+f.kind.String()+" that can't be read")
		return
	}
	switch m := m.(type) {
	case *fb.FunctionT:
		c.onFunction(p, m, f)
	case *fb.ShapeT:
		c.onShape(p, m)
	case *fb.MethodsT:
		c.onMethods(p, m, f)
	case *fb.CreateT:
		c.onCreate(p, m, f)
	case *fb.StateQueryT:
		c.onQuery(p, m, f)
	case *fb.CacheWantedT:
		c.onCacheWanted(p, m, f.corr)
	case *fb.CacheUnmadeT:
		c.onCacheUnmade(p, m)
	case *fb.GoodbyeT:
		p.goodbye = true
		if p.kind == Driver {
			c.out = append(c.out, Effect{Do: Pass, Process: p.id, Bytes: f.whole})
		}
	}
}

// refuse ends the connection of a process that sent what none may send (WORK-8).
func (c *Core) refuse(p *process, what string) {
	if p.closing {
		return
	}
	c.refused++
	text := fmt.Sprintf("process %d (pid %d) %s", p.id, p.pid, what)
	c.out = append(c.out, Effect{Do: Say, Process: p.id, Code: codeRefused, Text: text})
	c.end(p, what)
}

// end closes a connection. What belongs to the process goes when it is gone.
func (c *Core) end(p *process, why string) {
	if p.closing {
		return
	}
	p.closing = true
	if p.worker != nil {
		c.shut(p.worker)
	}
	c.flush(p)
	c.out = append(c.out, Effect{Do: CloseProcess, Process: p.id, Text: why})
}

func (c *Core) onUp(ev ProcessUp) {
	if c.byProcess[ev.Process] != nil {
		return
	}
	p := &process{id: ev.Process, kind: ev.Kind, pid: ev.PID, agent: ev.Agent, node: ev.Node, mute: ev.Greeted, direct: ev.Direct}
	var w *worker
	if ev.Kind == Host {
		h := c.hostUp(ev)
		if h == nil {
			c.out = append(c.out, Effect{Do: CloseProcess, Process: ev.Process, Text: "its job is over"})
			return
		}
		p.job, h.process, h.tasks = h.job, p, &worker{host: h, process: p, job: h.job}
		if p.node == "" {
			p.node = h.node
		}
		c.restless = true
	} else if ev.Kind == Worker {
		if w = c.workerOf(ev.Key); w == nil || w.process != nil {
			c.out = append(c.out, Effect{Do: CloseProcess, Process: ev.Process, Text: "no worker of that key is waited for"})
			return
		}
		p.worker, p.job, w.process = w, w.job, p
	} else {
		p.job = c.jobOf(ev.Job)
	}
	p.job.processes++
	c.byProcess[ev.Process] = p
	c.processes = append(c.processes, p)
	if h := c.hostOfProcess(p); h != nil {
		asks, lists := h.asks, h.lists
		h.asks, h.lists = nil, nil
		for _, k := range asks {
			c.askProcess(p, k)
		}
		for _, name := range lists {
			c.sendListing(p, name)
		}
		if h.job == c.ways {
			c.sendInquiries(p)
		}
	}
	if p.remote() {
		return
	}
	if !ev.Greeted {
		c.table(p, c.Greeting(p.id, p.job.number), 0, nil)
	}
	if w != nil {
		c.workerUp(w)
	}
}

// Greeting is what a process of a job is told first.
func (c *Core) Greeting(process id.Process, job uint32) *fb.AttachedT {
	packages := ""
	if c.cfg.Jobs != "" {
		packages = c.cfg.Jobs + "/" + strconv.FormatUint(uint64(job), 10)
	}
	return &fb.AttachedT{Agent: uint32(c.cfg.Agent), Process: uint32(process), Node: c.cfg.Node, Cluster: c.cfg.Cluster, Packages: packages,
		CreditBytes: c.cfg.Bytes, CreditRecords: c.cfg.Records, Job: job, InlineLimit: c.cfg.InlineLimit, Store: c.cfg.Store != nil, StreamBytes: c.cfg.StreamBytes}
}

// onGone ends all that a process was (REF-4): what it holds, what it ran, and what it alone wanted.
func (c *Core) onGone(p *process, why string) {
	closed := p.closing
	p.gone, p.closing = true, true
	delete(c.byProcess, p.id)
	c.processes = slices.DeleteFunc(c.processes, func(q *process) bool { return q == p })
	c.dirty = slices.DeleteFunc(c.dirty, func(q *process) bool { return q == p })
	c.unseal(p)
	if p.worker != nil {
		c.workerGone(p.worker, why)
	}
	if h := c.hostOfProcess(p); h != nil {
		c.hostGone(h, why)
	}
	c.forgetQuestions(p, why)
	if p.remote() {
		c.settleLent(p)
		c.wayGone(p, why)
		c.forgetFetches(p)
		c.sparesGone(p)
		c.lenderGone(p, why)
		c.unanswered(p, why)
		if p.kind == Host && p.job == c.ways {
			c.searchesLost(p.agent, closed)
		}
	}
	c.dropPiles(p)
	c.keepActors(p)
	for p.held != nil {
		c.unhold(p.held)
	}
	for _, a := range c.actors {
		a.closeLanes(p)
	}
	last := p.drives()
	for _, q := range c.processes {
		last = last && (q.job != p.job || !q.drives())
	}
	if last {
		c.endJob(p.job, p)
	}
	c.orphan(p)
	if p.direct && p.kind == Driver {
		c.linesGone(p)
	}
	for _, s := range p.shapes {
		c.unsay(s)
	}
	p.shapes, p.named = nil, nil
	p.job.processes--
	c.forget(p.job)
}

// orphan lets go of the tasks of a process that is gone: those whose results nobody waits for end, but for calls that actors have already, which may be in
// the middle of something, and which nobody sends again; the others go on without it.
func (c *Core) orphan(p *process) {
	for t := p.tasks.head; t != nil; t = p.tasks.head {
		p.tasks.remove(t)
		t.owner = p.job.home
		t.owner.tasks.add(t)
		if t.streams() { // who read it does so no more
			c.tookTo(t, allTaken)
		}
		switch {
		case t.kind == create || t.wanted():
		case t.outlives() && !t.comesAgain(p):
			t.retries = 0
		default:
			c.cancelTask(t, false, false)
		}
	}
}

// comesAgain tells whether a call that an actor has is of no use without its caller, which is gone: it gives a stream, or the caller is only out of reach and sends
// it again, and may not as long as it is here.
func (t *task) comesAgain(p *process) bool { return t.streams() || p.cut && t.retries != 0 }
