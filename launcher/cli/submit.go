package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

func (a *app) submitCommand() *urfave.Command {
	cmd := a.newCommand(&page{
		name: "submit", summary: "put a program into Slurm's queue, as a gang of ranks or a single driver", args: "[--] PROGRAM [ARG...]",
		examples: []string{
			"maniple submit -N 2 --ntasks-per-node 2 -t 30 -- python train.py\tfour ranks",
			"maniple submit -N 4 --gpus-per-node 8 -- python main.py\tone driver, 32 GPUs",
			"maniple submit --follow -p short -n 8 -- ./solver\tsee its output, and its exit code",
			"maniple submit --dry-run -n 8 -- ./solver\tthe batch script, not submitted",
		},
		notes: []string{
			"Every flag of this machine's `sbatch --help` is known; others pass as --flag=value. #SBATCH lines of a script count.",
			"Nothing stays on the login node without --wait or --follow.",
		},
		flags: submitFlags(), program: true, action: (*call).submit,
	})
	cmd.SkipFlagParsing = true // the flags are those of the installed sbatch, known only when it runs
	return cmd
}

// submitFlags are our own; sbatch's are added to them by its --help.
func submitFlags() []urfave.Flag {
	return []urfave.Flag{
		toggle("dry-run", "", "print the batch script and submit nothing"),
		toggle("wait", "W", "wait for the end; exit as the job did"),
		toggle("follow", "f", "print the job's output as it grows; implies --wait"),
		toggle("json", "", "print a record of the job, with --wait another of its end"),
		toggle("parsable", "", "print the job's ID alone"),
		value("on", "", "slurm|yarn", "where to (slurm); flags for YARN: docs/guide/yarn.md"),
		value("sbatch", "", "'FLAGS'", "more flags for sbatch, not looked at"),
		value("max-restarts", "", "N", "start the gang again after a failure"),
		rare(value("grace", "", "SECONDS", "between TERM and KILL (30)")),
		rare(value("gpu-visibility", "", "own|node", "GPUs that a rank sees (own with --gpus-per-task)")),
		rare(value("slurm-env", "", "MODE", "rewrite, keep or hide SLURM_* of ranks")),
		rare(toggle("bind", "", "a set of cores of its own for each rank")),
		rare(toggle("no-check", "", "do not look for the program here: it exists only on the nodes")),
	}
}

// submit is the command.
func (c *call) submit() error {
	dry, args := false, c.Args().Slice()
	for _, arg := range args {
		if arg == "-h" || arg == "--help" {
			fmt.Fprint(c.stdout, c.Command.CustomHelpTemplate)
			return nil
		}
		if arg == "--" {
			break
		}
		dry = dry || arg == "--dry-run"
	}
	if there, err := c.onYARN(args); err != nil {
		return err
	} else if there {
		return c.submitYARN(args)
	}
	client := &exec.Client{Environ: c.environ, Cache: slurmCache(c.getenv)}
	options, err := client.Options(c.ctx)
	if err != nil {
		if !dry || !errors.Is(err, slurm.ErrMissing) {
			return slurmFault("submit", err)
		}
		options = basicOptions() // a machine without Slurm can show the script all the same
	}
	r, err := parseSubmit(args, options, c.getenv)
	if err != nil {
		return err
	}
	c.setOwn(r)
	c.asJSON = r.own["json"] != ""
	job, err := c.newJob(r, options)
	if err != nil {
		return err
	}
	if err := job.checkOwn(); err != nil {
		return err
	}
	if err := c.checkJob(job, client); err != nil {
		return err
	}
	script, err := job.script()
	if err != nil {
		return err
	}
	if r.own["dry-run"] != "" && c.asJSON {
		return c.json(struct {
			Version int    `json:"version"`
			Event   string `json:"event"`
			Script  string `json:"script"`
		}{1, "script", string(script)})
	}
	if r.own["dry-run"] != "" {
		_, err := c.stdout.Write(script)
		return err
	}
	done, err := client.Submit(c.ctx, exec.Submission{Script: script})
	if err != nil {
		return slurmFault("submit", err)
	}
	if done.Warning != "" {
		c.say("submit: %s", strings.ReplaceAll(done.Warning, "\n", "; "))
	}
	job.id, job.cluster = done.JobID, done.Cluster
	record, err := c.recordJob(job, script)
	if err != nil { // the job is in the queue: a record is a convenience
		c.say("submit: no record of job %d: %v", job.id, err)
	}
	if err := c.tellSubmitted(job, record); err != nil {
		return err
	}
	if r.own["wait"] == "" && r.own["follow"] == "" {
		return nil
	}
	return c.waitJob(job, client)
}

// tellSubmitted prints the job: as sbatch does, so that scripts which read that go on working.
func (c *call) tellSubmitted(job *job, record string) error {
	switch {
	case job.own["json"] != "":
		return c.json(struct {
			Version int      `json:"version"`
			Event   string   `json:"event"`
			JobID   string   `json:"job_id"`
			Cluster string   `json:"cluster,omitempty"`
			Name    string   `json:"name"`
			Output  string   `json:"output"`
			Dir     string   `json:"dir"`
			Record  string   `json:"record,omitempty"`
			Command []string `json:"command"`
		}{1, "submitted", fmt.Sprint(job.id), job.cluster, job.name, job.outputPath(), job.dir, record, job.command})
	case job.own["parsable"] != "":
		fmt.Fprintln(c.stdout, job.id)
	default:
		fmt.Fprintf(c.stdout, "Submitted batch job %d\n", job.id)
		c.say("submit: %s; output in %s", job.what(), job.outputPath())
	}
	return nil
}

// slurmCache is where answers of Slurm that do not change are kept between commands.
func slurmCache(getenv func(string) string) string {
	dir := getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(dir) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".cache")
	}
	return filepath.Join(dir, "maniple", "slurm.json")
}

// slurmFault gives an error of Slurm its exit code.
func slurmFault(what string, err error) error {
	if errors.Is(err, context.Canceled) {
		return exitOnly(130)
	}
	f := &Fault{Name: classOfSlurm(err), What: what, Why: err.Error(), Do: doDoctor, Err: err}
	var e *slurm.Error
	if errors.As(err, &e) {
		f.Why, f.Do = "Slurm: "+e.Text, e.Do
		if e.Text == "" {
			f.Why = "Slurm: " + e.Kind.Error()
		}
		if f.Do == "" {
			f.Do = slurmAdvice[f.Name]
		}
	}
	return f
}

// slurmAdvice is for texts of Slurm that package slurm has no better advice for.
var slurmAdvice = map[string]string{
	"UNREACHABLE": "`scontrol ping` shows the controller's state",
	"REFUSED":     "ask the site",
	"INFEASIBLE":  "`sinfo` and `sacctmgr show assoc user=$USER` show what there is and what you may use",
	"BUG":         doReport,
}

// classOfSlurm names the class of an error of Slurm.
func classOfSlurm(err error) string {
	switch {
	case errors.Is(err, slurm.ErrNotYours):
		return "REFUSED"
	case errors.Is(err, slurm.ErrRefused):
		return "INFEASIBLE"
	case errors.Is(err, slurm.ErrOutput):
		return "BUG"
	}
	return "UNREACHABLE"
}

// ourPath is the program that the job starts: this one, by a path that survives its link.
func ourPath() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", &Fault{Name: "BUG", What: "submit", Why: "cannot find my own program: " + err.Error(), Do: doReport}
	}
	return path, nil
}
