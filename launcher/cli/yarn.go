package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/yarn"
)

var applicationPattern = regexp.MustCompile(`^application_[0-9]+_[0-9]+$`)

// isApplication tells whether s is written as an application of YARN is.
func isApplication(s string) bool { return applicationPattern.MatchString(s) }

// yarnFault gives an error of YARN its exit code.
func yarnFault(what string, err error) error {
	if errors.Is(err, context.Canceled) {
		return exitOnly(130)
	}
	f := &Fault{Name: "UNREACHABLE", What: what, Why: plain(err), Do: "`yarn application -list` and HADOOP_CONF_DIR say whether the cluster is there", Err: err}
	var unknown *yarnbackend.UnknownError
	var infeasible *yarnbackend.InfeasibleError
	var site *yarn.Error
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Name, f.Do = "REFUSED", "a folder of your own is needed on HDFS, /user/NAME as a rule: ask the site"
	case errors.As(err, &unknown):
		return usage("submit", fmt.Sprintf("this cluster has no %s %q", unknown.What, unknown.Name), "there are "+strings.Join(unknown.Known, ", "))
	case errors.As(err, &infeasible):
		f.Name, f.Why, f.Do = "INFEASIBLE", infeasible.Why, infeasible.Do
	case errors.As(err, &site):
		f.Why = "YARN: " + site.Text
		if site.Op == yarn.OpNameNode {
			f.Why = "HDFS: " + site.Text
		}
		if site.Do != "" {
			f.Do = site.Do
		}
		switch {
		case errors.Is(err, yarn.ErrRefused):
			f.Name = "INFEASIBLE"
		case errors.Is(err, yarn.ErrNotFound):
			f.Name, f.Do = "NOT_FOUND", "`yarn application -list -appStates ALL` shows what there is"
		case errors.Is(err, yarn.ErrCredentials), errors.Is(err, yarn.ErrNotYours):
			f.Name = "REFUSED"
		}
	}
	return f
}

// waiting is an application that cannot be reached yet, or no more.
type waiting struct{ report yarn.Report }

func (w *waiting) Error() string {
	text := fmt.Sprintf("%s is %s", w.report.ID, w.report.State)
	if d := oneLine(w.report.Diagnostics); d != "" {
		text += ": " + d
	}
	return text
}

// oneLine is a text of YARN's as one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// masterOf asks YARN where the master of an application is.
func (c *call) masterOf(ctx context.Context, client *site, name string) (address string, r yarn.Report, err error) {
	id, err := yarn.ParseApplicationID(name)
	if err != nil {
		return "", r, usage(c.page.name, plain(err), "`maniple status` lists yours")
	}
	if r, err = client.Report(ctx, id); err != nil {
		return "", r, yarnFault(c.page.name, err)
	}
	if r.State != yarn.StateRunning || r.Port <= 0 {
		return "", r, &waiting{r}
	}
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), r, nil
}

// notedTime is how long the note of an application stays of which YARN does not know: it is there before YARN is told.
const notedTime = time.Hour

// reachApplication connects to an application's head: YARN says where the master is, and the master where the head is.
func (c *call) reachApplication(ctx context.Context, ep *boot.Endpoint, to gang.Endpoint) (*gang.Client, error) {
	client, err := c.yarnSite(c.me())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	address, _, err := c.masterOf(ctx, client, ep.Name)
	var w *waiting
	if errors.As(err, &w) && w.report.State.Over() {
		ep.Remove()
		return nil, fmt.Errorf("%w: %w", err, boot.ErrNone)
	}
	if errors.Is(err, yarn.ErrNotFound) { // forgotten; or it is being submitted at this moment
		if time.Since(ep.Since) > notedTime {
			ep.Remove()
		}
		return nil, fmt.Errorf("%w: %w", err, boot.ErrNone)
	}
	if err != nil {
		return nil, err
	}
	if to.Addresses, _, err = ep.Access.Head(ctx, address); err != nil {
		return nil, err
	}
	return gang.Connect(ctx, to)
}

const watchInterval = 500 * time.Millisecond

