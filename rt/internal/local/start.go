package local

import (
	"bytes"
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

// Guard ends a cluster with this process.
type Guard struct {
	shell *exec.Cmd
	pipe  io.WriteCloser
}

// newGuard starts the shell. It has a session of its own: a terminal's Ctrl-C is not for it.
func newGuard(binary, cluster string) (*Guard, error) {
	cmd := exec.Command("/bin/sh", "-c", `read nothing; exec "$0" down --now --cluster "$1" >/dev/null 2>&1`, binary, cluster)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Guard{cmd, pipe}, nil
}

// End ends the cluster, and waits for it.
func (g *Guard) End() {
	g.pipe.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.shell.Wait() // how `maniple down` ended is nobody's error: it did what could be done
	}()
	timer := time.AfterFunc(endTime, func() { _ = g.shell.Process.Kill() })
	<-done
	timer.Stop()
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
// be this machine's alone, else of this machine.
func Start(ctx context.Context, node Node, alone bool) (string, *Guard, error) {
	program, err := binary()
	if err != nil {
		return "", nil, err
	}
	name := os.Getenv("SLURM_JOB_ID")
	alone = alone || name == "" || len(node.Given()) > 0
	args := append([]string{"up", "--json", "--idle", "never"}, node.flags(alone && name != "")...)
	if alone {
		name = fmt.Sprintf("go-%d", os.Getpid())
		args = append(args, "--cluster", name)
	}
	guard, err := newGuard(program, name)
	if err != nil {
		return "", nil, fmt.Errorf("rt: no cluster could be started: %w", err)
	}
	path, err := up(ctx, program, args)
	if err != nil {
		guard.End()
		return "", nil, err
	}
	return path, guard, nil
}

func up(ctx context.Context, program string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.Join(args, " ")
		}
		return "", fmt.Errorf("rt: no cluster could be started: %s: %w", said, err)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	var last struct {
		Socket string `json:"socket"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		return "", fmt.Errorf("rt: what `maniple %s` said can't be read: %w", strings.Join(args, " "), err)
	}
	if last.Socket == "" {
		return "", errors.New("rt: the cluster has no node on this machine: `maniple exec -- PROGRAM` runs it on one")
	}
	return last.Socket, nil
}

// flags say what a node is to have; more than this machine has makes it a fake one. apart: it is no node of the Slurm job's cluster.
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
