package agent_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// template is `python -m maniple._template` in Go.
func template() int {
	c, err := forking()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch modules := os.Getenv("MANIPLE_PRELOAD"); modules {
	case "":
	case "never": // there is none
		time.AfterFunc(500*time.Millisecond, func() { _ = c.Send(&fb.WorkerStateT{Phase: fb.RankPhaseEnded}, 0, nil) })
	default: // the second one is this process, too
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
	conn, err := uds.Dial(context.Background(), path)
	if err != nil {
		return nil, err
	}
	bears := os.Getenv("MANIPLE_PRELOAD") == "" && len(more) == 0 // else its workers attach by themselves
	if _, err := work.Attach(conn, &fb.HelloT{}, &fb.AttachT{Kind: fb.AttachKindTemplate, Worker: key, Language: "python", Pid: uint32(os.Getpid()), Born: bears}); err != nil {
		return nil, err
	}
	fork := func(c *work.Conn, fork *fb.ForkT, end *os.File) {
		cmd := exec.Command("/proc/self/exe", "worker", strconv.FormatUint(fork.Key, 10))
		cmd.Env, cmd.Stdout, cmd.Stderr = append(append(os.Environ(), fork.Env...), more...), os.Stdout, os.Stderr
		if end != nil {
			defer end.Close()
			if os.Getenv("STILLBORN") != "" {
				_ = c.Send(&fb.WorkerStateT{Key: fork.Key, Phase: fb.RankPhaseEnded, Error: "no process could be forked"}, 0, nil)
				return
			}
			cmd.ExtraFiles = []*os.File{end}
			cmd.Env = append(cmd.Env, fmt.Sprintf("BORN=%d %d", fork.Attached.Agent, fork.Attached.Process), fmt.Sprintf("EARLY=%v", sent(end)))
		}
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
	}
	return over(conn, func(c *work.Conn, b work.Batch) {
		for f := range work.Frames(b.Bytes) {
			m, _ := f.Message()
			if m, ok := m.(*fb.ForkT); ok {
				var end *os.File
				if m.Attached != nil {
					end, b.Files = b.Files[0], b.Files[1:]
				}
				fork(c, m, end)
			}
		}
	}), nil
}

// sent tells whether something has been sent to a worker that is not made yet.
func sent(end *os.File) (some bool) {
	raw, err := end.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			some = err == nil && n > 0
		})
	}
	return some
}

// answer gives the only result of a task, or says that an actor is made.
func answer(c *work.Conn, task id.Task, attempt uint32, text string) {
	_, r := work.Extend(nil, fb.FrameTypeResult, len(text))
	work.Result(r).SetTask(task)
	work.Result(r).SetAttempt(attempt)
	work.Result(r).SetFlags(uint32(fb.ResultFlagLast))
	copy(r.Payload(), text)
	_ = c.Append(r)
}

func taskID(t *fb.TaskIDT) id.Task {
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

// born is the connection that a worker was given by its template; nil: none.
func born(take func(*work.Conn, work.Frame)) (*work.Conn, *fb.AttachedT, error) {
	at := &fb.AttachedT{}
	if _, err := fmt.Sscan(os.Getenv("BORN"), &at.Agent, &at.Process); err != nil {
		return nil, nil, nil
	}
	conn, err := net.FileConn(os.NewFile(3, "born"))
	if err != nil {
		return nil, nil, err
	}
	word, err := work.AppendMessage(nil, &fb.StartedT{Task: &fb.TaskIDT{}}, 0, nil)
	if err == nil {
		_, err = conn.Write(word)
	}
	if err != nil {
		return nil, nil, err
	}
	return over(conn, func(c *work.Conn, b work.Batch) {
		for f := range work.Frames(b.Bytes) {
			take(c, f)
		}
	}), at, nil
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

// While a second template imports what the driver has, only so many workers are made without it as there are CPUs; if it does not come to be, the others are, too.
func TestWorkersWaitForASecondTemplate(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := driveWith(t, cluster(t, "n1")[0], self, "never")
	began := time.Now()
	for range 8 {
		d.submit(fnSleep, 99) // asks for nothing: all run at once
	}
	d.submit(fnPID, 99)
	select {
	case <-d.results:
		t.Error("there were more workers than CPUs before anybody knew whether they would be warm")
	case <-time.After(100 * time.Millisecond):
	}
	d.result()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the last one came after %v: nobody said that there is no second template", took)
	}
}

// The work of an actor's worker is there before its template is to make it. A task's could be done by somebody else until then.
func TestWorkOfAnActorIsSentBeforeItsWorkerIsMade(t *testing.T) {
	d := drive(t, cluster(t, "n1")[0])
	d.create(1)
	if early := d.result(); early != "true" {
		t.Errorf("something was sent before: %q", early)
	}
	d.submit(fnEarly, 99)
	if early := d.result(); early != "false" {
		t.Errorf("a task was given to a process that was not there: %q", early)
	}
	d.send(&fb.StateQueryT{What: "workers"})
	if answer := <-d.replies; strings.Count(answer, `"pid":`) < 2 || strings.Contains(answer, `"pid":0`) {
		t.Errorf("processes are not known: %s", answer)
	}
}

// Where no worker can be made for an actor that is said, though its work was sent.
func TestActorWhoseWorkerIsNeverMade(t *testing.T) {
	t.Setenv("STILLBORN", "1")
	d := drive(t, cluster(t, "n1")[0])
	d.create(1)
	if why := d.result(); !strings.Contains(why, "no process could be forked") {
		t.Errorf("it is told so: %s", why)
	}
}
