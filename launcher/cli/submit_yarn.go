package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/yarn"
)

// yarnFlag is a flag of submit that only YARN knows.
type yarnFlag struct{ name, arg, help string }

var yarnFlags = []yarnFlag{
	{"queue", "QUEUE", "the queue (default)"},
	{"files", "FILE[#NAME],...", "files that every container finds in its folder, hdfs:// too"},
	{"archives", "FILE[#NAME],...", "archives that are unpacked there, such as env.tar.gz#env"},
	{"node-label", "LABEL", "only on nodes with this label"},
	{"am-memory", "SIZE", "memory of the master's container (1G)"},
	{"am-cores", "N", "cores of the master's container (1)"},
	{"gang-wait", "SECONDS", "how long granted nodes are held for the rest (120)"},
	{"priority", "N", "within the queue; higher comes first"},
	{"tags", "TAG,...", "tags of the application"},
	{"user", "NAME", "whose it is, on a cluster without Kerberos"},
	{"principal", "NAME", "who logs in by --keytab, on one with Kerberos (who ran kinit)"},
	{"keytab", "FILE", "the keytab that it has its key in"},
	{"client", "", "this command is the master: ranks print here, a driver runs here"},
	{"object-store-memory", "SIZE", "memory for values on each node, of --mem"},
	{"object-spilling-directory", "DIR,...", "for values when that is full, as of run (the containers' folders)"},
	{"object-spilling-limit", "SIZE", "bytes that each node may have there"},
	{"fabric", "NAME", "what large values go by, as of run"},
	{"no-same-host-handover", "", "containers of one machine send values by the network, too"},
	{"clear-values", "NETWORK,...", "values go unencrypted within these, as of run"},
}

// Defaults of what a node's container has, and of the rest.
const (
	yarnNodeMemory = 1 << 30   // for the programs, unless --mem says
	yarnOverhead   = 384 << 20 // at least, or a tenth: for our own processes, as YARN's memory check counts them
	yarnMaster     = 1 << 30
	yarnGangWait   = 120 * time.Second
	yarnGrace      = 30 * time.Second // as of run
	yarnEnding     = 30 * time.Second // for the nodes to end, and YARN to be told
	minGangWait    = time.Second

	yarnDriverCores = 2 // of a node without -c, where a driver has tasks
)

// onYARN tells whether submit's arguments, its variable or a configuration file ask for YARN.
func (c *call) onYARN(args []string) (bool, error) {
	where, origin, ok := c.flag("on")
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if v, is := strings.CutPrefix(arg, "--on="); is {
			where, origin, ok = v, "--on", true
		} else if arg == "--on" && i+1 < len(args) {
			where, origin, ok = args[i+1], "--on", true
		}
	}
	if ok && where != "slurm" && where != "yarn" {
		return false, usage(origin, fmt.Sprintf("%q is no place to submit to", where), "write slurm or yarn")
	}
	return where == "yarn", nil
}

// yarnOptions are the flags that submit knows on YARN, besides its own.
func yarnOptions() (list []slurm.Option) {
	own := shapes(submitFlagSet())
	for _, f := range spec.Flags {
		if _, ours := own[f.Name]; ours || slices.Contains(notOnYARN, f.Name) {
			continue
		}
		o := slurm.Option{Name: f.Name, Short: f.Short, Value: slurm.NeedsValue}
		if f.Arg == "" {
			o.Value = slurm.NoValue
		}
		list = append(list, o)
	}
	for _, f := range yarnFlags {
		o := slurm.Option{Name: f.name, Value: slurm.NeedsValue}
		if f.arg == "" {
			o.Value = slurm.NoValue
		}
		list = append(list, o)
	}
	return list
}

// notOnYARN are flags of a run that mean nothing there.
var notOnYARN = []string{"immediate", "input", "constraint", "open-mode", "nodelist", "exclude"}