// waitApplication waits for an application's end and gives its exit code. It goes on while no ResourceManager answers, as the application does.
func (c *call) waitApplication(client *site, id yarn.ApplicationID, follow, asJSON bool, command []string) error {
	ctx, sigs := watchSignals(c.ctx)
	defer sigs.stop()
	began := time.Now()
	var followed chan error
	if follow {
		followed = make(chan error, 1)
		go func() { // ends with the application's output, or with ctx
			var to io.Writer = c.stdout
			if asJSON {
				to = &records{to: c.stdout, messages: c.stderr, stream: "stdout"}
			}
			followed <- c.followBoth(ctx, client, id, to)
		}()
	}
	said := ""
	tell := func(r yarn.Report) {
		line := r.State.String()
		if d := oneLine(r.Diagnostics); d != "" && !r.State.Over() {
			line += ": " + d
		}
		if line != said && !r.State.Over() {
			said = line
			c.say("submit: %s is %s", id, line)
		}
	}
	r, err := client.watch.Watch(ctx, id, watchInterval, tell)
	for ctx.Err() == nil && (errors.Is(err, yarn.ErrUnreachable) || errors.Is(err, yarn.ErrTooSlow)) {
		if line := oneLine(err.Error()); line != said {
			said = line
			c.say("submit: %s goes on, and is waited for: %s", id, line)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchInterval):
			r, err = client.watch.Watch(ctx, id, watchInterval, tell)
		}
	}
	if ctx.Err() != nil {
		c.say("submit: %s goes on; `maniple cancel %s` ends it", id, id)
		return exitOf(ctx)
	}
	if err != nil {
		return yarnFault("submit", err)
	}
	cut := false
	if followed != nil {
		if err := <-followed; err != nil && ctx.Err() == nil {
			cut = true
			c.say("submit: %s; `yarn logs -applicationId %s` has all of it", plain(err), id)
		}
	}
	code := yarnbackend.ExitCode(r)
	if asJSON {
		if err := c.json(applicationEnd(r, code, cut, time.Since(began), command)); err != nil {
			return err
		}
	}
	if code != 0 {
		c.say("submit: %s: %s, %s", id, r.Final, oneLine(r.Diagnostics))
		if do := yarnbackend.TooSmall(r.Diagnostics); do != "" {
			c.say("submit: %s: %s", id, do)
		}
		return exitOnly(code)
	}
	return nil
}

// applicationEnd is the last line of stdout with --json, as that of a job of Slurm.
func applicationEnd(r yarn.Report, code int, cut bool, took time.Duration, command []string) any {
	return struct {
		Version int      `json:"version"`
		Event   string   `json:"event"`
		Name    string   `json:"name"`
		JobID   string   `json:"job_id"`
		State   string   `json:"state"`
		Code    int      `json:"code"`
		Reason  string   `json:"reason,omitempty"` // what YARN keeps of it
		Cut     bool     `json:"cut,omitempty"`    // not all of its output is above
		Seconds float64  `json:"seconds"`
		Command []string `json:"command"`
	}{1, "end", r.Name, r.ID.String(), r.Final.String(), code, oneLine(r.Diagnostics), cut, float64(took.Milliseconds()) / 1000, command}
}

