package agent_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/work"
)

// template is `python -m maniple._template` in Go.
func template() int {
	c, err := forking()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if modules := os.Getenv("MANIPLE_PRELOAD"); modules != "" { // the second one is this process, too
		if _, err := forking("WARM=" + modules); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	<-c.Done()
	return 0
}

// forking attaches as a template, whose workers have more in their environment.
func forking(more ...string) (*work.Conn, error) {
	path := os.Getenv("MANIPLE_ADDRESS")
	key, _ := strconv.ParseUint(os.Getenv("MANIPLE_WORKER"), 10, 64)
	c, _, err := attach(path, &fb.AttachT{Kind: fb.AttachKindTemplate, Worker: key, Language: "python"}, func(c *work.Conn, f work.Frame) {
		m, _ := f.Message()
		fork, ok := m.(*fb.ForkT)
		if !ok {
			return
		}
		cmd := exec.Command("/proc/self/exe", "worker", strconv.FormatUint(fork.Key, 10))
		cmd.Env, cmd.Stdout, cmd.Stderr = append(append(os.Environ(), fork.Env...), more...), os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			_ = c.Send(&fb.WorkerStateT{Key: fork.Key, Phase: fb.RankPhaseEnded, Error: err.Error()}, 0, nil)
			return
		}
		_ = c.Send(&fb.WorkerStateT{Key: fork.Key, Phase: fb.RankPhaseRunning, Pid: uint32(cmd.Process.Pid)}, 0, nil)
		go func() { // ends with its child
			_ = cmd.Wait()
			s := cmd.ProcessState.Sys().(syscall.WaitStatus)
			state := &fb.WorkerStateT{Key: fork.Key, Phase: fb.RankPhaseEnded, Pid: uint32(cmd.Process.Pid), Code: int32(s.ExitStatus())}
			if s.Signaled() {
				state.Code, state.Signal = 0, int32(s.Signal())
			}
			_ = c.Send(state, 0, nil)
		}()
	})
	return c, err
}

// Workers are born with what their driver had imported, as soon as there is a process that has it.
func TestWorkersOfASecondTemplate(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := driveWith(t, cluster(t, "n1")[0], self, "numpy", "torch")
	until(t, "workers have what it has", func() bool {
		d.submit(fnWarm, 1)
		if d.result() == "numpy,torch" {
			return true
		}
		d.submit(fnDie, 2) // one of the first template's
		d.result()
		return false
	})
}
