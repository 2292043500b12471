package slurm

import (
	"bytes"
	"context"
	osexec "os/exec"
	"syscall"
	"time"
)

// cleanTime is what a second step may take to clear up after the first.
const cleanTime = 10 * time.Second

// clean removes what killed keepers left on their nodes. Slurm sends KILL to every task of a step whose
// srun is gone, so none of them could. A keeper that starts where a dead one was ends what that left and
// takes its directory over, and one whose input is at its end leaves at once: two requests, and only here.
func (s *session) clean() {
	s.mu.Lock()
	needed := s.killed && !s.deserted
	s.mu.Unlock()
	if !needed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	st := s.step
	st.head = "no"
	path, err := lookPath("srun", s.b.getenv("PATH"))
	if err != nil {
		return // it was there; what is left is small, and the site's to sweep
	}
	cmd := osexec.CommandContext(ctx, path, st.argv()[1:]...)
	cmd.Args[0] = "srun"
	cmd.Env, cmd.Dir, cmd.Stdin = s.environ, "/", bytes.NewReader(s.doc)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	_ = cmd.Run() // in a job that is being ended there are no more steps
}
