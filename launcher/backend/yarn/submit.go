package yarn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// What a container runs: our program by the name of its link there, and the two commands that only containers are
// started with.
const (
	program       = "maniple"
	MasterCommand = "yarn-master"
	NodeCommand   = "yarn-node"

	// Type is the type of our applications: `yarn application -list -appTypes maniple` shows them.
	Type = "maniple"
)

// Application is an application to be.
type Application struct {
	Job      Job
	Binary   string            // our program, a file here
	Files    map[string]string // files here by their names in a container's folder
	Archives map[string]string // likewise; YARN unpacks them
	Queue    string            // "": default
	Priority int32
	Tags     []string
	Master   yarn.Resource // of the master's container
	Lifetime time.Duration // 0: the queue's
	Outside  bool          // the process that submits is the master: see Attend

	ID yarn.ApplicationID // from Check on

	leasts map[string]least // by kinds of resources; none: nothing is rounded up
	leaves []string         // queues that there are, if its own is none of them
	token  *yarn.Token      // for HDFS
}

// What a process of ours reserves of its address space, of which it touches little, and how many there are: the master has
// the command, keeper, head and agent, a node the last and a keeper. A program of the user's counts half as much.
const (
	reservedMB      = 2048
	masterProcesses = 4
	nodeProcesses   = 2
)

// addressRatio is how many bytes of address space a container may have for each of its memory; false: NodeManagers don't count them. Those of Hadoop 3.3 and later count
// no memory where control groups are to bound it, which is their default whether there are any or not; earlier ones know nothing of that, so the site has to say it.
func addressRatio(c *conf.Conf) (ratio float64, counted bool) {
	ratio, err := strconv.ParseFloat(c.Get("yarn.nodemanager.vmem-pmem-ratio"), 64)
	if err != nil || ratio <= 0 {
		ratio = 2.1
	}
	const enforced = "yarn.nodemanager.resource.memory.enforced"
	grouped := c.Source(enforced) != "" && c.Bool(enforced, false) && !c.Bool("yarn.nodemanager.elastic-memory-control.enabled", false)
	return ratio, c.Bool("yarn.nodemanager.vmem-check-enabled", true) && !grouped
}

// AddressSpace makes the containers so large that NodeManagers which count address space (Hadoop's default) end none for
// what is only reserved. It tells whether any had to grow.
func (a *Application) AddressSpace(c *conf.Conf) (grown bool) {
	ratio, counted := addressRatio(c)
	if !counted {
		return false
	}
	for _, k := range []struct {
		size      *yarn.Resource
		processes int
	}{{&a.Master, 2 * masterProcesses}, {&a.Job.Size, 2*nodeProcesses + int(a.Job.Size.VCores)}} {
		if need := int64(float64(k.processes*reservedMB/2)/ratio) + 1; k.size.MemoryMB < need {
			k.size.MemoryMB, grown = need, true
		}
	}
	return grown
}

// minPatience is for how long a master tries to reach a ResourceManager at least: a site's setting is for clients, too, which may be told sooner.
const minPatience = 10 * time.Minute

// least is the setting to a multiple of which YARN rounds up what each container has of a kind.
type least struct {
	key   string
	value int64
	told  bool // by a file, and not by Hadoop's default alone
}

// Configure notes what the master wants to know of the cluster: where masters register, after what time of silence YARN may take one for dead,
// by which proxies its page is seen, and whether by user alone; and to what YARN rounds up.
func (a *Application) Configure(c *conf.Conf, user string) error {
	all, err := c.ResourceManagers()
	if err != nil {
		return err
	}
	for _, m := range all {
		a.Job.Schedulers = append(a.Job.Schedulers, m.Scheduler)
	}
	if a.Job.Proxies, err = c.WebProxies(); err != nil {
		return err
	}
	if c.Secure() || c.Bool("yarn.acl.enable", false) {
		a.Job.Owner = user
	}
	// As long as Hadoop's own masters try, and no shorter than YARN waits for one.
	wait, err := c.Duration("yarn.resourcemanager.connect.max-wait.ms", time.Millisecond, 0)
	if err != nil {
		return err
	}
	if a.Job.Patience = max(wait, minPatience); wait < 0 { // -1: for ever
		a.Job.Patience = math.MaxInt64
	}
	a.Job.Trust = maxTrust
	if expiry, err := c.Duration("yarn.am.liveness-monitor.expiry-interval-ms", time.Millisecond, 0); err == nil && expiry > 0 {
		a.Job.Trust = min(a.Job.Trust, expiry/4)
	}
	a.leasts = map[string]least{}
	for kind, key := range map[string]string{"memory-mb": "yarn.scheduler.minimum-allocation-mb", "vcores": "yarn.scheduler.minimum-allocation-vcores"} {
		n, err := c.Int(key, 0)
		if err != nil {
			return err
		}
		a.leasts[kind] = least{key, n, c.Source(key) != ""}
	}
	return nil
}

// InfeasibleError is what no amount of waiting grants.
type InfeasibleError struct{ Why, Do string }

func (e *InfeasibleError) Error() string { return "yarn: " + e.Why + "; " + e.Do }

