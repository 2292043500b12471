package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// template is the warm process that a job's workers are forked from: a gang of one program, which holds no
// resources, so that the head knows of it, the keeper starts and ends it, and `maniple status` lists it.
type template struct {
	key   uint64
	job   *job
	group id.Task
	conn  *workConn // nil: it starts, or is over
	warm  *workConn // of a second process, which has imported what the driver had, and makes all workers from then on
	up    bool      // it was there
	cold  int       // workers of the first process while the second one imports; -1: none does, or it took too long
	due   int64     // when it takes too long
	over  bool      // it is to end, or has
	final bool      // it ended and the next one would, too
	queue []*fb.ForkT
	since int64  // when it was asked for
	waits string // what its group waits for, as the head says
	late  bool   // its driver was told that it does not come

	install *installing // what it makes first; nil: nothing
	hired   int         // its workers that are not over
}

// hired is a worker that the core asked for.
type hired struct {
	key      uint64
	job      *job
	template *template
	conn     *workConn
	pid      int
	state    *fb.WorkerStateT // it is over
	ended    int64            // since when
	closed   int64            // since when its connection is; 0: it is not
	killed   string           // it is to end, and why
	judged   bool             // it was looked whether the kernel ended it
	starved  string           // it did, for want of memory; so much was used before
	forked   int64            // when its template was told of it; 0: it was not
	spoke    bool             // it has attached, or, born attached, said something
	setup    *workerSetup     // nil: its environment is there
	actor    bool             // it is for one
	birth    *birth           // its connection, until that is taken over; nil: it brings one
	greeted  bool             // it is born with one
	final    bool             // it can't be made, and neither can another one like it
}

const (
	closedWait   = int64(time.Second) // a worker whose connection is closed has so long to end
	templateTerm = time.Second        // between TERM and KILL for a template

	templateLate = int64(10 * time.Second) // a template that is not there after so long is spoken of
	attachWait   = int64(time.Minute)      // a worker that was forked has so long to attach, or to say its first word
	warmWait     = int64(20 * time.Second) // a template's second process has so long to import
)

// templateFor gives the template of a job, and has it started if there is none.
func (d *desk) templateFor(ctx context.Context, j *job) *template {
	if j.template == nil {
		j.template = d.newTemplate(j)
		d.startTemplate(ctx, j.template)
	}
	return j.template
}

func (d *desk) newTemplate(j *job) *template {
	d.keys++
	t := &template{key: uint64(d.agent)<<32 | d.keys, job: j, group: d.mint(), since: d.l.now()}
	d.templates = append(d.templates, t)
	return t
}

// startTemplate asks the head for a template's group.
func (d *desk) startTemplate(ctx context.Context, t *template) {
	j := t.job
	env := make([]string, 0, len(j.config.Env)+1)
	for name, value := range j.config.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	argv, more := j.program()
	if t.install != nil {
		var vars []string
		argv, vars = d.maker(t)
		more = append(more, vars...)
	}
	if j.errand != nil {
		more = append(more, "MANIPLE_MARK_NODE="+d.node) // what workers print at the driver's own node needs none
	}
	env = append(append(env, more...), fmt.Sprintf("%s%d", envKey, t.key))
	d.ask(ctx, d.process, &fb.GroupCreateT{
		Group: taskT(t.group), Name: "workers of " + j.name, Strategy: fb.StrategyStrictPack,
		Bundles: []*fb.BundleT{{Ranks: 1, Labels: []*fb.LabelT{{Key: placement.LabelNode, Value: d.node}}}},
		Program: &fb.ProgramT{Argv: argv, Env: env, Cwd: j.config.Cwd, Driver: true, Grace: int64(templateTerm)},
	}, 0, nil)
}

