package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/work"
)

// Environment variables by which an agent starts this program.
const (
	envServe     = "MANIPLE_SERVE"      // template:HASH or worker:HASH
	envKey       = "MANIPLE_WORKER"     // what to attach with
	envAddress   = "MANIPLE_ADDRESS"    // of the agent
	envJobConfig = "MANIPLE_JOB_CONFIG" // what the driver said of its job
)

// self is this program's file, whatever has become of its name.
const self = "/proc/self/exe"

// Hash is that of the content of this program's file.
func Hash() (sum [32]byte, err error) {
	f, err := os.Open(self)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// Role tells what this process was started as: "template", "worker", or "" for neither. The variables that say it are
// taken away, so that programs which this one starts are themselves.
func Role() (role string, hash [32]byte, key uint64, err error) {
	value := os.Getenv(envServe)
	if value == "" {
		return "", hash, 0, nil
	}
	role, text, _ := strings.Cut(value, ":")
	sum, err := hex.DecodeString(text)
	if err == nil && len(sum) == len(hash) {
		key, err = strconv.ParseUint(os.Getenv(envKey), 10, 64)
	} else if err == nil {
		err = errors.New("a hash of another length")
	}
	if err != nil {
		return role, hash, 0, fmt.Errorf("%s=%s %s=%s: %w", envServe, value, envKey, os.Getenv(envKey), err)
	}
	_ = os.Unsetenv(envServe)
	_ = os.Unsetenv(envKey)
	return role, [32]byte(sum), key, nil
}

// template is the process that workers come from.
type template struct {
	hash [32]byte
	conn *work.Conn
	done chan struct{} // closed when it is to end
	once sync.Once
	mu   sync.Mutex
}

// Template serves as a template, and gives the exit code.
func Template(build string, hash [32]byte, key uint64) (int, error) {
	signal.Ignore(syscall.SIGINT) // a terminal's Ctrl-C is for the driver
	if own, err := Hash(); err != nil {
		return 1, err
	} else if own != hash {
		name, _ := os.Executable()
		return 1, fmt.Errorf("the file %s is not the one any more that the driver was started from: start the driver again", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := uds.Dial(ctx, os.Getenv(envAddress))
	if err != nil {
		return 1, err
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	_, err = work.Attach(conn, &fb.HelloT{Build: build}, &fb.AttachT{Name: "template", Pid: uint32(os.Getpid()), Build: build, Kind: fb.AttachKindTemplate, Worker: key, Language: "go"})
	if err != nil {
		conn.Close()
		return 1, err
	}
	_ = conn.SetDeadline(time.Time{})
	t := &template{hash: hash, done: make(chan struct{})}
	t.mu.Lock()
	t.conn = work.New(conn, work.Config{OnBatch: t.batch, OnEnd: func(error) { t.end() }})
	t.mu.Unlock()
	<-t.done
	return 0, nil
}

func (t *template) end() { t.once.Do(func() { close(t.done) }) }

// batch starts a worker for each Fork.
func (t *template) batch(b work.Batch) {
	defer b.Release()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range b.Files {
		f.Close()
	}
	for f := range work.Frames(b.Bytes) {
		switch f.Type() {
		case fb.FrameTypeFork:
			if m, err := f.Message(); err == nil {
				t.fork(m.(*fb.ForkT))
			}
		case fb.FrameTypeShutdown, fb.FrameTypeGoodbye:
			t.end()
		}
	}
}

// fork execs this program as a worker.
func (t *template) fork(m *fb.ForkT) {
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = childEnv(os.Environ(), m.Env)
	cmd.Env = append(cmd.Env, envServe+"=worker:"+hex.EncodeToString(t.hash[:]), fmt.Sprintf("%s=%d", envKey, m.Key))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.say(&fb.WorkerStateT{Key: m.Key, Phase: fb.RankPhaseEnded, Error: "its program can't be started: " + err.Error()})
		return
	}
	t.say(&fb.WorkerStateT{Key: m.Key, Phase: fb.RankPhaseRunning, Pid: uint32(cmd.Process.Pid)})
	go func() { // ends with the child, or with this process
		_ = cmd.Wait() // what it says is in ProcessState, too
		t.say(ended(m.Key, cmd.ProcessState))
	}()
}

func (t *template) say(m *fb.WorkerStateT) { _ = t.conn.Send(m, 0, nil) } // an agent that is gone is told nothing

func ended(key uint64, s *os.ProcessState) *fb.WorkerStateT {
	m := &fb.WorkerStateT{Key: key, Phase: fb.RankPhaseEnded, Code: 1}
	if s == nil {
		return m
	}
	m.Pid, m.CpuTime = uint32(s.Pid()), uint64(s.UserTime()+s.SystemTime())
	if status, ok := s.Sys().(syscall.WaitStatus); ok {
		m.Code = int32(max(status.ExitStatus(), 0))
		if status.Signaled() {
			m.Code, m.Signal = 0, int32(status.Signal())
		}
	}
	if usage, ok := s.SysUsage().(*syscall.Rusage); ok {
		m.MaxRss = uint64(usage.Maxrss) << 10
	}
	return m
}

// childEnv puts K=V pairs over an environment; a K without a value goes away.
func childEnv(env, over []string) []string {
	at := map[string]int{}
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		at[name] = i
	}
	for _, kv := range over {
		name, _, has := strings.Cut(kv, "=")
		i, there := at[name]
		switch {
		case !has && there:
			env[i] = ""
		case !has:
		case there:
			env[i] = kv
		default:
			at[name] = len(env)
			env = append(env, kv)
		}
	}
	out := env[:0]
	for _, kv := range env {
		if kv != "" {
			out = append(out, kv)
		}
	}
	return out
}
