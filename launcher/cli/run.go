package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

func (a *app) runCommand() *urfave.Command {
	flags := append(specFlags(), clusterFlag())
	flags = append(flags, nodeFlags()...)
	flags = append(flags,
		toggle("quiet", "Q", "no messages but errors"),
		runJSON(),
		rare(toggle("no-prefix", "", "output as it comes, without [rank]")),
		rare(value("open-mode", "", "append|truncate", "what to do with output files that exist (truncate)")),
	)
	return a.newCommand(&page{
		name: "run", summary: "run a program as a gang of ranks, or as a single driver", args: "[--] PROGRAM [ARG...]",
		examples: []string{
			"maniple run -n 4 -- python train.py\tfour ranks",
			"maniple run -N 2 --ntasks-per-node 8 -- ./solver\ttwo nodes with eight each",
			"maniple run -n 4 -o out-%t.txt -- ./solver\ta file per rank",
			"maniple run -- python main.py\tone driver, no ranks",
		},
		notes: []string{"Without a cluster one is started for the time of the command. Ctrl-C asks the ranks to end, twice stops them."},
		flags: flags, program: true, more: true, action: (*call).run,
	})
}

func runJSON() urfave.Flag {
	return toggle("json", "", "NDJSON on stdout: what the program prints, then an end record")
}

func (c *call) run() error {
	if err := c.alone(); err != nil {
		return err
	}
	s, err := spec.Parse(c.shaped())
	if err != nil {
		return err
	}
	s.Command = c.rest()
	return c.runSpec(s, runOptions{jobsOwn: spec.JobsOwn(c.jobEnv(), c.given)})
}

// alone refuses a run that srun started several times: each would start all ranks. One with nodes of its own
// is meant to be, and srun --pty gives its terminal to one task. A batch script that a step submitted may have
// that step's variables, but its own SLURM_NTASKS.
func (c *call) alone() error {
	job, ok, err := slurm.Environ(c.jobEnv())
	if err != nil || !ok || job.Step == nil || job.Step.Tasks < 2 || job.Step.Tasks != job.Tasks || c.str("fake-nodes") != "" || c.getenv("SLURM_PTY_PORT") != "" {
		return nil // what is wrong with the environment is told by who needs it
	}
	return usage("run", fmt.Sprintf("srun starts it %d times, and each would start all ranks", job.Step.Tasks),
		"leave srun away: it starts the ranks on the job's nodes itself")
}

// jobEnv is the environment for the job's defaults; a rank's own `maniple run` does not take them again.
func (c *call) jobEnv() func(string) string {
	if c.getenv("MANIPLE_GROUP") != "" {
		return func(string) string { return "" }
	}
	return c.getenv
}

// runOptions are what the commands that run something differ in.
type runOptions struct {
	needCluster bool // an error without one
	terminal    bool // a pty if stdin is a terminal
	noCores     bool // the driver takes none: it only waits
	jobsOwn     bool // the request is that of the Slurm job around us
	started     func()
	grants      string // of the nodes of an embedded cluster, for the start
}

// runSpec runs a request on the cluster that is up, or on one of its own.
func (c *call) runSpec(s *spec.Spec, o runOptions) error {
	var err error
	dir := s.Chdir
	if dir == "" {
		dir, _ = os.Getwd() // gangOf reports it
	} else if err := checkDir(dir); err != nil {
		return err
	}
	for _, f := range []struct{ flag, pattern string }{{"--output", s.Output}, {"--error", s.Error}} {
		if err := checkPattern(f.flag, f.pattern, dir); err != nil {
			return err
		}
	}
	ctx, sig := c.watched.ctx, c.watched.signals
	if sig == nil {
		ctx, sig = watchSignals(c.ctx)
		defer sig.stop()
	}
	c.site = c.slurmEnd()
	defer c.site.hold(sig.terminated) // once nothing of ours runs any more
	sig.onTerm(c.site.ask)
	outside := c.master != nil && c.master.Outside
	if c.master != nil && !outside {
		sig.ignoreTerm() // YARN takes this container, and not the program's
	}
	var ep *boot.Endpoint
	if c.master == nil { // an application is a cluster of its own
		ep, err = c.find()
	}
	if err != nil && (!errors.Is(err, boot.ErrNone) || o.needCluster || c.namesOther()) {
		return err
	}
	if !outside && (ep == nil || ep.Kind == "local") || len(s.Command) == 0 {
		if err := checkProgram(c.page.name, s.Command, dir, s.Environ(c.environ)); err != nil {
			return err
		}
	}
	if ep != nil && c.str("fake-nodes") != "" {
		ep = nil // nodes of its own were asked for
	}
	own := ep == nil
	if own {
		cluster, err := c.embed(ctx, s)
		if err != nil {
			return err
		}
		defer c.stopEmbedded(cluster)
		ep = &cluster.Endpoint
		if ep.Kind == "slurm" { // the login node has no other way to know of it
			if err := cluster.Announce(c.getenv); err != nil && !c.on("quiet") {
				c.say("%s: no command outside the job's nodes finds this cluster: %s", c.page.name, plain(err))
			}
			defer cluster.Withdraw()
		}
	}
	client, err := c.connect(ctx, ep)
	if err != nil {
		return err
	}
	defer client.Close()
	if c.master != nil {
		c.show(client)
		defer c.master.Show(nil)
	}
	if own && !c.on("quiet") {
		o.grants = c.grants(ctx, client)
	}
	nodes := len(ep.Nodes)
	if c.master != nil && c.master.Resumed() {
		nodes = c.master.Job.Nodes
	} else if s.NodesMin < s.NodesMax { // only a range depends on what there is
		reply, _, err := ask[stateCluster](ctx, c, client, "cluster", "")
		if err != nil {
			return err
		}
		nodes = reply.Cluster.Up
	}
	if o.jobsOwn {
		if err := c.fillGPUs(ctx, client, s); err != nil {
			return err
		}
	}
	if err := c.matchGPUs(ctx, client, s); err != nil {
		return err
	}
	shape, err := s.Shape(nodes)
	if err != nil {
		return err
	}
	if o.noCores && s.CPUsPerTask == 0 {
		shape.Bundles[0].CPUs = 0
	}
	if outside && shape.Driver {
		err = c.driveHere(sig, ep, s)
	} else {
		err = c.gang(ctx, client, sig, s, shape, o)
	}
	if c.master != nil && !outside { // one outside has no next one, and with its last word YARN kills the nodes before they have tidied up
		_ = c.tellYARN(err) // who is asked again says why it could not be
	}
	if own && ep.Kind == "slurm" && sig.back() {
		c.awaitOthers(ctx, client)
	}
	return err
}

