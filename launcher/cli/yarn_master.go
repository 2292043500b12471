package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/id"
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
	if err = m.Recover(c.ctx); err == nil {
		err = c.runJob(m.Job)
	}
	if f := endOf(err); !f.silent {
		fmt.Fprint(c.stderr, f.line())
	}
	told := c.tellYARN(err)
	if told != nil {
		c.say("YARN was not told of the end: %v", told)
		err = errors.Join(err, told)
	}
	m.Close()
	if told == nil {
		return nil // the exit code is YARN's to keep
	}
	return err
}

// endOf is how the command ended.
func endOf(err error) *Fault {
	if err == nil {
		return &Fault{silent: true}
	}
	if refused := (*yarn.Error)(nil); errors.As(err, &refused) {
		err = yarnFault("run", err)
	}
	return faultOf("run", err)
}

// tellYARN tells YARN of the command's end, the first time that it is called.
func (c *call) tellYARN(err error) error {
	f := endOf(err)
	if f.silent {
		return c.master.End(f.exitCode(), "")
	}
	return c.master.End(f.exitCode(), f.Error())
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

// show has the application's page show what its head says.
func (c *call) show(client *gang.Client) {
	c.master.Show(func(ctx context.Context) (s yarnbackend.Standing, err error) {
		groups, _, err := ask[stateGroups](ctx, c, client, "groups", "")
		if err != nil {
			return s, err
		}
		nodes, _, err := ask[stateNodes](ctx, c, client, "nodes", "")
		if err != nil {
			return s, err
		}
		why, _, err := ask[stateExplain](ctx, c, client, "explain", "")
		s.Gangs = yarnbackend.Table{Headings: strings.Fields(groupHeadings), Rows: groupRows(groups.Groups, true)}
		s.Nodes = yarnbackend.Table{Headings: append(strings.Fields(nodeHeadings), "WHY"), Rows: nodes.rows()}
		s.Explain = why.Explain.Text
		return s, err
	})
}

// ofMaster has the job's gang live on without this master, for the one after it; and stands for the gang of the one before it, where
// there is one.
func (c *call) ofMaster(ctx context.Context, client *gang.Client, g *gang.Spec, rio *gang.IO) (func(context.Context, *gang.Client, gang.Spec, gang.IO) (gang.End, error), error) {
	g.Detached = true
	if !c.master.Resumed() {
		return gang.Run, nil
	}
	reply, _, err := ask[stateGroups](ctx, c, client, "groups", "")
	if err != nil {
		return nil, err
	}
	for _, have := range reply.Groups {
		if !have.Lives || len(have.Argv) == 0 {
			continue
		}
		group, err := id.ParseTask(have.ID)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", have.ID, err)
		}
		rio.Append = true
		return func(ctx context.Context, c *gang.Client, s gang.Spec, rio gang.IO) (gang.End, error) {
			return gang.Resume(ctx, c, group, s, rio)
		}, nil
	}
	return gang.Run, nil // the master before this one did not get so far
}

// application is the cluster of the application that this process is the master of.
func (c *call) application() boot.Options {
	name := c.master.Attempt.Application.String()
	o := boot.Options{
		Backend: c.master, Name: name, Job: name, Epoch: c.master.Life, Embedded: true, Base: c.master.Folder,
		Cluster: c.master.Job.Cluster, Secret: c.master.Job.Secret, JoinTimeout: yarnbackend.Unbounded, Progress: c.stderr, Getenv: c.getenv,
		Store: c.master.Job.Store, Spill: c.master.Job.Spill, SpillLimit: c.master.Job.SpillLimit, NoHandover: c.master.Job.NoHandover, Clear: c.master.Job.Clear, Fabric: c.master.Job.Fabric,
	}
	if c.master.Job.MinNodes < c.master.Job.Nodes {
		o.MinNodes = c.master.Job.MinNodes
	}
	return o
}
