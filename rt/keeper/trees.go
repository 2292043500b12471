package keeper

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// trees ends what descends from programs. It looks at the node's processes only when there is something
// to end, and below the keeper only: orphans come to the keeper, so everything of a program is there.
type trees struct {
	lost    []*program          // forgotten, but not clean yet
	owners  map[procID]*program // of those met in the last look, so that they stay known when their links break
	strays  stray
	retryAt time.Time // KILL did not work at once
	since   time.Time // since when
	told    bool      // that it does not
	living  int       // processes that the last look found
	table   sweep.Table
}

type procID struct {
	pid     int
	started uint64
}

// stray is about processes that belong to no program: they end after the last one.
type stray struct {
	checkAt time.Time
	killAt  time.Time
}

const (
	settle        = 10 * time.Millisecond  // between an end and the look at what it left: a gang ends together
	leftoverGrace = time.Second            // between TERM and KILL for what a rank left
	killRounds    = 100 * time.Millisecond // that the loop gives to killing at a time
	killRetry     = 20 * time.Millisecond
	killSlow      = time.Second
)

// owned is a process below the keeper and whose it is; nil: a stray.
type owned struct {
	sweep.Process
	of *program
}

// ghost owns what bears the mark of a program that is long forgotten.
var ghost = &program{phase: fb.RankPhaseEnded}

// treesStir: something ended that may have left something.
func (k *keeper) treesStir() {
	soon := time.Now().Add(settle)
	for _, p := range k.all() {
		if !p.live() && !p.clean && p.checkAt.IsZero() {
			p.checkAt = soon
		}
	}
	if k.trees.strays.checkAt.IsZero() {
		k.trees.strays.checkAt = soon
	}
}

// all are the programs whose tree is of interest.
func (k *keeper) all() []*program {
	if len(k.trees.lost) == 0 {
		return k.order
	}
	return append(append([]*program(nil), k.order...), k.trees.lost...)
}

// treesDue does what the time has come for.
func (k *keeper) treesDue(now time.Time) {
	work, living := false, 0
	for _, p := range k.all() {
		if p.live() {
			living++
		}
		if p.clean {
			continue
		}
		work = work || len(p.signals) > 0 || (!p.killAt.IsZero() && !k.at(p.killAt) && now.After(k.trees.retryAt)) ||
			(!p.checkAt.IsZero() && !k.at(p.checkAt))
	}
	s := &k.trees.strays
	if living == 0 {
		work = work || (!s.checkAt.IsZero() && !k.at(s.checkAt)) || (!s.killAt.IsZero() && !k.at(s.killAt) && now.After(k.trees.retryAt))
	}
	if !k.at(k.trees.retryAt) {
		work = work || !k.trees.retryAt.IsZero()
	}
	if !work {
		return
	}
	k.treesWork(now, living)
}

// treesWork looks at the processes and does all that is due; what can't be done at once is tried again.
func (k *keeper) treesWork(now time.Time, living int) {
	found, table, err := k.look()
	if err != nil { // no descriptor for /proc: later there will be
		k.log.Warn("look at the processes", "error", err)
		k.trees.retryAt = now.Add(killSlow)
		k.at(k.trees.retryAt)
		return
	}
	k.trees.retryAt = time.Time{}
	left := make(map[*program]int)
	for _, q := range found {
		if !q.Dead() {
			left[q.of]++
		}
	}
	for _, p := range k.all() {
		for _, sig := range p.signals {
			k.sendAll(found, p, sig)
		}
		p.signals = nil
		if p.live() || p.clean {
			continue
		}
		p.checkAt = time.Time{}
		if left[p] == 0 {
			k.cleaned(p)
		} else if !p.termed {
			p.termed = true
			grace := leftoverGrace
			if own := time.Duration(p.launch.Grace); own > 0 && own < grace {
				grace = own
			}
			k.log.Info("left by a program", "program", p.key.String(), "processes", left[p])
			k.sendAll(found, p, unix.SIGTERM)
			p.killBy(now.Add(grace))
		}
	}
	s := &k.trees.strays
	s.checkAt = time.Time{}
	switch {
	case living > 0 || left[nil] == 0:
		s.killAt = time.Time{}
	case s.killAt.IsZero():
		k.log.Info("strays", "processes", left[nil])
		k.sendAll(found, nil, unix.SIGTERM)
		s.killAt = now.Add(leftoverGrace)
	}
	k.killDue(now, found, table)
	for _, p := range k.all() {
		if !p.killAt.IsZero() && !p.clean {
			k.at(p.killAt)
		}
	}
	k.at(s.killAt)
}