// awaitOthers lets gangs and drivers end that are not ours: inside a job the first `run` brings up what all that start
// meanwhile use. A signal ends the wait, and with it them.
func (c *call) awaitOthers(ctx context.Context, client *gang.Client) {
	_ = c.unused(ctx, client, func(names string) {
		c.say("%s: done; it stays for %s, which other commands of this job run on its cluster", c.page.name, names)
	}) // a cluster that can't be asked is over
}

// fillGPUs gives a job's own request the GPUs that all of the job's nodes have, if it names none. A driver
// gets none of its own.
func (c *call) fillGPUs(ctx context.Context, client *gang.Client, s *spec.Spec) error {
	if !s.Gang() {
		s.FillGPUs(0)
		return nil
	}
	if s.GPUs > 0 || s.GPUsPerNode > 0 || s.GPUsPerTask > 0 {
		return nil
	}
	reply, _, err := ask[stateNodes](ctx, c, client, "nodes", "")
	if err == nil {
		s.FillGPUs(reply.leastGPUs())
	}
	return err
}

// namesOther tells whether the user named a cluster that `run` does not make: a typo must not start one.
// With --fake-nodes it is the name of one of its own.
func (c *call) namesOther() bool {
	name := c.str("cluster")
	return name != "" && c.str("fake-nodes") == "" && name != boot.JobName(c.jobEnv())
}

