package cli

import (
	"errors"
	"fmt"

	urfave "github.com/urfave/cli/v2"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/yarn"
)

// masterCommand is what an application of YARN begins with: `submit --on yarn` has it started in the first container.
func (a *app) masterCommand() *urfave.Command {
	return a.newCommand(&page{
		name: yarnbackend.MasterCommand, summary: "the master of an application of YARN", hidden: true,
		examples: []string{"maniple yarn-master\tin a container of YARN"},
		action:   (*call).yarnMaster,
	})
}

// yarnMaster runs the job's command on the application's containers, and tells YARN how it ended.
func (c *call) yarnMaster() error {
	m, err := yarnbackend.Enter(c.getenv)
	if err != nil {
		return &Fault{Name: "CONFIG", What: "yarn-master", Why: plain(err), Do: doReport, Err: err}
	}
	c.master, c.app.environ = m, m.Environ(c.environ)
	c.page.name = "run" // in what it says: the user knows no other command
	err = c.runJob(m.Job)
	f := &Fault{}
	text := ""
	if err != nil {
		if refused := (*yarn.Error)(nil); errors.As(err, &refused) {
			err = yarnFault("run", err)
		}
		f = faultOf("run", err)
		if !f.silent {
			text = f.Error()
			fmt.Fprint(c.stderr, f.line())
		}
	}
	if ferr := m.Finish(f.exitCode(), text); ferr != nil {
		c.say("YARN was not told of the end: %v", ferr)
		return errors.Join(err, ferr)
	}
	return nil
}

// runJob is `maniple run` with the job's flags.
func (c *call) runJob(j yarnbackend.Job) error {
	s, err := spec.Parse(func(name string) (string, string, bool) {
		v, ok := j.Flags[name]
		return v, "--" + name, ok
	})
	if err != nil {
		return err
	}
	s.Command = j.Command
	return c.runSpec(s, runOptions{})
}

// application is the cluster of the application that this process is the master of.
func (c *call) application() boot.Options {
	name := c.master.Attempt.Application.String()
	o := boot.Options{
		Backend: c.master, Name: name, Job: name, Epoch: uint32(c.master.Attempt.Number - 1), Embedded: true, Base: c.master.Folder,
		Cluster: c.master.Job.Cluster, Secret: c.master.Job.Secret, JoinTimeout: yarnbackend.Unbounded, Progress: c.stderr, Getenv: c.getenv,
	}
	if c.master.Job.MinNodes < c.master.Job.Nodes {
		o.MinNodes = c.master.Job.MinNodes
	}
	return o
}