// endTemplate ends a template and all that it forked.
func (d *desk) endTemplate(ctx context.Context, t *template, why string) {
	if t.over {
		return
	}
	t.over = true
	for _, c := range []*workConn{t.conn, t.warm} {
		if c != nil {
			d.send(c, &fb.ShutdownT{Reason: why}, 0, nil)
		}
	}
	if t.job.template == t {
		t.job.template = nil
	}
	d.ask(ctx, d.process, &fb.GroupCancelT{Group: taskT(t.group), Mode: fb.CancelModeStop, Grace: int64(templateTerm), Reason: why}, 0, nil)
}

// endTemplates ends all templates of a job that is over.
func (d *desk) endTemplates(ctx context.Context, j *job) {
	for _, t := range d.templates {
		if t.job == j {
			d.endTemplate(ctx, t, "its driver ended")
		}
	}
}

// forks is who makes its next worker; nil: it is not there yet. While a second process imports what workers would else import one by
// one, the first makes as many as the node has CPUs.
func (d *desk) forks(t *template) *workConn {
	switch {
	case t.warm != nil:
		return t.warm
	case t.conn == nil || t.cold < 0:
		return t.conn
	case t.cold >= max(1, int(amountOf(d.l.core.cfg.Resources, "CPU")/10_000)):
		return nil
	}
	t.cold++
	return t.conn
}

// unwarmed: nobody waits any longer for a template's second process.
func (d *desk) unwarmed(t *template) {
	if t.cold < 0 {
		return
	}
	t.cold = -1
	if t.conn != nil {
		d.unqueue(t)
	}
}

// unqueue has a template make workers that waited for it.
func (d *desk) unqueue(t *template) {
	queue := t.queue
	t.queue = nil
	for i, f := range queue {
		by := d.forks(t)
		if by == nil {
			t.queue = queue[i:]
			return
		}
		d.fork(by, f)
	}
}

// templateUp: a template has attached, or its second process.
func (d *desk) templateUp(c *workConn, a *fb.AttachT) {
	i := slices.IndexFunc(d.templates, func(t *template) bool {
		return t.key == a.Worker && !t.over && (!t.up || t.conn != nil && t.warm == nil)
	})
	if i < 0 {
		d.refuse(c, "no template of that key is waited for")
		return
	}
	t := d.templates[i]
	c.born = a.Born
	if c.template = t; t.up {
		t.warm = c
	} else {
		t.conn, t.up = c, true
		if t.due = d.l.now() + warmWait; len(t.job.config.Preload) == 0 {
			t.cold = -1
		}
	}
	d.send(c, &fb.AttachedT{Agent: d.agent, Process: uint32(c.process), Node: d.node, Cluster: d.l.core.cfg.Cluster}, 0, nil)
	d.unqueue(t)
}

// templateDown: a connection of a template is over. Its group ends next, if it has not.
func (d *desk) templateDown(ctx context.Context, c *workConn) {
	t := c.template
	if t.warm == c {
		t.warm = nil
	} else {
		t.conn = nil
	}
	d.endTemplate(ctx, t, "its connection broke")
}

// toldTemplate takes the state of a template's group; false: it is none. With the template end all workers that it forked.
func (d *desk) toldTemplate(ctx context.Context, u *fb.GroupUpdateT) bool {
	i := slices.IndexFunc(d.templates, func(t *template) bool { return t.group == taskOf(u.Group) })
	if i < 0 || u.Phase != fb.GroupPhaseEnded {
		if i >= 0 {
			d.templates[i].waits = u.Explain
		}
		return i >= 0
	}
	t, end := d.templates[i], u.End
	if end == nil {
		end = &fb.GroupEndT{}
	}
	d.templates = slices.Delete(d.templates, i, i+1)
	t.over, t.final = true, !t.up && always(end)
	if c := d.conns[id.Process(t.job.number)]; c != nil && c.through && !d.hasTemplate(t.job) {
		c.conn.Finish()
	}
	if t.job.template == t {
		t.job.template = nil
	}
	why := "the process that its workers are forked from ended: " + end.Reason
	if end.Tail != "" {
		why += ": " + end.Tail
	}
	if t.install != nil && !t.up {
		why, t.final = t.failure(d.node, end), t.final || t.install.late != ""
	}
	for _, h := range d.sortedHired() {
		if h.template == t && h.state == nil {
			h.state = &fb.WorkerStateT{Key: h.key, Phase: fb.RankPhaseEnded, Error: why}
			d.workerOver(h)
		}
	}
	return true
}