// applicationLog is `maniple logs` of an application: its output, with --follow as it comes, and its messages.
func (c *call) applicationLog(name string) error {
	client, err := c.yarnSite(c.me())
	if err != nil {
		return err
	}
	defer client.Close()
	id, err := yarn.ParseApplicationID(name)
	if err != nil {
		return usage("logs", plain(err), "`maniple status` lists yours")
	}
	came := c.expects(client.managers())
	address, r, err := c.masterOf(c.ctx, client, name)
	came()
	var w *waiting
	if errors.As(err, &w) && w.report.State.Over() {
		return c.keptLog(client, w.report)
	}
	if err == nil && r.Unmanaged {
		c.say("logs: %s prints where `maniple submit --client` was written, and keeps nothing of it", name)
	}
	if c.on("follow") {
		ctx, sigs := watchSignals(c.ctx)
		defer sigs.stop()
		err := c.followBoth(ctx, client, id, c.stdout)
		var part *partError
		switch {
		case ctx.Err() != nil:
			return exitOf(ctx)
		case errors.As(err, &part):
			return &Fault{Name: "UNREACHABLE", What: "logs", Why: err.Error(), Do: "`yarn logs -applicationId " + name + "` shows what YARN keeps", Err: err}
		}
		return err
	}
	if err != nil {
		return err
	}
	ep, err := boot.Find(c.getenv, name)
	if err != nil {
		return err
	}
	for _, messages := range []bool{true, false} {
		var text bytes.Buffer
		if _, err := ep.Access.Log(c.ctx, address, messages, 0, nil, &text); err != nil {
			return err
		}
		to := c.stdout
		if messages {
			to = c.stderr
		}
		if _, err := to.Write(text.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// explainApplication says why an application waits or how it ended: YARN's word, and the head's while it runs.
func (c *call) explainApplication(name string) error {
	client, err := c.yarnSite(c.me())
	if err != nil {
		return err
	}
	defer client.Close()
	address, r, err := c.masterOf(c.ctx, client, name)
	var w *waiting
	if err != nil && !errors.As(err, &w) {
		return err
	}
	waits, do := "", yarnbackend.TooSmall(r.Diagnostics)
	if do == "" && r.State == yarn.StateRunning {
		do = yarnbackend.MasterBefore(c.ctx, client.Client, r)
	}
	ep, found := boot.Find(c.getenv, name)
	if err == nil && found == nil {
		_, waits, _ = ep.Access.Head(c.ctx, address) // YARN's word is enough where the master does not answer
	}
	if c.on("json") {
		return c.json(struct {
			Version     int    `json:"version"`
			Application string `json:"application"`
			Name        string `json:"name"`
			Queue       string `json:"queue"`
			State       string `json:"state"`
			Final       string `json:"final"`
			Why         string `json:"why"`
			Do          string `json:"do,omitempty"`
			Waits       string `json:"waits,omitempty"`
			URL         string `json:"url,omitempty"`
			Code        *int   `json:"code,omitempty"`
		}{1, name, r.Name, r.Queue, r.State.String(), r.Final.String(), oneLine(r.Diagnostics), do, waits, r.TrackingURL, codeOver(r)})
	}
	fmt.Fprintf(c.stdout, "%s (%s) in queue %s is %s\n", name, r.Name, r.Queue, r.State)
	if d := oneLine(r.Diagnostics); d != "" {
		fmt.Fprintf(c.stdout, "  YARN: %s\n", d)
	}
	if r.State.Over() {
		fmt.Fprintf(c.stdout, "  %s, exit code %d\n", r.Final, yarnbackend.ExitCode(r))
	}
	if do != "" {
		fmt.Fprintf(c.stdout, "  %s\n", do)
	}
	if waits != "" {
		fmt.Fprintf(c.stdout, "  it waits for nodes: %s\n", waits)
	}
	if r.State == yarn.StateRunning && strings.HasPrefix(r.TrackingURL, "http") { // else it is N/A
		fmt.Fprintf(c.stdout, "  its page: %s\n", r.TrackingURL)
	}
	if err == nil && found == nil {
		c.Context.Set("cluster", name)
		if err := c.explainHere(""); err != nil && !errors.Is(err, boot.ErrNone) { // it may end just now
			return err
		}
	}
	return nil
}

// codeOver is the exit code of what is over.
func codeOver(r yarn.Report) *int {
	if !r.State.Over() {
		return nil
	}
	code := yarnbackend.ExitCode(r)
	return &code
}

// cancelLimit is how long an application has to end by itself, once its programs have.
const cancelLimit = 10 * time.Second

// cancelPoll is between looks whether programs that were told to end have.
const cancelPoll = 200 * time.Millisecond

// ended waits until none of the gangs runs any more. How long they have, where the command does not say it, only their cluster's head knows.
func ended(ctx context.Context, gangs []id.Task, groups func(context.Context) (stateGroups, error)) error {
	for {
		all, err := groups(ctx)
		if err != nil {
			return err
		}
		runs := func(g stateGroup) bool {
			return g.Phase != "ended" && slices.ContainsFunc(gangs, func(t id.Task) bool { return t.String() == g.ID })
		}
		if !slices.ContainsFunc(all.Groups, runs) {
			return nil
		}
		if !pause(ctx, cancelPoll) {
			return context.Cause(ctx)
		}
	}
}

// cancelApplication ends an application: its programs get their grace, and what does not end by itself then is killed.
func (c *call) cancelApplication(name string, how gang.Cancel) error {
	client, err := c.yarnSite(c.me())
	if err != nil {
		return err
	}
	defer client.Close()
	id, err := yarn.ParseApplicationID(name)
	if err != nil {
		return usage("cancel", plain(err), "`maniple status` lists yours")
	}
	if ep, err := boot.Find(c.getenv, name); err == nil {
		if cluster, err := c.connect(c.ctx, ep); err == nil {
			defer cluster.Close()
			running, _, err := ask[stateGroups](c.ctx, c, cluster, "groups", "")
			targets, perr := pick(running.Groups, nil)
			if err == nil && perr == nil && len(targets) > 0 {
				for _, g := range targets {
					if err := cluster.Cancel(c.ctx, g, how); err != nil {
						return overWire("cancel", name+": ", err)
					}
				}
				if how.Mode == gang.CancelSignal {
					return nil
				}
				grace := time.Duration(how.Grace)
				if grace == 0 {
					grace = 30 * time.Second
				}
				began := time.Now()
				over := c.expects(fmt.Sprintf("the programs of %s to end: what time they have for that is the gang's --grace, if %s gives none", name, c.page.name))
				_ = ended(c.ctx, targets, func(ctx context.Context) (all stateGroups, err error) { // who can't be asked any more is over, or its master is
					all, _, err = ask[stateGroups](ctx, c, cluster, "groups", "")
					return all, err
				})
				over()
				ctx, cancel := context.WithTimeout(c.ctx, max(grace-time.Since(began), 0)+cancelLimit)
				defer cancel()
				if _, err := client.Watch(ctx, id, 200*time.Millisecond, nil); err == nil {
					return nil
				}
			}
		}
	}
	if how.Mode == gang.CancelSignal {
		return &Fault{Name: "NO_CLUSTER", What: "cancel", Why: name + " runs nothing that a signal could go to", Do: "leave --signal away to end it"}
	}
	if err := client.Kill(c.ctx, id, how.Reason); err != nil {
		return yarnFault("cancel", err)
	}
	return nil
}
