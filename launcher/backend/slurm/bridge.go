package slurm

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
)

// A bridge carries bytes between a login node and an agent's socket on a compute node where the site
// lets no TCP through: one srun beside the job's other steps, whose task is `maniple bridge`. Slurm
// passes on whole lines, of at most 1,024 bytes in one piece, so bytes travel as lines of base64.

// bridgeChunk is how many bytes go into a line.
const bridgeChunk = 720

// Bridge opens a stream to the agent of a node of the job: it is `maniple bridge` there that connects to
// the socket of the cluster. It costs two requests to the controller, and an srun that stays as long as
// the stream does.
func (b *Backend) Bridge(ctx context.Context, job, node, cluster string) (io.ReadWriteCloser, error) {
	path, err := lookPath("srun", b.getenv("PATH"))
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("slurm: cannot find my own program: %w", err)
	}
	cmd := osexec.Command(path, "--jobid="+job, "-N", "1", "-n", "1", "--nodelist="+node, "--overlap", "--mem=0", "--gres=none",
		"--cpu-bind=none", "--mpi=none", "--export=ALL", "--chdir=/", "--quiet", "--job-name=maniple-bridge", binary, "bridge", "--cluster="+cluster)
	cmd.Env, cmd.Dir = slurm.StepEnv(b.environ()), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is the command's to read, not srun's
	said := new(tail)
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("slurm: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("slurm: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("slurm: start srun: %w", err)
	}
	s := &bridge{cmd: cmd, in: in, lines: NewLineReader(out), said: said}
	// The first line says that the socket was reached; a job that is over, or no such node, says so instead.
	greeted := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(s.lines, make([]byte, 1))
		greeted <- err
	}()
	select {
	case err = <-greeted:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("slurm: no way to %s through srun: %s", node, firstOf(said.String(), err.Error()))
	}
	return s, nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// tail keeps the end of what srun says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-maxSaid):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

type bridge struct {
	cmd   *osexec.Cmd
	in    io.WriteCloser
	lines *LineReader
	said  *tail
	once  sync.Once
}

func (s *bridge) Read(p []byte) (int, error)  { return s.lines.Read(p) }
func (s *bridge) Write(p []byte) (int, error) { return WriteLines(s.in, p) }

// Close ends the stream: srun sees the end of its input and has a second to take its task along.
func (s *bridge) Close() error {
	s.once.Do(func() {
		s.in.Close()
		over := make(chan struct{})
		go func() {
			defer close(over)
			s.cmd.Wait()
		}()
		select {
		case <-over:
			return
		case <-time.After(time.Second):
		}
		s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-over:
		case <-time.After(abortTime):
			s.cmd.Process.Kill()
			<-over
		}
	})
	return nil
}

// WriteLines writes p as lines of base64.
func WriteLines(w io.Writer, p []byte) (int, error) {
	lines := make([]byte, 0, 2*len(p)+2)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), bridgeChunk)
		lines = base64.StdEncoding.AppendEncode(lines, rest[:n])
		lines = append(lines, '\n')
		rest = rest[n:]
	}
	if _, err := w.Write(lines); err != nil {
		return 0, err
	}
	return len(p), nil
}

// LineReader reads what WriteLines wrote.
type LineReader struct {
	in   *bufio.Scanner
	rest []byte
}

// NewLineReader reads lines from r.
func NewLineReader(r io.Reader) *LineReader {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 4096), 1<<16)
	return &LineReader{in: in}
}

// Read implements io.Reader.
func (l *LineReader) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if !l.in.Scan() {
			if err := l.in.Err(); err != nil {
				return 0, fmt.Errorf("slurm: bridge: %w", err)
			}
			return 0, io.EOF
		}
		data, err := base64.StdEncoding.AppendDecode(nil, l.in.Bytes())
		if err != nil {
			return 0, errors.New("slurm: bridge: a line that is not ours came out of srun")
		}
		l.rest = data
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