// ofTasks are flags that say what nodes have, of which a driver's own gang takes nothing.
var ofTasks = []string{"nodes", "cpus-per-task", "gpus", "gpus-per-node", "mem", "mem-per-cpu", "gres", "resources", "strategy"}

// submitYARN submits an application.
func (c *call) submitYARN(args []string) error {
	options := yarnOptions()
	r, err := parseSubmit(args, options, c.getenv)
	if err != nil {
		return err
	}
	c.setOwn(r)
	c.asJSON = r.own["json"] != ""
	if len(r.groups) > 1 {
		return usage("submit", "an application of YARN has one component", "leave the `:` away")
	}
	if err := known(r, options); err != nil {
		return err
	}
	app, err := c.yarnApplication(r)
	if err != nil {
		return err
	}
	if r.own["dry-run"] != "" {
		return c.tellApplication(app)
	}
	client, err := c.yarnSite(as{lastValue(r, "user"), lastValue(r, "principal"), lastValue(r, "keytab")})
	if err != nil {
		return err
	}
	defer client.Close()
	app.Job.Protection = client.protection
	if app.Outside && client.conf.Secure() {
		return withKerberos()
	}
	if err := app.Configure(client.conf, client.user); err != nil {
		return yarnFault("submit", err)
	}
	if app.AddressSpace(client.conf) {
		c.say("submit: NodeManagers count address space (yarn.nodemanager.vmem-check-enabled), so the containers are larger: %s for the master, %s for a node", app.Master, app.Job.Size)
	}
	if err := app.Check(c.ctx, client.Client); err != nil {
		return yarnFault("submit", err)
	}
	if why := app.Job.Doubt; why != "" {
		c.say("submit: %s", why)
	}
	store, err := yarnbackend.OpenStore(c.ctx, client.conf, client.user, client.login, client.carried, func(err error) {
		c.say("submit: HDFS has no answer yet, and is asked again for a minute: %s", plain(err))
	})
	if err != nil {
		return yarnFault("submit", err)
	}
	defer store.Close()
	if err := app.Bring(c.ctx, store); err != nil {
		return yarnFault("submit", err)
	}
	if app.Outside {
		return c.runOutside(app, client)
	}
	report, err := c.submitNoted(app, client.Client)
	if err != nil {
		return err
	}
	if err := c.tellSubmittedApplication(r, app, report); err != nil {
		return err
	}
	if r.own["wait"] == "" && r.own["follow"] == "" {
		return nil
	}
	return c.waitApplication(client, report.ID, r.own["follow"] != "", r.own["json"] != "", app.Job.Command)
}

// submitNoted submits an application of which this machine has a note already: whatever becomes of YARN's answer, `status`,
// `logs` and `cancel` find it.
func (c *call) submitNoted(app *yarnbackend.Application, client *yarn.Client) (yarn.Report, error) {
	id := app.ID.String()
	if err := boot.Note(c.getenv, id, app.Job.Cluster, app.Job.Secret); err != nil {
		c.say("submit: `maniple status` and `logs` will not find %s from here: %s", id, plain(err))
	}
	r, err := app.Submit(c.ctx, client)
	switch {
	case err == nil:
		return r, nil
	case yarnbackend.Refused(err):
		boot.Forget(c.getenv, id)
		return r, yarnFault("submit", err)
	}
	c.say("submit: %s may have been submitted all the same: `maniple explain %s` says whether, `maniple cancel %s` ends it", id, id, id)
	return r, yarnFault("submit", err)
}

// known refuses a flag that nothing on YARN reads: Slurm's pass to sbatch, and here there is nobody to pass them to.
func known(r *request, options []slurm.Option) error {
	for _, f := range r.groups[0] {
		if !slices.ContainsFunc(options, func(o slurm.Option) bool { return o.Name == f.name }) {
			return usage("submit", "no flag --"+f.name+" on YARN", "`maniple submit --help` lists what there is")
		}
	}
	for _, name := range []string{"sbatch", "slurm-env"} {
		if r.own[name] != "" {
			return usage("--"+name, "it is Slurm's", "leave it away with --on yarn")
		}
	}
	return nil
}