// killDue kills the trees whose time is over, again and again while they grow, for a while.
func (k *keeper) killDue(now time.Time, found []owned, table []sweep.Process) {
	due := func(p *program) bool {
		switch p {
		case nil:
			return !k.trees.strays.killAt.IsZero() && !k.trees.strays.killAt.After(now)
		case ghost:
			return true
		}
		return !p.killAt.IsZero() && !p.killAt.After(now)
	}
	var failure error
	for until := now.Add(killRounds); ; {
		var targets []sweep.Process
		for _, q := range found {
			if due(q.of) && !q.Dead() {
				targets = append(targets, q.Process)
			}
		}
		if len(targets) == 0 {
			k.trees.since, k.trees.told = time.Time{}, false
			break
		}
		failure = sweep.Kill(targets, table)
		// What starts one process after the other is caught by looking at the new ones only, which is
		// faster than it is.
		for range 20 {
			fresh, err := k.trees.table.New()
			if err != nil || len(fresh) == 0 {
				break
			}
			k.reap()
			for _, p := range fresh {
				if of, ours := k.ownerOf(p, targets); ours && due(of) {
					_ = sweep.Kill([]sweep.Process{p}, append(table, p))
					targets = append(targets, p)
				}
			}
		}
		k.reap()
		if time.Now().After(until) {
			k.killLater(len(targets), targets[0], failure)
			break
		}
		var err error
		if found, table, err = k.look(); err != nil {
			k.killLater(len(targets), targets[0], err)
			break
		}
	}
	left := make(map[*program]bool)
	for _, q := range found {
		left[q.of] = left[q.of] || !q.Dead()
	}
	for _, p := range k.all() {
		if !p.live() && !p.clean && due(p) && !left[p] {
			k.cleaned(p)
		}
	}
	if !left[nil] {
		k.trees.strays.killAt = time.Time{}
	}
}

// killLater plans the next attempt, and says so once when KILL does not work.
func (k *keeper) killLater(n int, first sweep.Process, err error) {
	now := time.Now()
	if k.trees.since.IsZero() {
		k.trees.since = now
	}
	wait := killRetry
	if now.Sub(k.trees.since) > killTime {
		wait = killSlow
		if !k.trees.told {
			k.trees.told = true
			k.log.Error("processes do not end", "processes", n, "first", first.PID, "state", string(first.State), "error", err)
		}
	}
	k.trees.retryAt = now.Add(wait)
	k.at(k.trees.retryAt)
}

// ownerOf tells whose a process is that was not there at the last look, and whether it is below the
// keeper at all: a child of the keeper or of a target.
func (k *keeper) ownerOf(p sweep.Process, targets []sweep.Process) (*program, bool) {
	for _, t := range targets {
		if t.PID == p.Parent {
			return k.trees.owners[procID{t.PID, t.Started}], true
		}
	}
	if p.Parent != os.Getpid() || k.isDaemon(p.PID) {
		return nil, false
	}
	return k.identify(p, nil), true
}

// cleaned: nothing is left of the program.
func (k *keeper) cleaned(p *program) {
	p.clean, p.checkAt = true, time.Time{}
	for i, q := range k.trees.lost {
		if q == p {
			k.trees.lost = append(k.trees.lost[:i], k.trees.lost[i+1:]...)
			break
		}
	}
}

// sendAll sends sig to every process of p, and wakes the stopped so that they get it.
func (k *keeper) sendAll(found []owned, p *program, sig unix.Signal) {
	for _, q := range found {
		if q.of != p || q.Dead() {
			continue
		}
		if err := q.Signal(sig); err != nil {
			k.log.Warn("signal", "pid", q.PID, "error", err)
		}
		if sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGHUP {
			_ = q.Signal(unix.SIGCONT)
		}
	}
}

// look finds all processes below the keeper but the daemons and what is below them, and whose they are.
func (k *keeper) look() ([]owned, []sweep.Process, error) {
	table, err := k.trees.table.All()
	if err != nil {
		return nil, nil, err
	}
	below := make(map[int][]sweep.Process)
	for _, p := range table {
		below[p.Parent] = append(below[p.Parent], p)
	}
	var found []owned
	k.trees.living = 0
	owners := make(map[procID]*program)
	var walk func(parent int, of *program)
	walk = func(parent int, of *program) {
		for _, p := range below[parent] {
			if parent == os.Getpid() && k.isDaemon(p.PID) {
				continue
			}
			whose := k.identify(p, of)
			if whose != nil {
				owners[procID{p.PID, p.Started}] = whose
			}
			found = append(found, owned{p, whose})
			if !p.Dead() {
				k.trees.living++
			}
			walk(p.PID, whose)
		}
	}
	walk(os.Getpid(), nil)
	k.trees.owners = owners
	return found, table, nil
}

func (k *keeper) isDaemon(pid int) bool {
	for _, d := range []*daemon{k.agent, k.head} {
		if d != nil && d.child != nil && d.child.pid == pid && !d.child.reaped {
			return true
		}
	}
	return false
}

// identify tells whose a process is: by number, by its parent's owner, by what was seen before, by its
// session, by its mark.
func (k *keeper) identify(p sweep.Process, parent *program) *program {
	if q := k.pids[p.PID]; q != nil {
		return q
	}
	if parent != nil {
		return parent
	}
	if q := k.trees.owners[procID{p.PID, p.Started}]; q != nil {
		return q
	}
	for _, q := range k.all() {
		if q.pid == p.Session && q.pid != 0 && q.started <= p.Started {
			return q
		}
	}
	if p.Dead() {
		return nil
	}
	m, ok := sweep.ReadMark(p.PID)
	if !ok || m.NodeKey != k.key {
		return nil
	}
	for _, q := range k.all() {
		if q.key.groupName() == m.Group && q.key.number == m.Incarnation && q.key.rank == m.Rank {
			return q
		}
	}
	return ghost
}
