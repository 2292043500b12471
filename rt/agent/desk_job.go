package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/env"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// job is a driver, the processes that it forked, and the workers of all of them. Its number is that of
// its driver's process, so it is one on this agent only.
type job struct {
	number   uint32
	name     string // of its driver, for people
	language string
	config   jobConfig
	worker   string // MANIPLE_JOB_CONFIG of its workers
	drivers  int
	hired    int
	over     bool        // its driver has ended
	text     string      // the job_config
	errand   *errand     // its driver is another agent's
	left     []*workConn // workers that are gone and made groups, which end with the driver
	template *template
	dir      string  // of its packages; "": it can have none
	packs    []*pack // that its workers want, or wanted
	busy     int     // goroutines at work on those
}

// jobConfig is what a driver says of its job, as JSON in Attach.
type jobConfig struct {
	Job        uint32            `json:"job"`        // of a process that a driver forked: the driver's
	Executable string            `json:"executable"` // Python, or the driver's own binary
	Argv       []string          `json:"argv"`       // the driver's
	Hash       string            `json:"hash"`       // Go: of the content of the binary
	Cwd        string            `json:"cwd"`
	Env        map[string]string `json:"env"`
	Namespace  string            `json:"namespace"`
	SysPath    []string          `json:"sys_path"`
	SysPathEnd []string          `json:"sys_path_end"`
	Preload    []string          `json:"preload"` // modules that workers are better born with
}

// jobFor gives the job of a driver that came: a new one, or the one of the process that forked it.
func (d *desk) jobFor(ctx context.Context, c *workConn, a *fb.AttachT) (*job, string) {
	var config jobConfig
	if a.JobConfig != "" {
		if err := json.Unmarshal([]byte(a.JobConfig), &config); err != nil {
			return nil, "its job_config can't be read: " + err.Error()
		}
	}
	if config.Job != 0 {
		j := d.jobOf(config.Job)
		if j == nil || j.over {
			return nil, fmt.Sprintf("job %d, to which it belongs, is over", config.Job)
		}
		j.drivers++
		return j, ""
	}
	j, why := d.newJob(ctx, uint32(c.process), fmt.Sprintf("%s (pid %d)", a.Name, a.Pid), a.Language, a.JobConfig, nil)
	if j != nil {
		d.stake.eager = true
	}
	return j, why
}

// newJob begins a job, of a driver here or of one whose agent has tasks for this one.
func (d *desk) newJob(ctx context.Context, number uint32, name, language, text string, of *errand) (*job, string) {
	var config jobConfig
	if text != "" {
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			return nil, "its job_config can't be read: " + err.Error()
		}
		if here := moved(text, config.Env[bootdoc.DirVariable], d.l.core.cfg.Dir); here != text {
			text, config = here, jobConfig{}
			if err := json.Unmarshal([]byte(text), &config); err != nil {
				return nil, "its job_config can't be read: " + err.Error()
			}
		}
	}
	if why := config.check(language); why != "" {
		return nil, why
	}
	j := &job{number: number, name: name, config: config, language: language, text: text, errand: of, drivers: 1}
	own, err := json.Marshal(map[string]any{"namespace": config.Namespace, "sys_path": config.SysPath, "sys_path_end": config.SysPathEnd})
	if err != nil {
		return nil, "its job_config can't be passed on: " + err.Error()
	}
	j.worker = string(own)
	if jobs := jobsDir(&d.l.core.cfg, d.agent); jobs != "" {
		j.dir = filepath.Join(jobs, fmt.Sprint(number))
	}
	d.jobs = append(d.jobs, j)
	if j.cannot(language) == "" { // warm before the first task comes
		d.templateFor(ctx, j)
	}
	return j, ""
}

// moved is a driver's job_config with the folder of this node's container in the place of that of the driver's: the
// same files are in both, the driver's interpreter among them.
func moved(text, from, to string) string {
	if from == "" || to == "" || from == to {
		return text
	}
	return strings.ReplaceAll(text, from, to)
}

func (d *desk) jobOf(number uint32) *job {
	for _, j := range d.jobs {
		if j.number == number {
			return j
		}
	}
	return nil
}

// tidyJobs ends what is left of jobs that are over.
func (d *desk) tidyJobs(ctx context.Context) {
	d.jobs = slices.DeleteFunc(d.jobs, func(j *job) bool {
		over := j.drivers == 0 && j.hired == 0 && j.busy == 0 && !d.core.Has(j.number)
		if over {
			d.endTemplates(ctx, j)
		}
		if over && j.dir != "" {
			d.l.goes(func() { _ = os.RemoveAll(j.dir) }) // the end of the node removes what remains
		}
		return over
	})
}

