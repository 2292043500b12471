package slurm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

// ErrOutside means that this process is in no Slurm job.
var ErrOutside = errors.New("not in a Slurm job")

// Backend starts keepers on the nodes of the allocation that this process is in: a batch script, or
// salloc's shell on a login node. The zero value works.
type Backend struct {
	Environ []string // nil: this process's
	Client  *exec.Client
}

// Name is "slurm".
func (*Backend) Name() string { return "slurm" }

// Job is the job that this process is in.
func (b *Backend) Job() (*slurm.Environment, error) {
	env, ok, err := slurm.Environ(b.getenv)
	if err == nil && !ok {
		err = fmt.Errorf("slurm: %w: SLURM_JOB_ID is not set; use salloc, sbatch or `maniple submit`", ErrOutside)
	}
	return env, err
}

func (b *Backend) environ() []string {
	if b.Environ != nil {
		return b.Environ
	}
	return os.Environ()
}

func (b *Backend) getenv(name string) string {
	value := ""
	for _, kv := range b.environ() {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

func (b *Backend) client() *exec.Client {
	if b.Client != nil {
		return b.Client
	}
	return &exec.Client{Environ: b.environ()}
}

// grace is how long programs have on a drain: not so long that Slurm's KILL, which comes this long after
// its TERM, finds the keepers still at it, and their directories stay behind.
func grace(killWait time.Duration) time.Duration {
	return min(30*time.Second, max(killWait-max(killWait/6, 2*time.Second), time.Second))
}

// Start starts the one step of the allocation, or one for each component of a heterogeneous job: srun can
// put a step over several components, but its standard input reaches only one of them. Request.Nodes may
// name some of the nodes; anything else about them is the keepers' to find out.
func (b *Backend) Start(ctx context.Context, req backend.Request) (backend.Session, error) {
	env, err := b.Job()
	if err != nil {
		return nil, err
	}
	steps, err := choose(env, req)
	if err != nil {
		return nil, err
	}
	binary := req.Binary
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("slurm: cannot find my own program: %w", err)
		}
	}
	doc := *req.Doc
	if len(doc.Expect) == 0 {
		for _, st := range steps {
			doc.Expect = append(doc.Expect, st.nodes...)
		}
	}
	if doc.Grace == 0 {
		doc.Grace = grace(b.client().KillWait())
	}
	line, err := json.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("slurm: boot document: %w", err)
	}
	var sessions []*session
	for i, st := range steps {
		st.binary, st.head = binary, "no"
		if req.Head && i == 0 {
			st.head = "auto"
		}
		s, err := b.startStep(ctx, env, st, append(line, '\n'), req)
		if err != nil {
			for _, s := range sessions {
				s.Stop(ctx)
			}
			return nil, err
		}
		sessions = append(sessions, s)
	}
	if len(sessions) == 1 {
		return sessions[0], nil
	}
	return newGroup(sessions), nil
}

// startStep starts one srun and the session that follows it.
func (b *Backend) startStep(ctx context.Context, env *slurm.Environment, st step, doc []byte, req backend.Request) (*session, error) {
	environ := req.Env
	if environ == nil {
		environ = b.environ()
	}
	var lost string
	st.gpus, lost = b.stepGPUs(ctx, env, st.nodes)
	s := &session{
		b: b, job: env, step: st, names: st.nodes, doc: doc, environ: append(slurm.StepEnv(environ), granted(environ)...), stderrTo: req.Stderr, clocked: st.het <= 0,
		events: make(chan backend.Event, 16), done: make(chan struct{}), over: make(chan struct{}), lost: map[string]bool{}, ended: map[string]bool{},
	}
	if err := s.launch(); err != nil {
		return nil, err
	}
	if lost != "" {
		s.events <- backend.Event{Kind: backend.KindWarning, Node: s.names[0], Reason: "gpus", Text: lost} // there is room
	}
	go s.run()
	return s, nil
}

