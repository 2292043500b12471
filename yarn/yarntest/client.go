package yarntest

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

// submission is what this stand-in reads of an ApplicationSubmissionContext.
type submission struct {
	ID        yarn.ApplicationID `pb:"1"`
	Name      string             `pb:"2"`
	Queue     string             `pb:"3"`
	Launch    yarn.LaunchContext `pb:"5"`
	Unmanaged bool               `pb:"7"`
	Resource  yarn.Resource      `pb:"9"`
	Type      string             `pb:"10"`
	Tags      []string           `pb:"12"`
}

type empty struct{}

type ofApplication struct {
	ID yarn.ApplicationID `pb:"1"`
}

var clientMethods = map[string]method{
	"getNewApplication": func(c *Cluster, _ rpc.Request) (any, error) {
		// Numbers are never given twice, also if the application never comes.
		n := c.calls["getNewApplication"]
		return yarn.NewApplication{ID: yarn.ApplicationID{Number: int32(n), ClusterTimestamp: c.born}, Max: c.max()}, nil
	},
	"submitApplication": func(c *Cluster, r rpc.Request) (any, error) {
		var m struct {
			Context submission `pb:"1"`
		}
		if err := r.Read(&m); err != nil {
			return nil, err
		}
		return empty{}, c.submit(m.Context, r.User)
	},
	"getApplicationReport": func(c *Cluster, r rpc.Request) (any, error) {
		var id ofApplication
		if err := r.Read(&id); err != nil {
			return nil, err
		}
		a, err := c.app(id.ID)
		if err != nil {
			return nil, err
		}
		return struct {
			R yarn.Report `pb:"1"`
		}{c.reported(a, r.User)}, nil
	},
	"getApplicationAttemptReport": func(c *Cluster, r rpc.Request) (any, error) {
		var m struct {
			ID yarn.AttemptID `pb:"1"`
		}
		if err := r.Read(&m); err != nil {
			return nil, err
		}
		a, err := c.app(m.ID.Application)
		if err != nil {
			return nil, err
		}
		if m.ID.Number < 1 || m.ID.Number > a.attempt.Number {
			return nil, thrown("ApplicationAttemptNotFoundException", "ApplicationAttempt with id '%s' doesn't exist in RM.", m.ID)
		}
		return struct {
			R yarn.AttemptReport `pb:"1"`
		}{yarn.AttemptReport{ID: m.ID, Diagnostics: a.ends[m.ID]}}, nil
	},
	"forceKillApplication": func(c *Cluster, r rpc.Request) (any, error) {
		var id ofApplication
		if err := r.Read(&id); err != nil {
			return nil, err
		}
		a, err := c.app(id.ID)
		if err != nil {
			return nil, err
		}
		if a.report.User != r.User {
			return nil, &rpc.RemoteError{Class: "org.apache.hadoop.security.AccessControlException", Message: "User " + r.User + " cannot perform operation MODIFY_APP on " + id.ID.String()}
		}
		done := a.report.State.Over() // the first call only begins it
		c.over(a, yarn.StateKilled, yarn.Killed, "Application killed by user.")
		return struct {
			Done bool `pb:"1"`
		}{done}, nil
	},
	"getApplications": func(c *Cluster, r rpc.Request) (any, error) {
		var f yarn.Filter
		if err := r.Read(&f); err != nil {
			return nil, err
		}
		var out struct {
			Reports []yarn.Report `pb:"1"`
		}
		for _, a := range c.apps {
			p := c.reported(a, r.User)
			if (len(f.States) == 0 || slices.Contains(f.States, p.State)) && (len(f.Users) == 0 || slices.Contains(f.Users, p.User)) &&
				(len(f.Types) == 0 || slices.Contains(f.Types, p.Type)) && int64(len(out.Reports)) < f.Limit {
				out.Reports = append(out.Reports, p)
			}
		}
		return out, nil
	},
	"getClusterNodes": func(c *Cluster, r rpc.Request) (any, error) {
		var out struct {
			Nodes []yarn.Node `pb:"1"`
		}
		for _, n := range c.nodes {
			out.Nodes = append(out.Nodes, yarn.Node{ID: n.ID, Rack: "/default-rack", Used: n.used, Capability: n.Size, State: yarn.NodeRunning})
		}
		return out, nil
	},
	"getClusterMetrics": func(c *Cluster, r rpc.Request) (any, error) {
		return struct {
			M yarn.Metrics `pb:"1"`
		}{yarn.Metrics{NodeManagers: int32(len(c.nodes)), Active: int32(len(c.nodes))}}, nil
	},
	"getQueueInfo": func(c *Cluster, r rpc.Request) (any, error) {
		var q struct {
			Name string `pb:"1"`
		}
		if err := r.Read(&q); err != nil {
			return nil, err
		}
		leaf := yarn.Queue{Name: Queue, Capacity: 1, MaxCapacity: 1, State: yarn.QueueRunning, Labels: []string{"*"}}
		type reply struct {
			Q *yarn.Queue `pb:"1"`
		}
		switch q.Name {
		case "root":
			return reply{&yarn.Queue{Name: "root", Capacity: 1, MaxCapacity: 1, State: yarn.QueueRunning, Children: []yarn.Queue{leaf}}}, nil
		case Queue:
			return reply{&leaf}, nil
		}
		return reply{}, nil
	},
	"getResourceTypeInfo": func(c *Cluster, r rpc.Request) (any, error) {
		return struct {
			T []yarn.ResourceType `pb:"1"`
		}{c.types()}, nil
	},
}

