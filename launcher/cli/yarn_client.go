package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
)

// withKerberos refuses what Hadoop does not let anybody do.
func withKerberos() error {
	return &Fault{
		Name: "CONFIG", What: "--client", Why: "on a cluster with Kerberos Hadoop gives no token to a master that YARN did not start itself",
		Do: "leave --client away: the application's own master does the same in a container",
	}
}

// runOutside is `submit --client`: this process is the application's master. Its ranks print here, a driver runs here, and it ends with this command.
func (c *call) runOutside(app *yarnbackend.Application, client *site) error {
	ctx, sigs := watchSignals(c.ctx) // until YARN was told of the end: who is only killed leaves it to find out, in ten minutes
	defer sigs.stop()
	c.watched = watched{sigs, ctx}
	report, err := c.submitNoted(app, client.Client)
	if err != nil {
		return err
	}
	defer boot.Forget(c.getenv, app.ID.String())
	if c.asJSON {
		err = c.tellSubmittedApplication(&request{own: map[string]string{"json": "true"}}, app, report)
	} else {
		c.say("submit: %s: %d x %s in queue %s, and its master is here", report.ID, app.Job.Nodes, app.Job.Size, report.Queue)
	}
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp("", "maniple-yarn-")
	}
	if err == nil {
		defer os.RemoveAll(dir)
		c.master, err = app.Attend(ctx, client.Client, report, dir, func(why string) { c.say("submit: %s waits for YARN: %s", report.ID, why) })
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), announced)
		defer cancel()
		_ = client.Kill(ctx, app.ID, "its master could not start") // YARN finds out, in ten minutes
		if stopped := new(interrupted); errors.As(err, &stopped) {
			return &Fault{code: gang.Interrupt(stopped.sig).Code(), silent: true, Err: err}
		}
		return yarnFault("submit", err)
	}
	c.here = c.environ
	c.app.environ = append([]string{"PATH=" + plainPath}, app.Job.Env...) // the gateway's says little about a node
	err = c.runJob(app.Job)
	c.tellPatiently(sigs, err)
	c.master.Close()
	return err
}

// tellPatiently tells YARN of the end, which takes long where nobody answers there. Who does not want to wait for that says so twice: the first
// signal may have been meant for what ran until now.
func (c *call) tellPatiently(sigs *signals, err error) {
	told := make(chan error, 1)
	go func() { told <- c.tellYARN(err) }() // ends with the process
	interrupts := sigs.hand()
	for len(interrupts) > 0 { // meant for what ran
		<-interrupts
	}
	for asked := false; ; {
		select {
		case err := <-told:
			if err != nil {
				c.say("submit: YARN was not told of the end: %v", err)
			}
			return
		case i := <-interrupts:
			if i == gang.Resized {
				break
			}
			if asked {
				c.say("submit: YARN was not told of the end, and will find out by itself")
				return
			}
			asked = true
			c.say("submit: YARN is being told of the end; the same once more leaves that undone")
		}
	}
}

const (
	announced = 10 * time.Second // for YARN to be told of an end
	plainPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// driveHere runs a driver beside the master that is outside of YARN, as a program of this machine, on the application's nodes.
func (c *call) driveHere(sig *signals, ep *boot.Endpoint, s *spec.Spec) error {
	cmd := exec.Command(s.Command[0], s.Command[1:]...)
	cmd.Env = append(append(append([]string(nil), c.here...), c.master.Job.Env...), "MANIPLE_ADDRESS=unix:"+ep.Socket)
	cmd.Dir = s.Chdir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	if out, ok := c.stdout.(*output); ok { // itself, not a pipe to it
		cmd.Stdout = out.File
	}
	if err := cmd.Start(); err != nil {
		return &Fault{Name: "NOT_FOUND", What: "submit", Why: err.Error(), Do: "with --client a driver is a program of this machine", Err: err}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	grace := s.Grace
	if grace == 0 {
		grace = yarnGrace
	}
	var over, kill <-chan time.Time
	if s.Time > 0 {
		over = time.After(time.Until(c.master.Submitted.Add(s.Time)))
	}
	code := 0
	for signals := sig.hand(); ; {
		select {
		case err := <-ended:
			return c.endOfDriver(cmd, err, code)
		case <-over:
			reason := (&limits{spec: s, since: c.master.Submitted}).reason()
			c.say("%s", reason)
			c.master.Blame(reason)
			_ = cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs none
			code, kill = 143, time.After(grace)
		case <-kill:
			_ = cmd.Process.Kill()
		case i := <-signals:
			if i == gang.Interrupted && terminal(c.stdin) || i == gang.Quit && terminal(c.stdin) || i == gang.Resized {
				break // a terminal tells it itself
			}
			_ = cmd.Process.Signal(syscall.Signal(i))
		}
	}
}

// endOfDriver is a driver's exit code; code is the one that it has in any case, if not 0.
func (c *call) endOfDriver(cmd *exec.Cmd, err error, code int) error {
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		return err
	case code != 0:
		return exitOnly(code)
	}
	state := cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitOnly(128 + int(status.Signal()))
	}
	if state.ExitCode() != 0 {
		return exitOnly(state.ExitCode())
	}
	return nil
}