func lastValue(r *request, name string) string {
	v, _ := r.get(name)
	return v
}

// yarnApplication makes the application of a command line.
func (c *call) yarnApplication(r *request) (*yarnbackend.Application, error) {
	if len(r.command) == 0 || r.command[0] == "" {
		return nil, usage("submit", "no program is named", "write it after --, as `maniple submit --on yarn -N 2 -- python train.py`")
	}
	flags := map[string]string{}
	for _, f := range r.groups[0] {
		if !slices.ContainsFunc(yarnFlags, func(y yarnFlag) bool { return y.name == f.name }) {
			flags[f.name] = f.value
			if !f.set {
				flags[f.name] = "true"
			}
		}
	}
	for _, name := range []string{"max-restarts", "grace", "gpu-visibility", "bind"} {
		if v := r.own[name]; v != "" {
			flags[name] = v
		}
	}
	s, err := spec.Parse(func(name string) (string, string, bool) {
		v, ok := flags[name]
		return v, "--" + name, ok
	})
	if err != nil {
		return nil, err
	}
	for _, f := range []struct{ flag, path string }{{"--output", s.Output}, {"--error", s.Error}, {"--chdir", s.Chdir}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return nil, usage(f.flag, f.path+" would be in a container's folder, which goes with it", "give a path that all nodes see, or leave it away: `maniple logs` shows the output")
		}
	}
	shape, err := s.Shape(max(s.NodesMax, 1))
	if err != nil {
		return nil, err
	}
	secret, cluster := make([]byte, 32), make([]byte, 16)
	rand.Read(secret) // never fails: it ends the program instead
	rand.Read(cluster)
	app := &yarnbackend.Application{Queue: lastValue(r, "queue")}
	if s.Time > 0 { // the master ends the programs by then; YARN, which gives them no time to end, all of it some time after that
		grace := s.Grace
		if grace == 0 {
			grace = yarnGrace
		}
		app.Lifetime = s.Time + grace + yarnEnding
	}
	app.Job = yarnbackend.Job{
		Cluster: hex.EncodeToString(cluster), Secret: secret, Name: s.Name, Command: r.command, Flags: flags, Label: lastValue(r, "node-label"),
		Nodes: len(shape.Bundles), MinNodes: len(shape.Bundles), Wait: yarnGangWait,
	}
	if s.NodesMin > 0 && s.NodesMin < app.Job.Nodes {
		app.Job.MinNodes = s.NodesMin
	}
	if app.Job.Name == "" {
		app.Job.Name = filepath.Base(nameOfProgram(r.command))
	}
	for _, res := range s.Resources {
		if res.Amount != float64(int64(res.Amount)) {
			return nil, usage("--resources", fmt.Sprintf("YARN counts whole ones, and %s=%v is none", res.Name, res.Amount), "ask for the next whole number")
		}
	}
	sizeOf(app, shape)
	if _, outside := r.get("client"); outside && shape.Driver && s.Output+s.Error != "" {
		return nil, usage("--output", "with --client a driver prints where it was written", "redirect it")
	}
	if shape.Driver { // it takes one core of n1, and the rest of what was asked for is its tasks'
		if _, ok := flags["cpus-per-task"]; !ok {
			app.Job.Size.VCores = yarnDriverCores
		}
		for _, name := range ofTasks {
			delete(flags, name)
		}
	}
	// The environment of the gateway says little about a node: only what is named goes along.
	if s.Export != "" {
		named := *s
		named.Export = strings.Join(slices.DeleteFunc(strings.Split(s.Export, ","), func(item string) bool { return item == "ALL" }), ",")
		if named.Export != "" {
			app.Job.Env = named.Environ(c.environ)
		}
		delete(flags, "export")
	}
	if err := c.yarnRest(r, app); err != nil {
		return nil, err
	}
	return app, c.yarnFiles(r, app)
}