// fork is the environment of a worker beside that of its template, or why it can't be made.
func (j *job) fork(n *work.Need, devices []*fb.DeviceT) ([]string, env.Environment, string) {
	vars := []string{"MANIPLE_JOB_CONFIG=" + j.worker, fmt.Sprintf("%s%d", envKey, n.Key)}
	wanted, err := env.Parse(n.Environment)
	if err != nil {
		return nil, wanted, err.Error()
	}
	if wanted.Install() != "" && j.language != python {
		return nil, wanted, "its runtime_env can't be made: only drivers in Python have something installed for their workers"
	}
	if n.Environment != "" {
		vars = append(vars, "MANIPLE_RUNTIME_ENV="+n.Environment) // what it starts has it, too
		if len(wanted.Packages()) > 0 {
			vars = append(vars, "MANIPLE_PACKAGES="+j.dir)
		}
		wanted.Expand(j.config.Env)
		for name, value := range wanted.Vars {
			vars = append(vars, name+"="+value)
		}
		slices.Sort(vars[2:])
	}
	for _, name := range j.threads() {
		_, driver := j.config.Env[name]
		if _, task := wanted.Vars[name]; !driver && !task {
			vars = append(vars, fmt.Sprintf("%s=%d", name, n.Threads))
		}
	}
	if len(devices) > 0 { // exactly one mask, or they hide from each other
		mask := "CUDA_VISIBLE_DEVICES"
		if devices[0].Kind == "amd" {
			mask = "ROCR_VISIBLE_DEVICES"
		}
		vars = append(vars, mask+"="+strings.Join(n.Devices, ","))
	}
	return vars, wanted, ""
}

// toldOutput passes what a template and its workers print to the driver.
func (d *desk) toldOutput(m *fb.RankOutputT, data []byte) {
	if d.heardMaking(m, data) {
		return
	}
	for _, t := range d.templates {
		if t.group == taskOf(m.Group) && t.job.errand != nil {
			d.errandSend(t.job.errand, m, data) // it acknowledges
			return
		}
	}
	for _, t := range d.templates {
		if t.group == taskOf(m.Group) {
			d.output(t.job, nil, m, data)
			return
		}
	}
	d.output(nil, nil, m, data)
}

// output gives what workers print to a driver here. from: they are of another agent's, which is told what was read.
func (d *desk) output(j *job, from *errand, m *fb.RankOutputT, data []byte) {
	ack := outputAck{from: from}
	ack.m = &fb.RankOutputAckT{Group: m.Group, Incarnation: m.Incarnation, Rank: m.Rank, Stream: m.Stream, Offset: m.Offset + uint64(len(data))}
	if m.Eof {
		ack.m.Offset++
	}
	var to *workConn
	if j != nil {
		to = d.conns[id.Process(j.number)]
	}
	if to == nil { // nobody is left who wants it
		d.acks = append(d.acks, ack)
		return
	}
	if len(data) > 0 {
		d.send(to, m, 0, data)
	}
	if len(to.acks) == 0 {
		d.acking = append(d.acking, to)
	}
	to.acks = append(to.acks, ack)
}

// outputAck is one that is due when its output was read.
type outputAck struct {
	m    *fb.RankOutputAckT
	from *errand // the workers are at another agent
}

func (d *desk) acknowledge(ctx context.Context, a outputAck) {
	if a.from == nil {
		d.ask(ctx, d.process, a.m, 0, nil)
	} else if slices.Contains(d.errands, a.from) {
		d.errandSend(a.from, a.m, nil)
	}
}

// outputAhead is how much a driver may leave unread before what its workers print waits for it; then it is looked
// at again after outputLook.
const (
	outputAhead = 1 << 20
	outputLook  = 50 * time.Millisecond
)

// settleOutput acknowledges what drivers have read, or nearly.
func (d *desk) settleOutput(ctx context.Context) int64 {
	next := never
	for _, a := range d.acks {
		d.acknowledge(ctx, a)
	}
	d.acks = d.acks[:0]
	d.acking = slices.DeleteFunc(d.acking, func(c *workConn) bool {
		if d.conns[c.process] == c && c.conn.Unsent() > outputAhead { // one that is over reads nothing more
			next = d.l.now() + int64(outputLook)
			return false
		}
		for _, a := range c.acks {
			d.acknowledge(ctx, a)
		}
		c.acks = c.acks[:0]
		return true
	})
	return next
}
