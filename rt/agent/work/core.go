package work

import (
	"math"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Durations and bounds of the core.
const (
	depthTime   = int64(time.Millisecond)       // so much work a worker may have queued
	depthMax    = 64                            // and so many tasks
	shortTask   = int64(200 * time.Microsecond) // tasks over it, by their function's mean, are given out one by one
	tripTime    = int64(time.Millisecond)       // of a task's time, so much may be its way to the worker and back, but for its CPU time
	recallAfter = int64(5 * time.Millisecond)   // a task that has run so long does not keep others waiting behind it
	patience    = int64(200 * time.Millisecond) // a class that has waited so long gets what becomes free before smaller ones
	starving    = int64(2 * time.Second)        // and after so long also before those of jobs that have less
	againAfter  = int64(5 * time.Second)        // a class whose workers failed to start, but for some, tries another after so long
	idleAfter   = int64(5 * time.Second)        // workers beyond the number of CPUs end when idle for so long
	endAfter    = int64(30 * time.Second)       // an actor that nobody has a handle of has so long to end
	callsAhead  = 63                            // calls that may wait at an actor's worker
	maxShapes   = 1 << 16                       // shapes of a process, at a time
	maxReturns  = 1 << 20                       // results of one task
	endedKept   = 1000                          // groups that are gone, for tasks that still come for them
	maxRestarts = 3                             // workers of a class that may fail to start in a row
	never       = int64(math.MaxInt64)
)

// Config is what a core is told. Zero values of sizes mean the defaults named.
type Config struct {
	Agent       id.Agent
	Node        string
	Cluster     string
	Records     uint32 // credit of a process in records; 32768
	Bytes       uint64 // and in bytes; 64 MiB
	InlineLimit uint32 // results up to so many bytes are pushed with their value; 100 KiB
	Processes   int    // cap of workers; 1024
	Deep        int    // tasks of a class that are queued before more are piled; 16384
	Piled       int    // bytes of those at most; 256 MiB
	Direct      int    // short calls that a driver makes one by one before it gets a direct line to their actor; 32
	Resting     int    // values of the cache that nobody uses; 65536
	Lineage     int    // bytes of tasks that are kept to be run again; 256 MiB
	StreamBytes uint64 // of a stream that nobody has taken, after which the task waits; 64 MiB
	Store       Store  // of large values; nil: there is none
	Jobs        string // directory of those of jobs, by their numbers; "": there is none
}

// Core decides for one node. Use: New, then Step with every event in order; do the effects in order;
// Step(Tick) when NextDeadline has come.
type Core struct {
	cfg Config
	now int64
	out []Effect

	memory  memory
	taskRec records[task]
	entRec  records[entry]
	objRec  records[object]
	holdRec records[holder]
	waitRec records[waiter]

	byProcess    map[id.Process]*process
	processes    []*process // alive, in the order of attachment
	dirty        []*process // with bytes to be sent
	sent         []*process // whose buffers went with the last Step
	jobs         []*job
	turn         int     // job that had the last lease
	order        []*job  // of the last pass
	totals       []int64 // of shared
	entries      map[id.Task]*entry
	piled        int // bytes of tasks on piles
	dying        []*object
	failing      []id.Task   // with an argument that failed
	sought       []id.Object // that are gone and wanted
	cache        cache
	lineage      list // tasks that are kept to be run again, the oldest first
	lineageBytes int

	grants      []*grant
	ended       []id.Task // groups, oldest first
	names       []string  // of resources, by index
	workers     []*worker
	nextKey     uint64
	touched     []*worker          // to be filled again at the end of the turn
	restless    bool               // something happened by which a task might start
	hungry      int                // classes that found no room in the last pass
	hasty       bool               // a class waits for workers of its own that will be free soon
	lookAt      int64              // workers with more than one task are looked at then, and what others will take soon; 0: neither is there
	checking    bool               // a chain is looked at,
	recheck     int64              // and again then
	waits       uint64             // of tasks, so far
	saying      int                // tasks that wait for what they have said
	circleAt    int64              // when circles of those are looked for
	idleLook    int64              // when it is looked what idle actors keep
	searches    []*search          // that ask other agents
	doomed      map[id.Task]string // calls that are in one, and asked back from their actors
	lenders     int                // workers that wait, and lend their CPUs
	kinAt       uint64             // counts what may make a task kin of one that waits
	usesChanged bool               // of what other agents have on this node
	places      []*place           // of other agents
	hosts       []*host
	runs        runs
	nodes       int                // of the cluster
	others      [][]Amount         // what the others have
	nodesAt     int64              // when that was something else last
	lent        map[*object]*lends // what other agents sent
	slices      []slice            // that are on their way
	asked       []question         // that other agents have not answered
	finding     []finding          // names that the head has not told of, in the order of their times
	finds       map[uint64]bool    // questions to the head that have no answer
	ways        *job               // of the ways to agents that are no job's; in no list
	questions   uint64
	deep        int   // workers with tasks queued behind one that runs
	calm        int64 // when idle workers are looked at, 0: no need
	hireAt      int64 // when a class tries another worker, 0: none waits for that
	nextClass   uint32
	drains      []drain
	loose       []loosened // classes whose tasks would rather be where nothing new goes
	going       bool       // this node is being drained
	starvedAt   int64      // when a worker was ended for want of memory
	shortSaid   int64      // when it was said that none can be
	shortAt     int64      // when there was too little memory last,
	shortText   string     // and who had it

	actors  []*actor // alive or to be
	pumping []*actor
	timers  timers
	strays  uint64 // frames dropped because they were late
	remade  uint64 // tasks that ran again because a value of theirs was gone
	refused uint64 // frames that none may send

	wants   Wants
	read    scratch
	stamps  stamps
	builder *flatbuffers.Builder
}

// scratch are structs that frames are read into.
type scratch struct {
	submit   *fb.SubmitT
	piled    *fb.SubmitT
	call     *fb.CallT
	result   *fb.ResultT
	put      *fb.PutT
	seal     *fb.SealT
	slice    *fb.SliceT
	release  *fb.ReleaseT
	get      *fb.GetT
	cancel   *fb.CancelT
	recalled *fb.RecalledT
	task     *fb.BlockedT
	awaits   *fb.AwaitsT
	ran      *fb.RanT
	write    *fb.ResultT
	ready    *fb.ReadyT
	object   *fb.ObjectIDT
}

// stamps are structs for what the agent writes into frames that go on: a frame that is being taken in may have others sent.
type stamps struct {
	submit *fb.SubmitT
	call   *fb.CallT
}

// New makes a core without processes, and with nothing granted.
func New(cfg Config) *Core {
	if cfg.Records == 0 {
		cfg.Records = 32768
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = 64 << 20
	}
	if cfg.StreamBytes == 0 {
		cfg.StreamBytes = 64 << 20
	}
	if cfg.InlineLimit == 0 {
		cfg.InlineLimit = 100 << 10
	}
	if cfg.Processes == 0 {
		cfg.Processes = 1024
	}
	if cfg.Deep == 0 {
		cfg.Deep = 16384
	}
	if cfg.Resting == 0 {
		cfg.Resting = 1 << 16
	}
	if cfg.Lineage == 0 {
		cfg.Lineage = 256 << 20
	}
	if cfg.Direct == 0 {
		cfg.Direct = 32
	}
	if cfg.Piled == 0 {
		cfg.Piled = 256 << 20
	}
	c := &Core{
		cfg: cfg, byProcess: map[id.Process]*process{}, entries: map[id.Task]*entry{}, lent: map[*object]*lends{}, finds: map[uint64]bool{}, doomed: map[id.Task]string{},
		cache: cache{byKey: map[string]*cached{}, byObject: map[id.Object]*cached{}},
		names: []string{"CPU", "GPU", "memory"}, builder: flatbuffers.NewBuilder(1024),
	}
	c.ways = newJob(0)
	c.ways.over = true
	c.read = scratch{
		submit:   wire.New(fb.FrameTypeSubmit).(*fb.SubmitT),
		piled:    wire.New(fb.FrameTypeSubmit).(*fb.SubmitT),
		call:     wire.New(fb.FrameTypeCall).(*fb.CallT),
		result:   wire.New(fb.FrameTypeResult).(*fb.ResultT),
		put:      wire.New(fb.FrameTypePut).(*fb.PutT),
		seal:     wire.New(fb.FrameTypeSeal).(*fb.SealT),
		slice:    wire.New(fb.FrameTypeSlice).(*fb.SliceT),
		release:  wire.New(fb.FrameTypeRelease).(*fb.ReleaseT),
		get:      wire.New(fb.FrameTypeGet).(*fb.GetT),
		cancel:   wire.New(fb.FrameTypeCancel).(*fb.CancelT),
		recalled: wire.New(fb.FrameTypeRecalled).(*fb.RecalledT),
		task:     wire.New(fb.FrameTypeBlocked).(*fb.BlockedT),
		awaits:   wire.New(fb.FrameTypeAwaits).(*fb.AwaitsT),
		ran:      wire.New(fb.FrameTypeRan).(*fb.RanT),
		write:    wire.New(fb.FrameTypeResult).(*fb.ResultT),
		ready:    wire.New(fb.FrameTypeReady).(*fb.ReadyT),
		object:   &fb.ObjectIDT{Task: &fb.TaskIDT{}},
	}
	c.stamps = stamps{submit: wire.New(fb.FrameTypeSubmit).(*fb.SubmitT), call: wire.New(fb.FrameTypeCall).(*fb.CallT)}
	return c
}

// Step takes in one event at time now (wall, ns) and appends what is to be done to out.
func (c *Core) Step(now int64, ev Event, out []Effect) []Effect {
	c.now, c.out = now, out
	for _, p := range c.sent {
		if p.out, p.mark = p.out[:0], 0; cap(p.out) > largest && p.remote() {
			p.out = nil
		}
	}
	c.sent = c.sent[:0]
	switch ev := ev.(type) {
	case *Frames:
		if p := c.byProcess[ev.Process]; p != nil && !p.closing {
			if p.mute {
				c.speaks(p)
			}
			c.walk(p, ev.Bytes)
		}
	case ProcessUp:
		c.onUp(ev)
	case Born:
		if p := c.byProcess[ev.Process]; p != nil {
			p.pid = ev.PID
		}
	case ProcessGone:
		if p := c.byProcess[ev.Process]; p != nil {
			if p.worker != nil {
				p.worker.starved = p.worker.starved || ev.Memory
			}
			p.cut = ev.Cut
			c.onGone(p, ev.Why)
		}
	case WorkerFailed:
		c.onFailed(ev)
	case WorkerSlow:
		if w := c.workerOf(ev.Key); w != nil && w.process == nil {
			w.slow = ev.Why
		}
	case Grant:
		c.onGrant(ev)
	case Place:
		c.onPlace(ev)
	case Fetched:
		c.onFetched(ev)
	case Measured:
		c.onMeasured(ev)
	case Named:
		c.onNamed(ev)
	case Found:
		c.onFound(ev)
	case Surveyed:
		c.onSurveyed(ev)
	case Adopt:
		c.onAdopt(ev)
	case Brought:
		c.onBrought(ev)
	case Damaged:
		c.onDamaged(ev)
	case Evicted:
		c.onEvicted(ev)
	case Inherited:
		c.onInherited(ev)
	case Short:
		c.onShort(ev)
	case Drain:
		c.onDrain(ev)
	case Nodes:
		c.nodes, c.others, c.nodesAt, c.restless = ev.N, ev.Others, c.now, true
		if len(c.drains) > 0 {
			c.moveOff()
			c.drainsDue(true)
		}
	case Waits:
		c.onWaits(ev)
	case Tick:
		c.tick()
	}
	c.settleTurn()
	out, c.out = c.out, nil
	return out
}

// settleTurn does what the frames of a turn left to be done once: free objects, start tasks, send.
func (c *Core) settleTurn() {
	for more := true; more; {
		c.remakeSought()
		c.failPoisoned()
		c.reap()
		c.pump()
		c.dispatch()
		c.idleHosts()
		c.tellUses()
		more = c.unpile() || len(c.failing) > 0 || len(c.sought) > 0 || len(c.dying) > 0 || len(c.pumping) > 0 || len(c.touched) > 0
	}
	for _, p := range c.dirty {
		c.flush(p)
		p.dirty = false
		c.sent = append(c.sent, p)
	}
	c.dirty = c.dirty[:0]
	switch looks := c.deep > 0 || c.hasty; {
	case !looks:
		c.lookAt = 0
	case c.lookAt == 0: // and however much comes until then, it stays
		c.lookAt = c.now + recallAfter/2
	}
}

// NextDeadline is the time at which a Tick is due; math.MaxInt64: none.
func (c *Core) NextDeadline() int64 {
	next := c.timers.next()
	if c.lookAt != 0 {
		next = min(next, c.lookAt)
	}
	if c.calm != 0 {
		next = min(next, c.calm)
	}
	if c.hireAt != 0 {
		next = min(next, c.hireAt)
	}
	if c.circleAt != 0 {
		next = min(next, c.circleAt)
	}
	if c.idleLook != 0 {
		next = min(next, c.idleLook)
	}
	for i := range c.drains {
		if d := &c.drains[i]; d.Until != 0 && !d.due {
			next = min(next, d.Until)
		}
	}
	if len(c.finding) > 0 {
		next = min(next, c.finding[0].due)
	}
	for i := range c.finding {
		if f := &c.finding[i]; f.number == 0 && len(c.finds) < findsAhead {
			next = min(next, f.from)
		}
	}
	return next
}

func (c *Core) tick() {
	c.lookAt = 0
	if c.deep > 0 {
		c.recallOverdue()
	}
	if c.calm != 0 && c.now >= c.calm {
		c.endIdle()
	}
	if c.hireAt != 0 && c.now >= c.hireAt {
		c.hireAt = 0
	}
	c.giveUpFinding()
	c.dueTimers()
	if c.circleAt != 0 && c.now >= c.circleAt {
		c.lookForCircles()
	}
	if c.idleLook != 0 && c.now >= c.idleLook {
		c.lookAtIdle()
	}
	c.drainsDue(false)
	c.restless = true
}

func taskOf(t *fb.TaskIDT) id.Task {
	if t == nil {
		return id.Task{}
	}
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

func setTask(to *fb.TaskIDT, t id.Task) {
	to.Agent, to.Process, to.Counter = uint32(t.Agent), uint32(t.Process), t.Counter
}

func taskT(t id.Task) *fb.TaskIDT {
	return &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}
}
