package agent

import (
	"cmp"
	"slices"
	"strings"

	programs "github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

const sigkill = 9

// rank is one program. Its life: launched (ProgramLaunch sent), running, ended (the keeper reaped it),
// told (the head was sent its end), acked, and gone once its output is with the sink too.
type rank struct {
	key      Key
	gang     *gang
	state    fb.RankStateT
	launched bool
	stopping bool  // we signalled it to end
	killAt   int64 // when TERM becomes KILL; never
	tellAt   int64 // when the end is told though output did not end; never
	told     bool
	acked    bool
	cutAt    int64 // released: when output that has not ended is cut off; never
	lingerAt int64 // released: when output that nobody takes is given up; never
	pty      bool
	stdin    bool
	streams  [2]stream
	input    input
}

func (c *Core) rank(key Key) *rank {
	if k := c.gangs.ranks[key]; k != nil {
		return k
	}
	g := c.gang(gangKey{key.Group, key.Incarnation})
	k := &rank{key: key, gang: g, killAt: never, tellAt: never, cutAt: never, lingerAt: never}
	k.state.Incarnation, k.state.Rank = key.Incarnation, key.Rank
	for i := range k.streams {
		k.streams[i].start(OffsetBase(key.Incarnation))
	}
	c.gangs.ranks[key] = k
	at, _ := slices.BinarySearchFunc(g.ranks, key.Rank, func(r *rank, n uint32) int { return int(r.key.Rank) - int(n) })
	g.ranks = slices.Insert(g.ranks, at, k)
	return k
}

// adopt takes over a program that the keeper has from the agent before this one.
func (c *Core) adopt(p *fb.ProgramStateT) {
	k := c.rank(Key{taskOf(p.Group), p.Incarnation, p.Rank})
	k.launched, k.pty, k.stdin = true, p.Pty, p.Stdin
	for i := range k.streams { // where its output was is not known, unless Restored says so: leave a gap
		k.streams[i].start(OffsetBase(p.Incarnation) + uint64(min(c.cfg.Restarts, maxGaps))<<gapBits)
	}
	if p.Phase == fb.RankPhaseEnded {
		k.state.Phase = fb.RankPhaseRunning // its ProgramState follows and ends it
		k.state.Pid, k.state.Started = p.Pid, p.Started
		return
	}
	k.fill(p)
}

// fill takes over what the keeper says.
func (k *rank) fill(p *fb.ProgramStateT) {
	s := &k.state
	s.Phase, s.Pid, s.Started = p.Phase, p.Pid, p.Started
	s.Code, s.Signal, s.Core, s.Error = p.Code, p.Signal, p.Core, p.Error
	s.MaxRss, s.CpuTime, s.Wall = p.MaxRss, p.CpuTime, p.Wall
}

// tell is the state as the head may know it: an end is kept back until it is due (AGENT-5).
func (k *rank) tell(now int64) *fb.RankStateT {
	s := k.state
	s.Group = taskT(k.key.Group)
	if s.Phase == fb.RankPhaseEnded && !k.told {
		s.Phase, s.Code, s.Signal, s.Error, s.ByUs = fb.RankPhaseRunning, 0, 0, "", false
	}
	if s.Wall == 0 {
		s.Wall = now
	}
	return &s
}

func (c *Core) onRankStart(m *fb.RankStartT) {
	g := c.gang(gangKey{taskOf(m.Group), m.Incarnation})
	c.learn(m.Sink)
	g.world, g.window = int(m.World), programs.WindowOf(int(m.World))
	c.setSink(g, m.SinkAgent, m.SinkProcess)
	if m.Program != nil {
		g.grace = m.Program.Grace
	}
	for _, p := range m.Ranks {
		k := c.rank(Key{g.key.group, m.Incarnation, p.Rank})
		switch {
		case k.launched: // AGENT-1
			if k.state.Phase != fb.RankPhaseStarting {
				c.toHead(k.tell(c.now))
			}
		case c.leaving != nil:
			c.failStart(k, 75, "node "+c.cfg.Name+" is being shut down")
		case g.bundle(p.Bundle) == nil || m.Program == nil:
			c.failStart(k, 70, "no bundle is reserved for it on node "+c.cfg.Name)
		default:
			c.launch(k, g.bundle(p.Bundle), p, m)
		}
	}
	c.pumpGang(g)
	c.dropGang(g)
}

func (c *Core) launch(k *rank, b *fb.BundlePlaceT, p *fb.RankPlaceT, m *fb.RankStartT) {
	prog := m.Program
	k.launched = true
	c.launches++
	k.pty = prog.Pty
	k.stdin = prog.Pty || prog.Stdin == fb.StdinToAll || prog.Stdin == fb.StdinToRankZero && p.Rank == 0
	env, notes := c.environ(b, p, m)
	for _, text := range notes {
		c.note(k, text)
	}
	c.remember(k)
	l := &fb.ProgramLaunchT{
		Group: m.Group, Incarnation: m.Incarnation, Rank: p.Rank, Argv: prog.Argv, Env: env, Cwd: cmp.Or(prog.Cwd, c.cfg.Dir),
		Stdin: k.stdin, Pty: prog.Pty, Rows: prog.Rows, Cols: prog.Cols, Grace: prog.Grace,
	}
	if prog.BindCpus && c.cfg.Bind {
		l.Cpus = share(b.Cpus, int(p.Rank-b.FirstRank), int(b.Ranks))
	}
	c.toKeeper(l)
}

// share gives the i-th of n parts of a bundle's CPUs, neighbours together; all of them if there are
// fewer CPUs than programs.
func share(cpus []uint32, i, n int) []uint32 {
	if n <= 1 || i < 0 || i >= n || len(cpus) < n {
		return cpus
	}
	return cpus[i*len(cpus)/n : (i+1)*len(cpus)/n]
}

func (c *Core) failStart(k *rank, code int32, why string) {
	k.launched = true
	k.state.Phase, k.state.Code, k.state.Error, k.state.Wall = fb.RankPhaseEnded, code, why, c.now
	for i := range k.streams {
		k.streams[i].eof = true
	}
	c.endedRank(k)
}

// onProgram: the keeper started, could not start or reaped a program.
func (c *Core) onProgram(p *fb.ProgramStateT) {
	k := c.rank(Key{taskOf(p.Group), p.Incarnation, p.Rank})
	k.launched = true
	if k.state.Phase == fb.RankPhaseEnded {
		return
	}
	was := k.state.Phase
	k.fill(p)
	k.pty, k.stdin = p.Pty || k.pty, p.Stdin || k.stdin
	switch p.Phase {
	case fb.RankPhaseRunning:
		c.attach(k)
		if was != fb.RankPhaseRunning {
			c.toHead(k.tell(c.now))
		}
		c.pumpInput(k)
	case fb.RankPhaseEnded:
		k.state.ByUs = k.stopping
		if p.Error != "" {
			k.state.Code = startCode(p)
			for i := range k.streams {
				k.streams[i].eof = true
			}
		} else {
			c.attach(k)
		}
		c.endedRank(k)
	}
}

// startCode is the exit code of a program that could not be started, as a shell gives it.
func startCode(p *fb.ProgramStateT) int32 {
	switch {
	case p.Code != 0:
		return p.Code
	case strings.Contains(p.Error, "not found"), strings.Contains(p.Error, "no such file"):
		return 127
	}
	return 126
}

// endedRank begins the wait for the rest of its output.
func (c *Core) endedRank(k *rank) {
	k.tellAt, k.killAt = c.now+endedWait, never
	k.input.close()
	c.sendEOFs(k)
	c.tellEnd(k)
	c.ackGoneInput(k)
}

// tellEnd tells the head of the end once the output ended or the wait for it did.
func (c *Core) tellEnd(k *rank) {
	if k.told || k.state.Phase != fb.RankPhaseEnded {
		return
	}
	if !(k.streams[0].eof && k.streams[1].eof) && c.now < k.tellAt {
		return
	}
	k.told, k.tellAt = true, never
	k.state.Tail = k.tail()
	c.toHead(k.tell(c.now))
}

func (c *Core) onStateAck(m *fb.RankStateAckT) {
	for _, n := range m.Ranks {
		k := c.gangs.ranks[Key{taskOf(m.Group), m.Incarnation, n}]
		if k != nil && k.told {
			k.acked = true
			c.dropRank(k)
		}
	}
}

// onRankStop signals the ranks of a gang: see docs/spec/environment.md for what grace means.
func (c *Core) onRankStop(m *fb.RankStopT) {
	g := c.gangs.byKey[gangKey{taskOf(m.Group), m.Incarnation}]
	if g == nil {
		return
	}
	grace := m.Grace
	switch {
	case m.Signal == sigkill:
		grace = 0
	case grace == 0 && g.grace > 0:
		grace = g.grace
	case grace == 0:
		grace = defaultStop
	}
	for _, k := range g.ranks {
		switch {
		case !k.launched || k.state.Phase == fb.RankPhaseEnded:
		case m.Signal == sigkill:
			c.kill(k)
		default:
			c.toKeeper(&fb.ProgramSignalT{
				Group: m.Group, Incarnation: m.Incarnation, Rank: k.key.Rank, Signal: m.Signal, Grace: max(grace, 0),
			})
			if grace >= 0 {
				k.stopping = true
				k.killAt = min(k.killAt, c.now+grace)
			}
		}
	}
}

// kill ends a program and all of its descendants.
func (c *Core) kill(k *rank) {
	if !k.launched {
		return
	}
	k.killAt = never
	if k.state.Phase != fb.RankPhaseEnded {
		k.stopping = true
	}
	c.toKeeper(&fb.ProgramSignalT{
		Group: taskT(k.key.Group), Incarnation: k.key.Incarnation, Rank: k.key.Rank, Signal: sigkill, Tree: true,
	})
}

// release: the bundle goes to others, so nothing of the rank may run on.
func (c *Core) release(k *rank) {
	c.kill(k)
	k.cutAt, k.lingerAt = c.now+endedWait/2, c.now+lingerAfter
}

// settled: nothing of the rank is needed any more.
func (k *rank) settled(now int64) bool {
	if k.state.Phase != fb.RankPhaseEnded || !k.told || !k.acked && !k.gang.released {
		return false
	}
	return now >= k.lingerAt || k.streams[0].done() && k.streams[1].done()
}

// dropRank forgets a rank that is settled.
func (c *Core) dropRank(k *rank) bool {
	if !k.settled(c.now) {
		return false
	}
	delete(c.gangs.ranks, k.key)
	if i := slices.Index(k.gang.ranks, k); i >= 0 {
		k.gang.ranks = slices.Delete(k.gang.ranks, i, i+1)
	}
	c.drained(k)
	for i := range k.streams {
		if !k.streams[i].eof {
			c.emit(StopRead{Key: k.key, Stream: uint8(i) + 1})
		}
	}
	c.toKeeper(&fb.ProgramForgetT{Group: taskT(k.key.Group), Incarnation: k.key.Incarnation, Rank: k.key.Rank})
	c.emit(Forget{Key: k.key})
	c.dropGang(k.gang)
	return true
}

func (c *Core) dropDone(g *gang) {
	for i := len(g.ranks) - 1; i >= 0; i-- {
		c.dropRank(g.ranks[i])
	}
}

// running: at least one program has not ended.
func (c *Core) running() bool {
	for _, g := range c.gangs.order {
		for _, k := range g.ranks {
			if k.launched && k.state.Phase != fb.RankPhaseEnded {
				return true
			}
		}
	}
	return false
}

func (c *Core) dueRanks() {
	if c.ranksDeadline() > c.now {
		return
	}
	for gi := len(c.gangs.order) - 1; gi >= 0; gi-- {
		g := c.gangs.order[gi]
		for i := len(g.ranks) - 1; i >= 0; i-- {
			k := g.ranks[i]
			if k.killAt <= c.now {
				c.kill(k)
			}
			if k.tellAt <= c.now {
				c.tellEnd(k)
			}
			if k.cutAt <= c.now && k.state.Phase == fb.RankPhaseEnded {
				k.cutAt = never
				c.cut(k)
			}
			if k.lingerAt <= c.now && k.state.Phase == fb.RankPhaseEnded {
				c.tellEnd(k)
				if !c.dropRank(k) {
					k.lingerAt = c.now + lingerAfter
				}
			}
		}
	}
}

func (c *Core) ranksDeadline() int64 {
	at := never
	for _, g := range c.gangs.order {
		for _, k := range g.ranks {
			at = min(at, k.killAt, k.tellAt)
			if k.state.Phase == fb.RankPhaseEnded {
				at = min(at, k.cutAt, k.lingerAt)
			}
		}
	}
	return at
}