// choose finds the nodes of the steps: one for each component, in Slurm's order.
func choose(env *slurm.Environment, req backend.Request) (steps []step, err error) {
	want := map[string]bool{}
	for _, n := range req.Nodes {
		if n.Name != "" {
			want[n.Name] = true
		}
	}
	components, first := [][]string{env.Nodes}, -1
	if env.Het != nil {
		components, first = nil, 0
		for _, c := range env.Het.Groups {
			components = append(components, c.Nodes)
		}
	}
	for i, nodes := range components {
		st := step{nodes: nodes, het: first + i}
		if len(want) > 0 {
			st.nodes = slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return !want[n] })
			st.picked = len(st.nodes) < len(nodes)
		}
		if len(st.nodes) > 0 {
			steps = append(steps, st)
		}
	}
	for _, n := range req.Nodes {
		if n.Name != "" && !slices.ContainsFunc(components, func(nodes []string) bool { return slices.Contains(nodes, n.Name) }) {
			return nil, fmt.Errorf("slurm: node %s is not in job %s, which has %s", n.Name, env.FullID(), slurm.FoldHosts(env.AllNodes()))
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("slurm: job %s has no nodes yet (SLURM_JOB_NODELIST is empty); wait until it runs", env.FullID())
	}
	return steps, nil
}

// granted is the job's memory for the keepers, which look for it under these names: under Slurm's own srun
// would take it for what the step asks for.
func granted(environ []string) (kept []string) {
	for _, kv := range environ {
		if strings.HasPrefix(kv, "SLURM_MEM_PER_NODE=") || strings.HasPrefix(kv, "SLURM_MEM_PER_CPU=") {
			kept = append(kept, device.GrantPrefix+kv)
		}
	}
	return kept
}

// srun prepares the command with its three streams. The session's ends are returned; closeChild closes
// the others once it runs.
func (s *session) srun() (cmd *osexec.Cmd, stdin, stdout, stderr *os.File, closeChild func(), err error) {
	var pipes [3][2]*os.File
	var spare []*os.File
	closeAll := func() {
		for _, p := range pipes {
			for _, f := range p {
				if f != nil {
					f.Close()
				}
			}
		}
		for _, f := range spare {
			f.Close()
		}
	}
	for i := range pipes {
		if pipes[i][0], pipes[i][1], err = os.Pipe(); err != nil {
			closeAll()
			return nil, nil, nil, nil, nil, fmt.Errorf("slurm: %w", err)
		}
	}
	argv := s.step.argv()
	path, err := lookPath("srun", s.b.getenv("PATH"))
	if err != nil {
		closeAll()
		return nil, nil, nil, nil, nil, err
	}
	cmd = osexec.Command(path, argv[1:]...)
	cmd.Args[0] = "srun"
	cmd.Env, cmd.Dir = s.environ, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pipes[0][0], pipes[1][1], pipes[2][1]
	// srun keeps a reader of its own output: after a Release nobody else reads it, and a step must not die
	// of SIGPIPE for a line that nobody wants. Opened anew, since handing on our own end would make it a
	// blocking one, which no Close wakes.
	for _, p := range pipes[1:] {
		f, err := reopen(p[0])
		if err != nil {
			closeAll()
			return nil, nil, nil, nil, nil, fmt.Errorf("slurm: %w", err)
		}
		spare = append(spare, f)
	}
	cmd.ExtraFiles = spare
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	closeChild = func() {
		for _, f := range []*os.File{pipes[0][0], pipes[1][1], pipes[2][1], spare[0], spare[1]} {
			f.Close()
		}
	}
	return cmd, pipes[0][1], pipes[1][0], pipes[2][0], closeChild, nil
}

// reopen opens a pipe's reading end once more.
func reopen(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var again *os.File
	cerr := raw.Control(func(fd uintptr) { again, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) })
	return again, errors.Join(err, cerr)
}

func lookPath(name, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); filepath.IsAbs(file) {
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}
	return "", &slurm.Error{Op: "start the step", Kind: slurm.ErrMissing, Text: name + " is not on the PATH", Do: "load the site's Slurm module in the job"}
}

// copyBinary puts the program on every node under a name of its own, with sbcast: one request.
func (s *session) copyBinary(ctx context.Context) error {
	var b [6]byte
	rand.Read(b[:])
	name := fmt.Sprintf("/tmp/maniple-%d-%d-%s.bin", os.Getuid(), s.job.JobID, hex.EncodeToString(b[:]))
	from := s.step.binary
	if err := s.b.client().Broadcast(ctx, from, name); err != nil {
		return fmt.Errorf("slurm: %s is not on every node, and cannot be sent there: %w; put it where all nodes see it", from, err)
	}
	s.step.binary, s.step.copied = name, true
	return nil
}