// hasTemplate tells whether a template of a job has not ended.
func (d *desk) hasTemplate(j *job) bool {
	return slices.ContainsFunc(d.templates, func(t *template) bool { return t.job == j })
}

// templateSays takes what a template tells of its children.
func (d *desk) templateSays(ctx context.Context, c *workConn, b carrier.Batch) {
	defer b.Release()
	for f := range carrier.Frames(b.Bytes) {
		m, err := f.Message()
		s, ok := m.(*fb.WorkerStateT)
		if err != nil || !ok {
			d.refuse(c, "a template tells of its children, and sent a "+f.Type().String())
			return
		}
		if s.Key == 0 { // a key that no worker has stands for the second process
			d.unwarmed(c.template)
			continue
		}
		h := d.hired[s.Key]
		if h == nil || h.template != c.template || h.state != nil {
			continue
		}
		h.pid = int(s.Pid)
		if s.Phase == fb.RankPhaseRunning && h.forked != 0 { // its own time begins here, behind all that the template had to do before it
			h.forked = d.l.now()
		}
		switch {
		case s.Phase == fb.RankPhaseEnded:
			h.state = s
			d.workerOver(h)
		case h.killed != "":
			d.kill(h, h.killed)
		case h.birth != nil:
			d.bear(ctx, h)
		case h.greeted && h.conn != nil:
			h.conn.pid = s.Pid
			d.brings(work.Born{Process: h.conn.process, PID: s.Pid})
		}
	}
}

// hire has a worker forked.
func (d *desk) hire(ctx context.Context, n *work.Need) {
	j := d.jobOf(n.Job)
	if j == nil || d.over != "" {
		d.brings(work.WorkerFailed{Key: n.Key, Why: "its job is over", Final: true})
		return
	}
	if why := j.cannot(n.Language); why != "" {
		d.brings(work.WorkerFailed{Key: n.Key, Why: why, Final: true})
		return
	}
	vars, wanted, why := j.fork(n, d.l.core.cfg.Devices)
	if why != "" {
		d.brings(work.WorkerFailed{Key: n.Key, Why: why, Final: true})
		return
	}
	h := &hired{key: n.Key, job: j, actor: n.Actor, template: d.templateWith(ctx, j, &wanted)}
	d.hired[n.Key] = h
	j.hired++
	h.template.hired++
	d.setup(ctx, h, &fb.ForkT{Key: n.Key, Env: vars}, &wanted)
}

// kill ends a worker at once. One that is not forked yet is when it is.
func (d *desk) kill(h *hired, why string) {
	h.killed = why
	if h.setup != nil {
		d.noSetup(h, why)
		return
	}
	if t := h.template; h.pid == 0 {
		if i := slices.IndexFunc(t.queue, func(f *fb.ForkT) bool { return f.Key == h.key }); i >= 0 {
			t.queue = slices.Delete(t.queue, i, i+1)
			h.state = &fb.WorkerStateT{Key: h.key, Phase: fb.RankPhaseEnded, Error: why}
			d.workerOver(h)
		}
		return
	}
	if h.state == nil { // else its number may be another's
		d.slay(h.pid)
		d.endBelow(h.pid)
	}
}

// slay is kill -9.
func slay(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
		_ = p.Release()
	}
}

