package slurm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/slurm"
)

const (
	maxLine = 1 << 20
	maxSaid = 4096 // of srun's standard error, kept for messages
	// abortTime is how long srun may take to kill its step before it is killed itself.
	abortTime = 2 * time.Second
	// finishTime is what keepers that said their end get beyond the caller's patience.
	finishTime = 4 * time.Second
	// How long after the last end of a keeper the missing ones count as dead.
	silenceAfterHead, silenceOfAll = time.Second, 4 * time.Second
)

type session struct {
	b        *Backend
	job      *slurm.Environment
	names    []string
	step     step // changed by run alone, after launch
	doc      []byte
	environ  []string
	stderrTo io.Writer
	clocked  bool // warns of the end of the job's time: one session of a job does

	events chan backend.Event
	held   chan held     // of one srun: made by follow
	over   chan struct{} // closed when srun has ended for good or was released: ends the clock
	done   chan struct{} // closed when all of the session's goroutines have ended

	mu       sync.Mutex
	cmd      *osexec.Cmd
	stdin    *os.File // nil once closed
	stdout   *os.File
	stderr   *os.File
	failed   error
	released bool
	stopping bool
	killed   bool            // srun was, and with it all that ran in the step
	deserted bool            // it was because the rest of the nodes is dead
	noFile   bool            // the program was not on some node
	said     string          // the end of srun's standard error
	lost     map[string]bool // nodes whose loss was told
	ended    map[string]bool // nodes whose keeper said its end
	lastEnd  time.Time       // when the last of them did
	headNode string          // whose keeper hosts the head: the last to end
}

func (s *session) Nodes() []string              { return s.names }
func (s *session) Events() <-chan backend.Event { return s.events }

// launch starts srun and hands it the boot document.
func (s *session) launch() error {
	cmd, stdin, stdout, stderr, closeChild, err := s.srun()
	if err != nil {
		return err
	}
	err = cmd.Start()
	closeChild()
	if err != nil {
		stdin.Close()
		stdout.Close()
		stderr.Close()
		return fmt.Errorf("slurm: start srun: %w", err)
	}
	s.mu.Lock()
	s.cmd, s.stdin, s.stdout, s.stderr = cmd, stdin, stdout, stderr
	s.noFile, s.said = false, ""
	stop := s.stopping
	s.mu.Unlock()
	// A document that srun does not read is told by srun's end, with its reason.
	if _, err := stdin.Write(s.doc); err != nil && !errors.Is(err, syscall.EPIPE) || stop {
		s.closeInput()
	}
	return nil
}

// run follows srun to its end; once more with a copy of the program if the nodes do not have it.
func (s *session) run() {
	var clock sync.WaitGroup
	if s.clocked {
		clock.Go(func() { s.clock() })
	}
	for {
		err, again := s.follow()
		if !again {
			s.fail(err)
			s.clean()
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = s.copyBinary(ctx)
		cancel()
		if err == nil {
			err = s.launch()
		}
		if err != nil {
			s.fail(err)
			break
		}
	}
	close(s.over)
	clock.Wait()
	close(s.events)
	close(s.done)
}

// follow reads what srun prints until its end. again: nothing ran because the program was not there.
func (s *session) follow() (err error, again bool) {
	var readers, holder sync.WaitGroup
	s.held = make(chan held)
	readers.Go(func() { s.readKeepers() })
	readers.Go(func() { s.readSlurm() })
	holder.Go(func() { s.hold() })
	readers.Wait()
	close(s.held)
	holder.Wait()
	s.mu.Lock()
	cmd, released := s.cmd, s.released
	s.mu.Unlock()
	if released {
		cmd.Process.Release()
		return nil, false
	}
	err = cmd.Wait()
	s.closeInput()
	s.stdout.Close()
	s.stderr.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		s.killed = true
	}
	if err == nil || s.stopping && !s.noFile {
		return nil, false
	}
	if s.noFile && !s.step.copied && !s.stopping {
		return nil, true
	}
	e := slurm.ErrorOf("step of job "+s.job.FullID(), s.said)
	if e.Text == "" {
		e.Text = "srun: " + err.Error()
	}
	return e, false
}

// readKeepers reads the keepers' lines.
func (s *session) readKeepers() {
	lines := bufio.NewScanner(s.stdout)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		task, text := cutLabel(lines.Text())
		node := ""
		if task >= 0 && task < len(s.names) {
			node = s.names[task]
		}
		ev := backend.ParseEvent(node, []byte(text))
		s.mu.Lock()
		switch ev.Kind {
		case backend.KindHead:
			s.headNode = node
		case backend.KindEnd, backend.KindError:
			s.ended[node], s.lastEnd = true, time.Now()
		}
		s.mu.Unlock()
		s.tell(ev)
	}
}

// readSlurm reads what srun and its slurmstepds say.
func (s *session) readSlurm() {
	lines := bufio.NewScanner(s.stderr)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		line := lines.Text()
		if s.stderrTo != nil {
			fmt.Fprintln(s.stderrTo, line)
		}
		s.mu.Lock()
		if s.said += line + "\n"; len(s.said) > maxSaid {
			s.said = s.said[len(s.said)-maxSaid:]
		}
		s.mu.Unlock()
		s.act(readNews(line, s.step.binary))
	}
}

