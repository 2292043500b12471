package agent

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/env"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// installing is what a template has more than a job's plain one: it begins as a program that makes what its workers' environment says is to
// be installed, or finds it, and becomes the template then (docs/adr/0037). So it is ended as any template is, with all that it started.
type installing struct {
	what  string // Environment.Install
	due   int64  // when it has taken too long
	said  string // its last line
	told  string // of those, what the core knows
	late  string // why it was ended
	since int64  // since when nobody has use for it; 0: somebody has
	look  int64  // when it is looked at again while it is made
}

const (
	installIdle   = int64(time.Minute) // a template of an installed environment without workers stays so long
	installCancel = int64(time.Second) // one that nobody waits for any more goes on for so long
	installLook   = int64(100 * time.Millisecond)
	saidBytes     = 300 // of a line that is passed on
)

// templateWith gives the template of a job for an environment, and has it started if there is none.
func (d *desk) templateWith(ctx context.Context, j *job, e *env.Environment) *template {
	what := e.Install()
	if what == "" {
		return d.templateFor(ctx, j)
	}
	i := slices.IndexFunc(d.templates, func(t *template) bool { return t.job == j && !t.over && t.install != nil && t.install.what == what })
	if i >= 0 {
		t := d.templates[i]
		t.install.due = max(t.install.due, dueIn(t.since, e.Timeout()))
		return t
	}
	t := d.newTemplate(j)
	t.install = &installing{what: what, due: dueIn(t.since, e.Timeout())}
	d.startTemplate(ctx, t)
	return t
}

// dueIn is when something that began has taken longer than it may; limit 0: it may take for ever.
func dueIn(since int64, limit time.Duration) int64 {
	if limit == 0 {
		return never
	}
	return since + int64(limit)
}

// maker is the program in place of a template that first has an environment made, and what its environment says more.
func (d *desk) maker(t *template) (argv, vars []string) {
	under := filepath.Dir(filepath.Dir(filepath.Dir(d.l.core.cfg.Socket))) // a user's, of all his clusters' nodes here
	return []string{t.job.config.Executable, "-m", "maniple._making"},
		[]string{"MANIPLE_INSTALL=" + t.install.what, "MANIPLE_ENVIRONMENTS=" + filepath.Join(under, ".environments")}
}

// heardMaking takes what is printed while an environment is made, which is no worker's. False: it is.
func (d *desk) heardMaking(m *fb.RankOutputT, data []byte) bool {
	i := slices.IndexFunc(d.templates, func(t *template) bool { return t.group == taskOf(m.Group) })
	if i < 0 || d.templates[i].install == nil || d.templates[i].up {
		return false
	}
	t := d.templates[i]
	if lines := bytes.FieldsFunc(data, func(r rune) bool { return r == '\n' || r == '\r' }); len(lines) > 0 {
		last := bytes.TrimSpace(lines[len(lines)-1])
		t.install.said = string(bytes.ToValidUTF8(last[:min(len(last), saidBytes)], nil))
	}
	d.output(nil, nil, m, data)
	return true
}

// slow says of an environment that is being made how far it is.
func (t *template) slow(node string) string {
	text := "its runtime_env is being made at node " + node
	if t.install.said != "" {
		text += ", which said last: " + t.install.said
	}
	return text
}

// failure says why workers of an environment can't be had whose making has ended. It says itself what failed if it could.
func (t *template) failure(node string, end *fb.GroupEndT) string {
	why, tail := end.Reason, strings.Trim(end.Tail, "\n")
	if tail == "" {
		tail = t.install.said
	}
	switch {
	case t.install.late != "":
		why = t.install.late
	case end.Code == 1 && end.Signal == 0 && tail != "":
		why = ""
	}
	if why != "" && tail != "" {
		why += "; it said last:\n"
	}
	return fmt.Sprintf("its runtime_env could not be made at node %s: %s", node, why+tail)
}

// settleInstalls tells the core how far environments are, and ends templates that took too long, that nobody waits for any more, or that
// have had no worker for long.
func (d *desk) settleInstalls(ctx context.Context, now int64) int64 {
	next := never
	for _, t := range d.templates {
		switch {
		case t.install == nil || t.over:
		case t.up:
			next = min(next, d.settleInstalled(ctx, t, now))
		default:
			next = min(next, d.settleMaking(ctx, t, now))
		}
	}
	return next
}

// settleMaking looks after a template whose environment is being made, some times a second.
func (d *desk) settleMaking(ctx context.Context, t *template, now int64) int64 {
	in := t.install
	if now >= in.due {
		in.late = fmt.Sprintf("it was not made within its setup_timeout_seconds (%v)", time.Duration(in.due-t.since))
		d.endTemplate(ctx, t, in.late)
		return never
	}
	if now < in.look {
		return min(in.look, in.due)
	}
	in.look = now + installLook
	mine, wanted := d.hiredFrom(t)
	if in.told != in.said {
		in.told = in.said
		for _, h := range mine {
			d.brings(work.WorkerSlow{Key: h.key, Why: t.slow(d.node)})
		}
	}
	if !in.unused(wanted, now, installCancel) {
		return min(in.look, in.due)
	}
	for _, h := range mine {
		d.kill(h, "nobody waited for it any more")
	}
	d.endTemplate(ctx, t, "nobody waits for it any more")
	return never
}

// settleInstalled looks after a template whose environment is there. Its end is that of the use of what was installed.
func (d *desk) settleInstalled(ctx context.Context, t *template, now int64) int64 {
	if t.install.unused(t.hired > 0, now, installIdle) {
		d.endTemplate(ctx, t, "it has had no worker for long")
		return never
	}
	if t.hired > 0 {
		return never
	}
	return t.install.since + installIdle
}

// unused tells whether nobody has had use for it for so long.
func (in *installing) unused(used bool, now, wait int64) bool {
	switch {
	case used:
		in.since = 0
	case in.since == 0:
		in.since = now
	default:
		return now >= in.since+wait
	}
	return false
}

// hiredFrom gives the workers of a template that are not over, and whether something waits for any of them.
func (d *desk) hiredFrom(t *template) (mine []*hired, wanted bool) {
	for _, h := range d.sortedHired() {
		if h.template == t && h.state == nil {
			mine = append(mine, h)
			wanted = wanted || d.core.Wanted(h.key)
		}
	}
	return mine, wanted
}
