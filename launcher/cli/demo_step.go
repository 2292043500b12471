package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/slurm"
)

// A demo under srun: every task is a `maniple demo`. Task 0 starts the head and its node's keeper and
// leaves the boot document in the state directory, 0600, until all have joined; the first task of each
// other node starts its node's keeper with it. The state directory has to be shared.

// step is the Slurm step that this process is a task of.
type step struct {
	name            string // job.step
	nodes           []string
	node            string
	task, localTask int
}

// stepTimeout is how long tasks wait for one another.
const stepTimeout = time.Minute

// step reads the step from the environment; nil if this is none, or one on a single node.
func (c *call) step() (*step, error) {
	job, ok, err := slurm.Environ(c.getenv)
	if err != nil || !ok || job.Step == nil || !job.Step.LauncherRun || len(job.Step.Nodes) < 2 || c.getenv("MANIPLE_GROUP") != "" {
		return nil, err
	}
	return &step{
		name: fmt.Sprintf("%d.%s", job.JobID, job.Step.ID), nodes: job.Step.Nodes, node: job.NodeName,
		task: job.Step.Rank, localTask: job.Step.LocalRank,
	}, nil
}

func (c *call) demoStep(st *step, s *spec.Spec) error {
	if st.localTask != 0 {
		return nil // its node's first task speaks for it
	}
	timeout := stepTimeout
	if v, origin, ok := c.flag("join-timeout"); ok {
		if timeout, ok = spec.ParseSeconds(v); !ok || timeout <= 0 {
			return usage(origin, strconv.Quote(v)+" is no time", "write seconds, or 500ms, 2m")
		}
	}
	state, err := boot.StateDir(c.getenv)
	if err != nil {
		return err
	}
	file := filepath.Join(state, "jobs", "slurm", st.name, "boot.json")
	if st.task != 0 {
		return c.joinStep(st, file, timeout)
	}
	return c.leadStep(st, s, state, file, timeout)
}

// leadStep is task 0.
func (c *call) leadStep(st *step, s *spec.Spec, state, file string, timeout time.Duration) error {
	ctx, sig := watchSignals(c.ctx)
	defer sig.stop()
	defer boot.RemoveShared(file)
	cluster, err := boot.Up(ctx, boot.Options{
		Backend: &local.Backend{}, Name: st.name, Job: c.getenv("SLURM_JOB_ID"), Embedded: true, JoinTimeout: timeout,
		Nodes: []bootdoc.Node{{Name: st.node}}, Expect: others(st.nodes, st.node), Progress: c.stderr, Getenv: c.getenv,
		Share: func(doc *bootdoc.Doc) error { return boot.Share(file, state, doc) },
	})
	if err != nil {
		return err
	}
	defer c.stopEmbedded(cluster)
	client, err := c.connect(ctx, &cluster.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	n := len(st.nodes)
	s.NodesMin, s.NodesMax, s.Tasks = n, n, max(s.Tasks, n)
	shape, err := s.Shape(n)
	if err != nil {
		return err
	}
	return c.gang(ctx, client, sig, s, shape, runOptions{started: func() { boot.RemoveShared(file) }})
}

func others(nodes []string, but string) []string {
	var list []string
	for _, n := range nodes {
		if n != but {
			list = append(list, n)
		}
	}
	return list
}

// joinStep is the first task of another node: it is there for its keeper.
func (c *call) joinStep(st *step, file string, timeout time.Duration) error {
	ctx, sig := watchSignals(c.ctx)
	defer sig.stop()
	doc, err := readShared(ctx, file, timeout)
	if err != nil {
		bootdoc.Tidy(file)
		if stopped := exitOf(ctx); stopped != nil {
			return stopped
		}
		return &Fault{Name: "JOIN_TIMEOUT", What: "demo", Why: fmt.Sprintf("on %s: nothing from task 0 at %s after %v", st.node, file, timeout),
			Do: "that directory has to be shared by the nodes: set XDG_STATE_HOME to one that is, or use `maniple up` in an salloc", Err: err}
	}
	session, err := (&local.Backend{}).Start(ctx, backend.Request{Doc: doc, Nodes: []bootdoc.Node{{Name: st.node}}})
	if err != nil {
		return err
	}
	over, failed := false, false
	for {
		select {
		case ev, ok := <-session.Events():
			switch {
			case !ok && over:
				return nil // how it went is task 0's to say
			case !ok:
				return session.Wait()
			case ev.Kind == backend.KindEnd:
				over = !failed
			case ev.Kind == backend.KindError:
				failed = true
				c.say("demo: %s: %s", st.node, ev.Text)
			}
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			session.Stop(stop)
			return exitOf(ctx)
		}
	}
}

// readShared waits for the document; a file on a network disk has no event.
func readShared(ctx context.Context, file string, timeout time.Duration) (*bootdoc.Doc, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		os.ReadDir(filepath.Dir(file)) // makes NFS look again
		data, err := os.ReadFile(file)
		if err == nil {
			doc := new(bootdoc.Doc)
			if err := json.Unmarshal(data, doc); err != nil {
				return nil, err
			}
			return doc, doc.Check()
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
