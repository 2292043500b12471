package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/slurm"
)

// Cluster is a cluster that this process brought up.
type Cluster struct {
	Endpoint Endpoint

	session backend.Session
	once    sync.Once
	watched chan struct{} // closed when the session's events are over
}

// JoinError says which nodes did not join: because they failed, or because the time was over.
type JoinError struct {
	Joined, Want int
	Missing      []string
	Timeout      time.Duration // 0: they failed
	Text         string        // what the first of them said
}

func (e *JoinError) Error() string {
	if e.Timeout > 0 {
		return fmt.Sprintf("%d of %d nodes joined, missing %s after %v", e.Joined, e.Want, slurm.FoldHosts(e.Missing), e.Timeout)
	}
	return fmt.Sprintf("%s could not start: %s", slurm.FoldHosts(e.Missing), e.Text)
}

// ErrUp means that a cluster of this name is up already.
var ErrUp = errors.New("a cluster of this name is up")

// Up brings a cluster up.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	o = o.withDefaults()
	doc, err := NewDoc(o.Name)
	if err != nil {
		return nil, err
	}
	if o.Cluster != "" {
		doc.Cluster, doc.Secret = o.Cluster, o.Secret
	}
	doc.Job, doc.Epoch, doc.MinNodes = o.Job, o.Epoch, o.MinNodes
	doc.JoinTimeout, doc.Grace, doc.Idle = o.JoinTimeout, o.Grace, o.Idle
	doc.Interfaces, doc.PortRange, doc.Base, doc.Loopback, doc.Store, doc.Spill, doc.SpillLimit, doc.NoHandover, doc.Clear, doc.Fabric = o.Interfaces, o.PortRange, o.Base, o.Loopback, o.Store, o.Spill, o.SpillLimit, o.NoHandover, o.Clear, o.Fabric
	if o.Embedded {
		doc.Owner = "stdin"
	}
	kind := o.Backend.Name()
	if state, ok := userState(o.Getenv); ok && (!o.Embedded || kind == "slurm") { // Publish or Announce follow
		doc.Endpoint = endpointFile(state, kind, o.Name, local.HostName())
	}
	for _, n := range o.Nodes {
		if n.Name != "" {
			doc.Expect = append(doc.Expect, n.Name)
		}
	}
	doc.Expect = append(doc.Expect, o.Expect...)
	dir, err := doc.ClusterDir(o.Getenv)
	if err != nil {
		return nil, err
	}
	if o.Job == "" {
		if err := claim(dir); err != nil {
			return nil, err
		}
	}
	session, err := o.Backend.Start(ctx, backend.Request{Doc: doc, Nodes: o.Nodes, Head: true, Binary: o.Binary})
	if err != nil {
		bootdoc.RemoveEmpty(dir)
		return nil, err
	}
	j := &join{o: o, session: session, started: time.Now(), want: session.Nodes()}
	if err := j.wait(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		session.Stop(stopCtx)
		bootdoc.RemoveEmpty(dir)
		return nil, err
	}
	ep, err := newEndpoint(kind, doc, j)
	if err == nil && o.Share != nil {
		shared := *doc
		shared.Head, shared.Node = j.addresses, bootdoc.Node{}
		err = o.Share(&shared)
	}
	if err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		session.Stop(stopCtx)
		return nil, err
	}
	ep.Dir = dir
	return &Cluster{Endpoint: *ep, session: session, watched: make(chan struct{})}, nil
}

// claim makes the cluster's directory, which only one Up can; what a dead cluster left is moved away.
func claim(dir string) error {
	parent := filepath.Dir(dir)
	for range 3 {
		if err := bootdoc.MakePrivate(parent, filepath.Dir(parent)); err != nil {
			return err
		}
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			return nil
		}
		if errors.Is(err, os.ErrNotExist) {
			continue // the last cluster to end took the empty parent along
		}
		if !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("boot: %w", err)
		}
		if err := bootdoc.CheckPrivate(dir); err != nil {
			return err
		}
		if nodes := liveNodes(dir); len(nodes) > 0 {
			return fmt.Errorf("boot: %s: %w (%s)", filepath.Base(dir), ErrUp, slurm.FoldHosts(nodeNames(nodes)))
		}
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) < 2*time.Second {
			return fmt.Errorf("boot: %s: %w (it is just starting)", filepath.Base(dir), ErrUp)
		}
		gone := fmt.Sprintf("%s/.gone-%d-%d", parent, os.Getpid(), time.Now().UnixNano())
		if os.Rename(dir, gone) == nil {
			os.RemoveAll(gone)
		}
	}
	return fmt.Errorf("boot: %s: others make and remove it at the same time: %w; try again", dir, syscall.EAGAIN)
}