// gang runs a shape to its end.
func (c *call) gang(ctx context.Context, client *gang.Client, sig *signals, s *spec.Spec, shape *spec.Shape, o runOptions) error {
	g, err := c.gangOf(s, shape)
	if err != nil {
		return err
	}
	rio := gang.IO{
		Stdin: c.input(), Stdout: c.screen(c.stdout), Stderr: c.screen(c.stderr),
		Output: s.Output, Error: s.Error, Dir: g.Program.Cwd, Job: c.getenv("SLURM_JOB_ID"), User: userName(),
		Interrupts: sig.hand(),
	}
	if v, origin, ok := c.flag("open-mode"); ok {
		if v != "append" && v != "truncate" {
			return usage(origin, fmt.Sprintf("%q is no mode", v), "write append or truncate")
		}
		rio.Append = v == "append"
	}
	if c.on("no-prefix") || shape.Driver {
		rio.Prefix = gang.PrefixNever
	}
	quiet := c.on("quiet")
	silent := quiet || o.terminal // who asks for one program is told nothing of shapes
	asJSON := c.on("json") || c.asJSON && c.master != nil
	if asJSON {
		o.terminal, rio.Prefix = false, gang.PrefixAlways
		lines := records{to: c.stdout, messages: c.stderr, marked: true, driver: shape.Driver}
		out, errs := lines, lines
		out.stream, errs.stream = "stdout", "stderr"
		rio.Stdout, rio.Stderr = &out, &errs
	}
	if s.Input != "" {
		f, err := os.Open(s.Input)
		if err != nil {
			return &Fault{Name: "USAGE", What: "--input", Why: err.Error(), Do: "give a file that can be read", Err: err}
		}
		defer f.Close()
		rio.Stdin = f
	}
	if o.terminal && shape.Driver && terminal(c.stdin) && terminal(c.stdout) {
		g.Program.Pty, rio.Terminal = true, c.stdin
		g.Program.Rows, g.Program.Cols = windowSize(c.stdin)
	}
	start := func(node string) {
		c.say("%s", shape.FirstLine(node))
		if o.grants != "" {
			c.say("%s", o.grants)
		}
	}
	if !quiet && !shape.Driver {
		start("")
	}
	limits := &limits{client: client, spec: s, say: c.say}
	defer limits.stop()
	if c.master != nil {
		limits.since = c.master.Submitted
		limits.say = func(format string, args ...any) {
			c.say(format, args...)
			c.master.Blame(fmt.Sprintf(format, args...))
		}
		c.master.Announced(limits.signal)
		defer c.master.Announced(nil)
		if !shape.Driver { // what a driver has left on the nodes it may find again
			rio.Waits = c.master.Waits
		}
	}
	first := true
	rio.Started = func(u *gang.Update) {
		if first && shape.Driver && !silent {
			start(driverNode(u))
		}
		if first && o.started != nil {
			o.started()
		}
		first = false
		limits.start(ctx, u)
	}
	var said []string
	rio.Notice = func(n *gang.Notice) {
		if !quiet || n.Level != gang.LevelInfo {
			c.say("%s%s", n.Text, codeOf(n))
			said = append(said, n.Text)
		}
	}
	rio.Explain = func(why string) {
		if why != "" && !quiet {
			c.say("waiting: %s", why)
		}
	}
	run := gang.Run
	if c.master != nil && !c.master.Outside {
		if run, err = c.ofMaster(ctx, client, &g, &rio); err != nil {
			return err
		}
	}
	began := time.Now()
	end, err := run(context.WithoutCancel(ctx), client, g, rio)
	if err != nil {
		if name, _ := classify(err); name == "BUG" {
			return overWire(c.page.name, "", err)
		}
		return err
	}
	last := c.site.explain(&end)
	if report := end.Report(); report != "" && report != limits.reason() && !slices.Contains(said, report) { // it was said when it was so
		if hint := end.Hint(g.Program); hint != "" {
			report += "\n  " + hint
		}
		if end.Cause == "infeasible" {
			first, rest, _ := strings.Cut(report, "\n")
			report = c.page.name + ": " + first + "; ask for less, or for more nodes"
			if rest != "" {
				report += "\n  " + strings.ReplaceAll(rest, "\n", "\n  ")
			}
		}
		c.say("%s", report)
	}
	if last != "" {
		c.say("%s", last)
	}
	if asJSON {
		if err := c.endRecord(g, end, time.Since(began)); err != nil {
			return err
		}
	}
	if end.Code != 0 {
		return exitOnly(end.Code)
	}
	if end.Unwritten != nil {
		return &Fault{Name: "CANNOT_CREATE", What: c.page.name, Why: "all ended well, but not all output is in its files", Do: "write it where there is room", Err: end.Unwritten}
	}
	return nil
}

// endRecord is the last line of stdout with --json, after those of ndjson.go.
func (c *call) endRecord(g gang.Spec, end gang.End, took time.Duration) error {
	record := struct {
		Version  int      `json:"version"`
		Event    string   `json:"event"`
		Name     string   `json:"name"`
		Group    string   `json:"group"`
		Code     int      `json:"code"`
		Cause    string   `json:"cause"`
		Reason   string   `json:"reason,omitempty"`
		Rank     *int     `json:"rank,omitempty"`
		Node     string   `json:"node,omitempty"`
		Signal   int      `json:"signal,omitempty"`
		Tail     string   `json:"tail,omitempty"`
		Ranks    int      `json:"ranks"`
		Restarts int      `json:"restarts"`
		Seconds  float64  `json:"seconds"`
		Command  []string `json:"command"`
	}{1, "end", g.Name, groupName(end.Group), end.Code, end.Cause, end.Reason, nil, end.Node, end.Signal, end.Tail,
		end.Ranks, end.Restarts, float64(took.Milliseconds()) / 1000, g.Program.Argv}
	if c.page.name == "demo" {
		record.Command = []string{g.Program.Argv[0], "demo.py"} // its text is no use here
	}
	if end.Rank >= 0 && end.Cause != "ok" {
		record.Rank = &end.Rank
	}
	return c.json(record)
}

// input is this command's standard input, unless reading it would stop us: a terminal of which another
// process group is in the foreground.
func (c *call) input() io.Reader {
	if terminal(c.stdin) && !foreground(c.stdin) {
		return nil
	}
	return c.stdin
}

func driverNode(u *gang.Update) string {
	for _, r := range u.Ranks {
		for _, n := range u.Nodes {
			if n.Agent == r.Agent && r.Rank == 0 {
				return n.Name
			}
		}
	}
	return ""
}

func codeOf(n *gang.Notice) string {
	if n.Code == "" || n.Level == gang.LevelInfo {
		return ""
	}
	return " [" + n.Code + "]"
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Getuid())
}