func (s *session) act(n news) {
	switch n.kind {
	case newsFailed:
		for _, node := range n.nodes {
			s.loss(node, "Slurm declared the node failed (NODE_FAIL)")
		}
	case newsNoLaunch:
		for _, node := range n.nodes {
			s.loss(node, "Slurm could not start the step there: "+n.text)
		}
	case newsTaskEnd:
		for _, node := range n.nodes {
			s.held <- held{node, "its keeper ended: " + n.text}
		}
	case newsStopping:
		s.tell(backend.Event{Kind: backend.KindStopping, Reason: string(n.cause), Text: n.text, Deadline: time.Now()})
	case newsNoFile:
		s.mu.Lock()
		first := !s.noFile
		s.noFile = true
		s.mu.Unlock()
		if first && !s.step.copied {
			// Those that have it wait for the others in vain.
			s.send(backend.DrainLine("the program is not on every node", time.Now(), true))
			s.closeInput()
		}
	}
}

// held is a loss that may be none.
type held struct{ node, why string }

// holdTime is how long after a task's end the lines that explain it may come.
const holdTime = time.Second

// hold keeps back that a task ended until it is known why: it may have said its end on standard output,
// or the program may not be on its node, and the three come in any order.
func (s *session) hold() {
	var list []held
	tell := func() {
		for _, h := range list {
			s.mu.Lock()
			quiet := s.ended[h.node] || s.noFile && !s.step.copied
			s.mu.Unlock()
			if !quiet {
				s.loss(h.node, h.why)
			}
		}
		list = nil
	}
	var late <-chan time.Time
	for {
		select {
		case h, ok := <-s.held:
			if !ok {
				tell()
				return
			}
			list = append(list, h)
			if late == nil {
				late = time.After(holdTime)
			}
		case <-late:
			late = nil
			tell()
		}
	}
}

// loss tells that a node is gone, once (STEP-4).
func (s *session) loss(node, why string) {
	s.mu.Lock()
	known := s.lost[node]
	s.lost[node] = true
	s.mu.Unlock()
	if !known {
		s.tell(backend.Event{Kind: backend.KindLost, Node: node, Text: why})
	}
}

// tell hands an event on. Whoever has the session reads until Events is closed, or releases it.
func (s *session) tell(ev backend.Event) {
	s.mu.Lock()
	released := s.released
	s.mu.Unlock()
	if !released {
		s.events <- ev
	}
}

func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

func (s *session) Send(line []byte) error {
	if err := s.send(line); err != nil {
		return fmt.Errorf("slurm: to the keepers: %w", err)
	}
	return nil
}

func (s *session) send(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		return os.ErrClosed
	}
	_, err := io.WriteString(s.stdin, strings.TrimRight(string(line), "\n")+"\n")
	return err
}

func (s *session) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin != nil {
		s.stdin.Close()
		s.stdin = nil
	}
}

// Release leaves srun behind: it stays on this machine for the step's time, in a session of its own.
func (s *session) Release() error {
	s.mu.Lock()
	s.released = true
	stdout, stderr := s.stdout, s.stderr
	s.mu.Unlock()
	s.closeInput()
	stdout.Close() // ends the readers; srun has a reading end of its own
	stderr.Close()
	for range s.events { // a reader may be handing over a line
	}
	<-s.done
	return nil
}

// Anchor is srun.
func (s *session) Anchor() int { return s.cmd.Process.Pid }

func (s *session) Wait() error {
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *session) Stop(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.send(backend.DrainLine("stopped by the command that started it", deadline, true)) // one that is gone needs none
	s.closeInput()
	go func() { // nobody else may be reading; ends when Events is closed
		for range s.events {
		}
	}()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-s.done:
			return nil
		case <-look.C:
			if s.restIsDead() {
				s.kill()
				<-s.done
				return nil
			}
			continue
		case <-ctx.Done():
		}
		if s.finishing() {
			late := time.NewTimer(finishTime)
			defer late.Stop()
			select {
			case <-s.done:
				return nil
			case <-late.C:
			}
		}
		s.abort()
		<-s.done
		return fmt.Errorf("slurm: keepers did not end in time and their step was killed")
	}
}

// finishing says whether a keeper said its end: it cleans its node up, and is given the time for it.
func (s *session) finishing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ended) > 0
}

// restIsDead says whether srun waits for nodes that are gone: it would until Slurm declares them failed,
// minutes later. The head's keeper ends after those of all nodes that still answer.
func (s *session) restIsDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	silence := silenceOfAll
	if s.ended[s.headNode] {
		silence = silenceAfterHead
	}
	return len(s.ended) > 0 && len(s.ended) < len(s.names) && time.Since(s.lastEnd) > silence
}

func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deserted = true
	s.cmd.Process.Kill()
}

// abort makes srun kill its step (two interrupts), and kills srun if it does not end by that.
func (s *session) abort() {
	s.mu.Lock()
	s.killed = true
	p := s.cmd.Process
	s.mu.Unlock()
	late := time.NewTimer(abortTime)
	defer late.Stop()
	// The second must come within a second of the first, but not with it: two pending ones are one.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for p.Signal(syscall.SIGINT) == nil {
		select {
		case <-s.done:
			return
		case <-late.C:
			p.Kill()
			return
		case <-again.C:
		}
	}
}