// join is the wait for the nodes of one Up.
type join struct {
	o         Options
	session   backend.Session
	started   time.Time
	want      []string
	ready     []backend.Event
	failed    []string // nodes that ended before they were ready
	text      string   // what the first of them said
	addresses []string
	unsent    error // why the head's address did not reach everybody
	said      string
}

func (j *join) wait(ctx context.Context) error {
	deadline := time.NewTimer(j.o.JoinTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case ev, ok := <-j.session.Events():
			if !ok {
				return j.error(0)
			}
			done, err := j.event(ev)
			if done || err != nil {
				return err
			}
		case <-tick.C:
			j.progress()
		case <-deadline.C:
			if j.enough() {
				return nil
			}
			return j.error(j.o.JoinTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (j *join) enough() bool {
	return len(j.addresses) > 0 && j.o.MinNodes > 0 && len(j.ready) >= j.o.MinNodes
}

func (j *join) event(ev backend.Event) (done bool, err error) {
	switch ev.Kind {
	case backend.KindHead:
		j.addresses = ev.Addresses
		// A keeper that can't be told has ended; the event of its end says why, and is on its way.
		if err := j.session.Send(backend.HeadLine(ev.Addresses)); err != nil && j.text == "" {
			j.unsent = err
		}
	case backend.KindReady:
		j.ready = append(j.ready, ev)
	case backend.KindError, backend.KindLost, backend.KindEnd:
		if slices.Contains(j.failed, ev.Node) {
			break
		}
		j.failed = append(j.failed, ev.Node)
		if text := firstOf(ev.Text, ev.Reason); j.text == "" && text != "" {
			j.text = text
		}
	case backend.KindWarning, backend.KindStopping:
		fmt.Fprintln(j.o.Progress, "maniple: "+of(ev)+firstOf(ev.Text, ev.Reason))
	}
	if len(j.ready) == len(j.want) && len(j.addresses) > 0 {
		return true, nil
	}
	if len(j.failed) > 0 && len(j.ready)+len(j.failed) >= len(j.want) {
		if j.enough() {
			return true, nil
		}
		return false, j.error(0)
	}
	if len(j.want)-len(j.failed) < max(j.o.MinNodes, 1) || j.o.MinNodes == 0 && len(j.failed) > 0 {
		return false, j.error(0)
	}
	return false, nil
}

func (j *join) missing() []string {
	var list []string
	for _, name := range j.want {
		if !slices.ContainsFunc(j.ready, func(ev backend.Event) bool { return ev.Node == name }) {
			list = append(list, name)
		}
	}
	return list
}

func (j *join) error(timeout time.Duration) error {
	e := &JoinError{Joined: len(j.ready), Want: len(j.want), Missing: j.missing(), Timeout: timeout, Text: j.text}
	if timeout == 0 && len(j.failed) > 0 {
		e.Missing = j.failed // the others would have come
	}
	if e.Text == "" && j.unsent != nil {
		e.Text = fmt.Sprintf("could not be told where the head is: %v", j.unsent)
	}
	if timeout == 0 && e.Text == "" {
		e.Text = "its keeper ended without a word"
	}
	return e
}

// progress prints a line when it changed; the first second is silent.
func (j *join) progress() {
	line := fmt.Sprintf("%d/%d joined, missing %s", len(j.ready), len(j.want), slurm.FoldHosts(j.missing()))
	if len(j.ready) == 0 && len(j.addresses) == 0 {
		line = "waiting for the head; " + line
	}
	if line != j.said {
		j.said = line
		fmt.Fprintln(j.o.Progress, "maniple: "+line)
	}
}

// of is the beginning of a message about an event: its node, if it is about one.
func of(ev backend.Event) string {
	if ev.Node == "" {
		return ""
	}
	return ev.Node + ": "
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			return s
		}
	}
	return ""
}

// Watch hands the backend's further news (a node lost, a node to be taken away) to see, until the
// cluster's end. At most one Watch per cluster.
func (c *Cluster) Watch(see func(backend.Event)) {
	go func() {
		defer close(c.watched)
		for ev := range c.session.Events() {
			see(ev)
		}
	}()
}

// Release lets a detached cluster go on without this process.
func (c *Cluster) Release() error { return c.session.Release() }

// Stop drains the cluster and ends what is left of it when ctx is done. Only the first call does it.
func (c *Cluster) Stop(ctx context.Context) (err error) {
	c.once.Do(func() {
		err = c.session.Stop(ctx)
		os.Remove(c.Endpoint.Dir) // a keeper that was killed could not
	})
	return err
}
