package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTime = 330 * time.Second // 300 for nodes to join, and the rest
	endTime   = 15 * time.Second
)

// Node is what a new cluster's node is said to have. Zero values: what this machine has.
type Node struct {
	CPUs      int
	GPUs      int
	Resources map[string]float64
	Labels    map[string]string
}

// Given names what of it was given.
func (n Node) Given() (out []string) {
	if n.CPUs != 0 {
		out = append(out, "CPUs")
	}
	if n.GPUs != 0 {
		out = append(out, "GPUs")
	}
	if len(n.Resources) > 0 {
		out = append(out, "Resources")
	}
	if len(n.Labels) > 0 {
		out = append(out, "Labels")
	}
	return out
}

// Guard is the command that brought a cluster up. It stays, as a shell, and ends the cluster when this process ends, in whatever way:
// it waits for the end of a pipe.
type Guard struct {
	cmd    *exec.Cmd
	pipe   io.WriteCloser
	out    *os.File
	shared bool // others find the cluster, too: it stays until none of them uses it
}

// newGuard starts the command. It has a session of its own: a terminal's Ctrl-C is not for it.
func newGuard(program string, args []string) (*Guard, error) {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		pipe.Close()
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		pipe.Close()
		out.Close()
		return nil, err
	}
	return &Guard{cmd: cmd, pipe: pipe, out: out}, nil
}

// said gives what the command says until the cluster is up, or it has failed.
func (g *Guard) said(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, func() { g.out.Close() }) // which ends the reading
	defer stop()
	text, err := io.ReadAll(g.out)
	g.out.Close()
	if ctx.Err() != nil {
		return string(text), ctx.Err()
	}
	return string(text), err
}

// End ends the cluster, and waits for it. One that others use as well ends after them, for which only who is patient waits.
func (g *Guard) End(patient bool) {
	g.pipe.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.cmd.Wait() // how `maniple down` ended is nobody's error: it did what could be done
	}()
	late := time.NewTimer(endTime)
	defer late.Stop()
	select {
	case <-done:
		return
	case <-late.C:
	}
	if g.shared && patient {
		fmt.Fprintln(os.Stderr, "maniple: the cluster that this program started is not down yet: other programs of the Slurm job may use it, and it stays for them")
		<-done
	}
}

// binary finds maniple: on PATH, else beside this program.
func binary() (string, error) {
	path, err := exec.LookPath("maniple")
	if err == nil {
		return filepath.Abs(path)
	}
	if self, e := os.Executable(); e == nil {
		beside := filepath.Join(filepath.Dir(self), "maniple")
		if info, e := os.Stat(beside); e == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return beside, nil
		}
	}
	return "", fmt.Errorf("rt: no cluster is up here, and none can be started: maniple is neither on PATH nor beside this program: install it, or start a cluster and set MANIPLE_ADDRESS: %w", err)
}

// Start brings up a cluster and gives the agent's socket: of the Slurm job that this runs in, unless something is said of a node, or it is to
// be this machine's alone, else of this machine. Without a Guard it is another program's of the job, which was quicker.
func Start(ctx context.Context, node Node, alone bool) (string, *Guard, error) {
	program, err := binary()
	if err != nil {
		return "", nil, err
	}
	job := os.Getenv("SLURM_JOB_ID") != ""
	alone = alone || !job || len(node.Given()) > 0
	args := append([]string{"up", "--json", "--idle", "never", "--with-stdin"}, node.flags(alone && job)...)
	if alone {
		args = append(args, "--cluster", fmt.Sprintf("go-%d", os.Getpid()))
	} else {
		args = append(args, "--or-join")
	}
	guard, err := newGuard(program, args)
	if err != nil {
		return "", nil, fmt.Errorf("rt: no cluster could be started: %w", err)
	}
	up, err := guard.up(ctx, args)
	if err != nil {
		guard.End(false)
		return "", nil, err
	}
	if up.Joined {
		guard.End(false)
		return up.Socket, nil, nil
	}
	guard.shared = up.Kind == "slurm"
	return up.Socket, guard, nil
}

// upRecord is the part of what `maniple up --json` says that matters here.
type upRecord struct {
	Cluster string `json:"cluster"`
	Kind    string `json:"kind"`
	Socket  string `json:"socket"`
	Joined  bool   `json:"joined"`
}

// up waits until the cluster is up.
func (g *Guard) up(ctx context.Context, args []string) (up upRecord, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	text, err := g.said(ctx)
	if err != nil {
		return up, fmt.Errorf("rt: no cluster could be started: %s: %w", strings.Join(args, " "), err)
	}
	var words []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") {
			up = upRecord{}
			err = json.Unmarshal([]byte(line), &up)
		} else if line != "" {
			words = append(words, line)
		}
	}
	if err != nil || up.Cluster == "" {
		return up, fmt.Errorf("rt: no cluster could be started: `maniple %s`: %s", strings.Join(args, " "), strings.Join(words, "; "))
	}
	if up.Socket == "" {
		return up, errors.New("rt: the cluster has no node on this machine: `maniple exec -- PROGRAM` runs it on one")
	}
	return up, nil
}

// flags say what a node is to have; more GPUs than this machine has make it a fake one, more cores are shared. apart: it is no node of the Slurm job's cluster.
func (n Node) flags(apart bool) (out []string) {
	if apart || n.GPUs > 0 || n.CPUs > runtime.NumCPU() {
		out = append(out, "--fake-nodes", "auto")
	}
	if n.CPUs > 0 {
		out = append(out, "--cpus", strconv.Itoa(n.CPUs))
	}
	if n.GPUs > 0 {
		out = append(out, "--node-gpus", strconv.Itoa(n.GPUs))
	}
	if len(n.Resources) > 0 {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(n.Resources)) {
			list = append(list, name+"="+strconv.FormatFloat(n.Resources[name], 'g', -1, 64))
		}
		out = append(out, "--node-resources", strings.Join(list, ","))
	}
	if len(n.Labels) > 0 {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(n.Labels)) {
			list = append(list, name+"="+n.Labels[name])
		}
		out = append(out, "--node-labels", strings.Join(list, ","))
	}
	return out
}