// UnknownError is a name (of a queue, or of one of several resources) that the cluster does not know.
type UnknownError struct {
	What, Name string
	Known      []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("yarn: %q is none of this cluster's %s; there are %s", e.Name, e.What+"s", strings.Join(e.Known, ", "))
}

// Check asks the cluster for an ID, and whether the application can ever run: a kind of resource that is not counted, a
// container larger than any and a gang larger than its queue would wait for ever, or be ignored. What no client can know of that is the Job's Doubt.
func (a *Application) Check(ctx context.Context, c *yarn.Client) error {
	a.Job.Doubt = ""
	root, err := c.Queue(ctx, "root")
	if err != nil {
		return err
	}
	var q queue
	q, a.leaves = findQueue(root, a.queue())
	types, err := c.ResourceTypes(ctx)
	if err != nil {
		return err
	}
	var known []string
	for _, t := range types {
		known = append(known, t.Name)
	}
	for _, o := range a.Job.Size.Others {
		if !slices.Contains(known, o.Name) {
			return &UnknownError{"resource", o.Name, known}
		}
	}
	n, err := c.NewApplication(ctx)
	if err != nil {
		return err
	}
	a.ID = n.ID
	for _, kind := range known {
		if need, most := a.Job.Size.Of(kind), n.Max.Of(kind); need > most && n.Max.MemoryMB > 0 {
			return &InfeasibleError{fmt.Sprintf("a node needs %d of %s, and the largest container has %d", need, kind, most), "ask for less on each node, or for more nodes"}
		}
	}
	nodes, err := c.Nodes(ctx, yarn.NodeRunning)
	if err != nil {
		return err
	}
	if q.fair {
		a.leasts = nil // it rounds in other steps
	}
	label := a.Job.Label
	if label == "" {
		label = q.label
	}
	for _, kind := range known {
		all := int64(0)
		for _, node := range nodes {
			if label == "" || slices.Contains(node.Labels, label) {
				all += node.Capability.Of(kind)
			}
		}
		// The share of a queue is that of the nodes without a label.
		share := q.share
		if label != "" {
			share = 1
		}
		most := int64(float64(all) * share)
		if a.needs(kind, n.Max, true) <= most {
			continue
		}
		no := a.tooLarge(kind, n.Max, most, all)
		switch {
		// Hadoop's default calculator counts memory alone. Where there is a third kind the CapacityScheduler does not take that one.
		case kind == "vcores" && len(known) == 2 && !q.fair:
			a.doubt(no, "its scheduler counts cores (DominantResourceCalculator)")
		case a.leasts[kind].told || a.needs(kind, n.Max, false) > most:
			return no
		default:
			a.doubt(no, "the ResourceManager has no other value")
		}
	}
	return nil
}

// needs is how much of a kind the smallest gang that starts has with its master, rounded as YARN does it, up to the largest container that there is.
func (a *Application) needs(kind string, largest yarn.Resource, rounded bool) (all int64) {
	add := func(count int, size yarn.Resource) {
		n := size.Of(kind)
		if to := a.leasts[kind].value; rounded && to > 0 && n%to != 0 {
			n = max(n, min(n+to-n%to, largest.Of(kind)))
		}
		all += int64(count) * n
	}
	add(a.Job.MinNodes, a.Job.Size)
	if !a.Outside { // which has no container
		add(1, a.Master)
	}
	return all
}

// doubt notes that an application waits for ever if something is so that no client is told.
func (a *Application) doubt(no *InfeasibleError, ifSo string) {
	if a.Job.Doubt != "" {
		a.Job.Doubt += "; "
	}
	a.Job.Doubt += no.Why + ", so that they wait for ever if " + ifSo
}

// tooLarge says that a queue never has what is needed of a kind.
func (a *Application) tooLarge(kind string, largest yarn.Resource, most, all int64) *InfeasibleError {
	who, why := "nodes and the master", ""
	if a.Outside {
		who = "nodes"
	}
	need, to := a.needs(kind, largest, true), a.leasts[kind]
	if need > a.needs(kind, largest, false) {
		why = fmt.Sprintf(", since YARN rounds each up to a multiple of %d (%s", to.value, to.key)
		if !to.told {
			why += ", which no file here sets: that is Hadoop's default"
		}
		why += ")"
	}
	return &InfeasibleError{fmt.Sprintf("%d %s need %d of %s%s, and queue %s never has more than %d of the cluster's %d", a.Job.MinNodes, who, need, kind, why, a.queue(), most, all), "ask for less, or for another --queue"}
}

func (a *Application) queue() string {
	if a.Queue == "" {
		return "default"
	}
	return a.Queue
}

// queue is what is known of a queue before anything is submitted to it.
type queue struct {
	share float64 // the most of the cluster that it ever has; 1: that is not known
	label string  // of the nodes that its applications get, if they name none
	fair  bool    // a FairScheduler's
}