// workerOver: a worker's process or its connection has ended. It is over with both.
func (d *desk) workerOver(h *hired) {
	if h.state != nil && h.ended == 0 {
		h.ended = d.l.now()
		h.stillborn()
	}
	if h.state == nil || h.conn != nil && h.closed == 0 {
		d.half = append(d.half, h)
		return
	}
	if d.memory != nil && !h.judged && h.conn != nil && h.killed == "" && h.state.Signal == int32(syscall.SIGKILL) {
		h.judged = true
		d.l.goes(func() {
			before, yes := d.memory.kernelEnded()
			d.post(mail{do: func() {
				if yes {
					h.starved = before
				}
				d.workerOver(h)
			}})
		})
		return
	}
	delete(d.hired, h.key)
	h.job.hired--
	h.template.hired--
	why := ending(h.state)
	if h.killed != "" {
		why = h.killed
	}
	if h.conn != nil {
		d.storeDied(h.conn.process)
		ev := work.ProcessGone{Process: h.conn.process, Why: why}
		if h.starved != "" {
			ev.Memory, ev.Why = true, fmt.Sprintf("the kernel ended it for want of memory (%s); before, %s was used", why, h.starved)
		}
		d.brings(ev)
	} else {
		d.brings(work.WorkerFailed{Key: h.key, Why: why, Final: h.killed == "" && (h.final || h.template.final)})
	}
}

// always tells whether a template that ended so before it was there would end so again.
func always(end *fb.GroupEndT) bool {
	switch end.Cause {
	case "rank":
		return end.Code != 0 && end.Signal == 0
	case "start", "infeasible":
		return true
	}
	return false
}

// ending says how a worker ended.
func ending(s *fb.WorkerStateT) string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", s.Signal, syscall.Signal(s.Signal))
	}
	return fmt.Sprintf("it exited with code %d", s.Code)
}

// settleWorkers forces the end of workers of which only the process or only the connection is over.
func (d *desk) settleWorkers() int64 {
	next, now := never, d.l.now()
	d.half = slices.DeleteFunc(d.half, func(h *hired) bool {
		due := h.closed + closedWait
		if h.state != nil {
			due = h.ended + endedWait
		}
		switch {
		case d.hired[h.key] != h:
		case now < due:
			next = min(next, due)
			return false
		case h.state == nil:
			d.kill(h, "it closed its connection and did not end")
		default: // a child of it holds the connection open
			h.conn.conn.Cut()
		}
		return true
	})
	return min(next, d.settleLate(now), d.settleSetups(now))
}

// absent says why it is not there yet.
func (t *template) absent(node string) string {
	switch {
	case t.waits != "":
		return t.waits
	case t.install != nil:
		return t.slow(node)
	}
	return "it was started and has not attached: its program, or a file system, may be slow"
}

// settleLate tells drivers of templates that do not come, and ends workers that do not attach.
func (d *desk) settleLate(now int64) int64 {
	next := never
	for _, t := range d.templates {
		switch due := t.since + templateLate; {
		case t.up || t.over || t.late:
		case now < due:
			next = min(next, due)
		default:
			t.late = true
			d.toDriver(t.job, &fb.NoticeT{Level: fb.LevelWarning, Code: "WORKERS_LATE", Wall: now,
				Text: fmt.Sprintf("the process that workers are forked from is not there after %v: %s", time.Duration(templateLate), t.absent(d.node))}, nil)
		}
	}
	for _, t := range d.templates {
		switch {
		case t.cold < 0 || t.warm != nil || !t.up:
		case now < t.due:
			next = min(next, t.due)
		default:
			d.unwarmed(t)
		}
	}
	for _, h := range d.hired {
		switch due := h.forked + attachWait; {
		case h.spoke || h.forked == 0 || h.killed != "" || h.state != nil || h.greeted && h.pid == 0:
		case now < due:
			next = min(next, due)
		default:
			d.kill(h, fmt.Sprintf("it was forked and did not come to its first line within %v: something hangs that was made before a fork, such as a library's threads", time.Duration(attachWait)))
		}
	}
	return next
}

func (d *desk) sortedHired() []*hired {
	list := make([]*hired, 0, len(d.hired))
	for _, h := range d.hired {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *hired) int { return int(int64(a.key) - int64(b.key)) })
	return list
}