// types are what any node has.
func (c *Cluster) types() []yarn.ResourceType {
	out := []yarn.ResourceType{{Name: "memory-mb", Units: "Mi"}, {Name: "vcores"}}
	for _, n := range c.nodes {
		for _, o := range n.Size.Others {
			if !slices.ContainsFunc(out, func(t yarn.ResourceType) bool { return t.Name == o.Name }) {
				out = append(out, yarn.ResourceType{Name: o.Name})
			}
		}
	}
	return out
}

// max is the largest container.
func (c *Cluster) max() (m yarn.Resource) {
	for _, n := range c.nodes {
		m.MemoryMB, m.VCores = max(m.MemoryMB, n.Size.MemoryMB), max(m.VCores, n.Size.VCores)
		for _, o := range n.Size.Others {
			m = m.With(o.Name, max(o.Value, m.Of(o.Name)))
		}
	}
	return m
}

func (c *Cluster) submit(s submission, user string) error {
	if _, err := c.app(s.ID); err == nil {
		return nil // Hadoop's rule: it may be said again
	}
	if s.Resource.MemoryMB > c.max().MemoryMB && !s.Unmanaged {
		return thrown("InvalidResourceRequestException", "Invalid resource request, requested memory %d", s.Resource.MemoryMB)
	}
	a := &app{attempt: yarn.AttemptID{Application: s.ID, Number: 1}, told: map[yarn.NodeID]bool{}}
	a.Submission = yarn.Submission{ID: s.ID, Name: s.Name, Queue: s.Queue, Type: s.Type, Tags: s.Tags, Resource: s.Resource, Launch: s.Launch, Unmanaged: s.Unmanaged}
	a.report = yarn.Report{
		ID: s.ID, User: user, Queue: s.Queue, Name: s.Name, Type: s.Type, Tags: s.Tags, State: yarn.StateAccepted, Unmanaged: s.Unmanaged,
		Host: "N/A", Port: -1, Started: time.Now(), Attempt: a.attempt,
	}
	c.apps = append(c.apps, a)
	if s.Queue != "" && s.Queue != Queue {
		c.over(a, yarn.StateFailed, yarn.Failed, "Application "+s.ID.String()+" submitted by user "+user+" to unknown queue: "+s.Queue)
	}
	return nil
}

// reported is an application's report; the token only for the owner of an unmanaged one.
func (c *Cluster) reported(a *app, user string) yarn.Report {
	r := a.report
	if a.Unmanaged && user == r.User && !r.State.Over() {
		t := c.masterToken(a)
		r.AMToken = &t
	}
	return r
}

// over ends an application, and its containers with it.
func (c *Cluster) over(a *app, s yarn.ApplicationState, f yarn.FinalStatus, diagnostics string) {
	if a.report.State.Over() {
		return
	}
	a.report.State, a.report.Final, a.report.Diagnostics, a.report.Finished = s, f, diagnostics, time.Now()
	for _, k := range a.containers {
		c.end(a, k, yarn.ExitByApplication)
	}
}

// Master gives what the container of an application's master finds: its credentials and attempt.
func (c *Cluster) Master(id yarn.ApplicationID) (yarn.Token, yarn.AttemptID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.app(id)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.masterToken(a), a.attempt
}

// NextAttempt is the end of an application's master, of which YARN says why: it starts another one, which has the containers that run. It finds what Master gives.
func (c *Cluster) NextAttempt(id yarn.ApplicationID, why ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.app(id)
	if err != nil {
		c.t.Fatal(err)
	}
	if a.ends == nil {
		a.ends = map[yarn.AttemptID]string{}
	}
	a.ends[a.attempt] = strings.Join(why, "\n")
	a.attempt.Number++
	a.registered, a.response, a.asks, a.news, a.last, a.told = false, 0, nil, allocateResponse{}, allocateResponse{}, map[yarn.NodeID]bool{}
	a.next = 0
	a.report.State, a.report.Host, a.report.Port, a.report.Attempt = yarn.StateAccepted, "N/A", -1, a.attempt
}

// Application submits one as a test's own client would, and gives its ID.
func (c *Cluster) Application() yarn.ApplicationID {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := yarn.ApplicationID{Number: math.MaxInt16 + int32(len(c.apps)), ClusterTimestamp: c.born}
	if err := c.submit(submission{ID: id, Name: "test"}, "test"); err != nil {
		c.t.Fatal(err)
	}
	return id
}