// findQueue finds a queue of the CapacityScheduler, whose limit is a part of its parent's, up to the root. Of one that is not
// there it gives all that are: the scheduler may still make it. What a FairScheduler says of its queues' limits depends on what
// runs; its queues have their path for a name, and nothing is known of them.
func findQueue(root yarn.Queue, name string) (q queue, leaves []string) {
	q, found, fair := queue{share: 1}, false, false
	var walk func(at yarn.Queue, path string, share float64)
	walk = func(at yarn.Queue, path string, share float64) {
		share *= float64(at.MaxCapacity)
		fair = fair || at.Scheduler == "FairScheduler" || strings.HasPrefix(at.Name, "root.")
		if len(at.Children) == 0 {
			leaves = append(leaves, at.Name)
			if at.Name == name || path == name {
				q, found = queue{share: share, label: at.DefaultLabel}, true
			}
		}
		for _, child := range at.Children {
			walk(child, path+"."+child.Name, share)
		}
	}
	walk(root, "root", 1)
	slices.Sort(leaves)
	switch {
	case fair || !found:
		return queue{share: 1, fair: fair}, leaves
	case !(q.share > 0 && q.share < 1): // and no number
		q.share = 1
	}
	return q, nil
}

// attemptValidity is how long a master has to live for its end to be no reason not to start another one.
const attemptValidity = 10 * time.Minute

// Bring brings the files into the store.
func (a *Application) Bring(ctx context.Context, store *Store) error {
	a.Job.Files = map[string]yarn.LocalResource{}
	put := func(name, file string, kind yarn.FileType) error {
		r, err := store.Put(ctx, file)
		r.Type = kind
		a.Job.Files[name] = r
		return err
	}
	if err := put(program, a.Binary, yarn.File); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Files)) {
		if err := put(name, a.Files[name], yarn.File); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Archives)) {
		if err := put(name, a.Archives[name], yarn.Archive); err != nil {
			return err
		}
	}
	a.token = store.token
	return nil
}

// Submit submits the application, under the ID that it has from Check, with the files that Bring brought. When the error is none
// of Refused's the application may be there all the same.
func (a *Application) Submit(ctx context.Context, c *yarn.Client) (yarn.Report, error) {
	a.Job.Version = jobVersion
	var carried yarn.Credentials
	if a.token != nil {
		carried.Tokens = map[string]yarn.Token{a.token.Service: *a.token}
	}
	tokens, err := pack(carried, jobSecret, a.Job)
	if err != nil {
		return yarn.Report{}, err
	}
	s := yarn.Submission{
		ID: a.ID, Name: a.Job.Name, Queue: a.Queue, Priority: a.Priority, Type: Type, Tags: a.Tags, Resource: a.Master, NodeLabel: a.Job.Label,
		KeepContainers: true, AttemptValidity: attemptValidity, Lifetime: a.Lifetime,
		Launch: yarn.LaunchContext{
			Files: a.Job.Files, Tokens: tokens,
			Commands: []string{"exec ./" + program + " " + MasterCommand + " 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"},
		},
	}
	if a.Outside {
		s.Unmanaged, s.KeepContainers, s.AttemptValidity, s.MaxAttempts, s.Launch = true, false, 0, 1, yarn.LaunchContext{}
	}
	r, err := c.Submit(ctx, s)
	if errors.Is(err, yarn.ErrRefused) && a.leaves != nil && strings.Contains(err.Error(), "unknown queue") {
		err = fmt.Errorf("%w: %w", &UnknownError{"queue", a.queue(), a.leaves}, err)
	}
	return r, err
}

// diagnostics is what YARN keeps of an end; ExitCode reads it.
func diagnostics(code int, text string) string {
	out := fmt.Sprintf("exit code %d", code)
	if text != "" {
		out += "; " + text
	}
	return out
}

// exitPattern is what diagnostics begins with. A ResourceManager that was started anew while the application ran says so before it.
var exitPattern = regexp.MustCompile(`^(?:Attempt recovered after RM restart\s*)*exit code ([0-9]+)\b`)

// ExitCode is the exit code of an application that is over: its command's, or one for how YARN ended it.
func ExitCode(r yarn.Report) int {
	if m := exitPattern.FindStringSubmatch(r.Diagnostics); m != nil && r.State == yarn.StateFinished {
		if code, err := strconv.Atoi(m[1]); err == nil {
			return code
		}
	}
	switch {
	case r.Final == yarn.Succeeded:
		return 0
	case r.State == yarn.StateKilled:
		return 143
	}
	return 1
}

// javaFrame is a line of a Java stack. NodeManagers keep the end of a long text, which then begins in the middle of one.
var javaFrame = regexp.MustCompile(`^at \S+\(|\.java:[0-9]+\)$|^\.\.\. [0-9]+ more$`)

// firstLine is the first line of a text that says something: of a stack what it is the stack of.
func firstLine(text string) (first string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !javaFrame.MatchString(line) {
			return line
		}
		if first == "" {
			first = line
		}
	}
	return first
}

// Refused tells whether YARN itself said no, so that nothing of what was submitted is there.
func Refused(err error) bool {
	return errors.Is(err, yarn.ErrRefused) || errors.Is(err, yarn.ErrNotYours) || errors.Is(err, yarn.ErrCredentials)
}