// sizeOf makes the size of a node's container of what the largest bundle needs.
func sizeOf(app *yarnbackend.Application, shape *spec.Shape) {
	job := &app.Job
	job.Memory, job.Size.VCores = 0, 1
	for _, b := range shape.Bundles {
		job.Size.VCores = max(job.Size.VCores, int32(b.CPUs))
		job.Memory = max(job.Memory, b.Memory)
		if b.GPUs > 0 {
			job.Size = job.Size.With(yarn.GPU, max(int64(b.GPUs), job.Size.Of(yarn.GPU)))
		}
		for _, res := range b.Resources {
			job.Size = job.Size.With(res.Name, max(int64(res.Amount), job.Size.Of(res.Name)))
		}
	}
	if job.Memory == 0 {
		job.Memory = yarnNodeMemory
	}
	job.Size.MemoryMB = (job.Memory + max(job.Memory/10, yarnOverhead)) >> 20
}

// yarnRest reads the flags that only YARN has.
func (c *call) yarnRest(r *request, app *yarnbackend.Application) (err error) {
	_, app.Outside = r.get("client")
	memory := int64(yarnMaster)
	if v, ok := r.get("am-memory"); ok {
		if memory, err = slurm.ParseMemory(v); err != nil || memory < 256<<20 {
			return usage("--am-memory", fmt.Sprintf("%q is no size from 256M on", v), "write for instance 1G")
		}
	}
	cores := 1
	if v, ok := r.get("am-cores"); ok {
		if cores, err = strconv.Atoi(v); err != nil || cores < 1 || cores > 1<<16 {
			return usage("--am-cores", fmt.Sprintf("%q is no number of cores", v), "write for instance 1")
		}
	}
	app.Job.Room = memory / 4
	app.Master = yarn.Resource{MemoryMB: memory >> 20, VCores: int32(cores)}
	if v, ok := r.get("gang-wait"); ok {
		if app.Job.Wait, ok = spec.ParseSeconds(v); !ok || app.Job.Wait < minGangWait || app.Job.Wait > 9*time.Minute {
			return usage("--gang-wait", fmt.Sprintf("%q is no time from 1 second to 9 minutes", v), "YARN itself takes back after 10 minutes what is not used")
		}
	}
	if v, ok := r.get("priority"); ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return usage("--priority", fmt.Sprintf("%q is no number", v), "write for instance 10")
		}
		app.Priority = int32(n)
	}
	if v, ok := r.get("tags"); ok {
		app.Tags = strings.Split(strings.ToLower(v), ",")
	}
	tags, err := oozieTags(c.getenv)
	if err != nil {
		return err
	}
	app.Tags = append(app.Tags, tags...)
	job := &app.Job
	flag := func(name string) (string, string, bool) {
		v, ok := r.get(name)
		return v, "--" + name, ok
	}
	if job.Store, job.Spill, job.SpillLimit, err = values(flag); err != nil {
		return err
	}
	if job.Fabric, err = fabricOf(flag); err != nil {
		return err
	}
	if job.Clear, err = clearOf(flag); err != nil {
		return err
	}
	_, job.NoHandover = r.get("no-same-host-handover")
	app.Binary, err = ourPath()
	return err
}

// yarnFiles collects what goes along: --files, --archives, and the program's own file where it is one of this folder.
func (c *call) yarnFiles(r *request, app *yarnbackend.Application) error {
	app.Files, app.Archives = map[string]string{}, map[string]string{}
	for _, flag := range []struct {
		name string
		to   map[string]string
	}{{"files", app.Files}, {"archives", app.Archives}} {
		v, ok := r.get(flag.name)
		if !ok {
			continue
		}
		for item := range strings.SplitSeq(v, ",") {
			file, name, named := strings.Cut(item, "#")
			if !named {
				name = filepath.Base(file)
			}
			if name == "" || name == "maniple" || strings.ContainsAny(name, "/ ") || app.Files[name] != "" || app.Archives[name] != "" {
				return usage("--"+flag.name, fmt.Sprintf("%q can't be the name of a file there, or is one twice", name), "write FILE#NAME with another name")
			}
			if yarnbackend.Far(file) {
				flag.to[name] = file
				continue
			}
			info, err := os.Stat(file)
			if err != nil {
				return &Fault{Name: "NOT_FOUND", What: "--" + flag.name, Why: err.Error(), Do: "give a file of this machine", Err: err}
			}
			if info.IsDir() {
				return usage("--"+flag.name, file+" is a folder", "pack it with tar, and give the archive to --archives")
			}
			flag.to[name] = file
		}
	}
	for _, name := range []string{r.command[0], scriptOf(r.command)} {
		clean := filepath.Clean(name)
		if name == "" || filepath.IsAbs(name) || !filepath.IsLocal(name) || name == r.command[0] && !strings.Contains(name, "/") {
			continue
		}
		first, _, _ := strings.Cut(clean, "/")
		if app.Archives[first] != "" || app.Files[clean] != "" {
			continue
		}
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) && r.own["no-check"] == "" {
			return &Fault{Name: "NOT_FOUND", What: "submit", Why: name + " does not exist", Do: "give a file of this folder, or --no-check if the nodes have it", Err: err}
		}
		if err == nil && info.Mode().IsRegular() {
			if first == "maniple" {
				return usage("submit", name+" has the name that Maniple's own program has in a container", "call it otherwise")
			}
			app.Files[clean] = name
		}
	}
	return nil
}

// tellApplication is --dry-run: what would be asked for.
func (c *call) tellApplication(app *yarnbackend.Application) error {
	files := append(sortedKeys(app.Files), sortedKeys(app.Archives)...)
	if c.asJSON {
		return c.json(struct {
			Version int           `json:"version"`
			Event   string        `json:"event"`
			Name    string        `json:"name"`
			Queue   string        `json:"queue,omitempty"`
			Nodes   int           `json:"nodes"`
			Node    yarn.Resource `json:"node"`
			Master  yarn.Resource `json:"master"`
			Files   []string      `json:"files"`
			Command []string      `json:"command"`
		}{1, "application", app.Job.Name, app.Queue, app.Job.Nodes, app.Job.Size, app.Master, append([]string{}, files...), app.Job.Command})
	}
	fmt.Fprintf(c.stdout, "application %s\nmaster      %s\nnodes       %d x %s\nfiles       %s\ncommand     %s\n",
		app.Job.Name, app.Master, app.Job.Nodes, app.Job.Size, dash(strings.Join(files, " ")), strings.Join(app.Job.Command, " "))
	return nil
}

// tellSubmittedApplication prints the application.
func (c *call) tellSubmittedApplication(r *request, app *yarnbackend.Application, report yarn.Report) error {
	switch {
	case r.own["json"] != "":
		return c.json(struct {
			Version int      `json:"version"`
			Event   string   `json:"event"`
			JobID   string   `json:"job_id"`
			Name    string   `json:"name"`
			Queue   string   `json:"queue"`
			Command []string `json:"command"`
		}{1, "submitted", report.ID.String(), app.Job.Name, report.Queue, app.Job.Command})
	case r.own["parsable"] != "":
		fmt.Fprintln(c.stdout, report.ID)
	default:
		fmt.Fprintf(c.stdout, "Submitted application %s\n", report.ID)
		c.say("submit: %d x %s in queue %s; `maniple logs -f %s` shows its output", app.Job.Nodes, app.Job.Size, report.Queue, report.ID)
	}
	return nil
}
