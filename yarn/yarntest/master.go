package yarntest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

type resourceRequest struct {
	Priority yarn.Priority `pb:"1"`
	Name     string        `pb:"2"`
	Resource yarn.Resource `pb:"3"`
	Count    int32         `pb:"4"`
	Relax    bool          `pb:"5,default=1"`
	Ask      int64         `pb:"8,default=-1"`
}

type allocateRequest struct {
	Asks      []resourceRequest  `pb:"1"`
	Release   []yarn.ContainerID `pb:"2"`
	Response  int32              `pb:"4"`
	Progress  float32            `pb:"5"`
	Blacklist struct {
		Add    []string `pb:"1"`
		Remove []string `pb:"2"`
	} `pb:"3"`
}

type allocateResponse struct {
	Response  int32                  `pb:"2"`
	Granted   []yarn.Container       `pb:"3"`
	Ended     []yarn.ContainerStatus `pb:"4"`
	Headroom  yarn.Resource          `pb:"5"`
	Nodes     []yarn.Node            `pb:"6"`
	NodeCount int32                  `pb:"7"`
	Preempt   *preemption            `pb:"8"`
	NMTokens  []nmToken              `pb:"9"`
	Token     *yarn.Token            `pb:"12"`
	Previous  []yarn.Container       `pb:"17"`
}

type preemption struct {
	Strict struct {
		Containers []preempted `pb:"1"`
	} `pb:"1"`
}

type preempted struct {
	ID yarn.ContainerID `pb:"1"`
}

type nmToken struct {
	Node  yarn.NodeID `pb:"1"`
	Token yarn.Token  `pb:"2"`
}

// masterIdentifier is what an AMRM token's identifier says.
type masterIdentifier struct {
	Attempt yarn.AttemptID `pb:"1"`
	Key     int32          `pb:"2"`
}

func secret(of []byte) []byte { return fmt.Appendf(nil, "secret of %x", of) }

func (c *Cluster) masterToken(a *app) yarn.Token {
	id := proto.Marshal(masterIdentifier{a.attempt, int32(a.key)})
	return yarn.Token{Identifier: id, Password: secret(id), Kind: yarn.KindAMRM}
}

// masterPassword knows the current token of every attempt (TEST-1).
func (c *Cluster) masterPassword(identifier []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.byToken(identifier)
	return secret(identifier), a != nil && string(c.masterToken(a).Identifier) == string(identifier)
}

func (c *Cluster) byToken(identifier []byte) *app {
	var m masterIdentifier
	if proto.Unmarshal(identifier, &m) != nil {
		return nil
	}
	a, err := c.app(m.Attempt.Application)
	if err != nil {
		return nil
	}
	return a
}

var masterMethods = map[string]method{
	"registerApplicationMaster": func(c *Cluster, r rpc.Request) (any, error) {
		a := c.byToken(r.Token)
		var m struct {
			Host string `pb:"1"`
			Port int32  `pb:"2"`
			URL  string `pb:"3"`
		}
		if err := r.Read(&m); err != nil {
			return nil, err
		}
		if a.report.State.Over() {
			return nil, thrown("ApplicationAttemptNotFoundException", "Application attempt %s doesn't exist in ApplicationMasterService cache.", a.attempt)
		}
		a.registered, a.response = true, 0
		a.report.State, a.report.Host, a.report.Port, a.report.OriginalURL = yarn.StateRunning, m.Host, m.Port, m.URL
		out := struct {
			Max        yarn.Resource       `pb:"1"`
			Containers []yarn.Container    `pb:"4"`
			Queue      string              `pb:"5"`
			Tokens     []nmToken           `pb:"6"`
			Types      []yarn.ResourceType `pb:"9"`
		}{Max: c.max(), Queue: Queue, Types: c.types()}
		for _, k := range a.containers {
			if k.ID.Attempt != a.attempt && k.status.State == yarn.ContainerRunning && !k.node.away {
				out.Containers = append(out.Containers, k.Container)
				out.Tokens = append(out.Tokens, nmToken{k.node.ID, k.node.token(a)})
				a.told[k.node.ID] = true
			}
		}
		return out, nil
	},
	"allocate": func(c *Cluster, r rpc.Request) (any, error) {
		a := c.byToken(r.Token)
		var m allocateRequest
		if err := r.Read(&m); err != nil {
			return nil, err
		}
		switch {
		case a.report.State.Over():
			return nil, thrown("ApplicationAttemptNotFoundException", "Application attempt %s doesn't exist in ApplicationMasterService cache.", a.attempt)
		case !a.registered:
			return nil, thrown("ApplicationMasterNotRegisteredException", "AM is not registered for known application attempt: %s", a.attempt)
		case m.Response == a.response-1:
			return a.last, nil
		case m.Response != a.response:
			return nil, thrown("InvalidApplicationMasterRequestException", "Invalid responseId in AllocateRequest from application attempt: %s, expect responseId to be %d, but get %d", a.attempt, a.response, m.Response)
		}
		for _, k := range m.Asks {
			if k.Resource.MemoryMB > c.max().MemoryMB {
				return nil, thrown("InvalidResourceRequestException", "Invalid resource request! Cannot allocate containers as requested resource is greater than maximum allowed allocation.")
			}
		}
		return c.heartbeat(a, m), nil
	},
	"finishApplicationMaster": func(c *Cluster, r rpc.Request) (any, error) {
		a := c.byToken(r.Token)
		var m struct {
			Diagnostics string           `pb:"1"`
			Final       yarn.FinalStatus `pb:"3"`
		}
		if err := r.Read(&m); err != nil {
			return nil, err
		}
		if !a.registered && !a.report.State.Over() {
			return nil, thrown("ApplicationMasterNotRegisteredException", "Application Master is trying to unregister before registering for: %s", a.attempt.Application)
		}
		done := a.report.State.Over() // the first call only begins it
		c.over(a, yarn.StateFinished, m.Final, m.Diagnostics)
		return struct {
			Done bool `pb:"1"`
		}{done}, nil
	},
}

// heartbeat books what a master says, grants what fits, and makes the answer.
func (c *Cluster) heartbeat(a *app, m allocateRequest) allocateResponse {
	a.report.Progress = m.Progress
	for _, k := range m.Asks {
		i := slices.IndexFunc(a.asks, func(o resourceRequest) bool {
			return o.Priority == k.Priority && o.Ask == k.Ask && o.Name == k.Name && o.Resource.String() == k.Resource.String()
		})
		if i < 0 {
			a.asks = append(a.asks, k)
		} else {
			a.asks[i] = k
		}
	}
	for _, id := range m.Release {
		if other, k := c.find(id); other == a {
			c.end(a, k, yarn.ExitAborted)
		}
	}
	out := a.news
	a.news = allocateResponse{}
	for i := range a.asks {
		if a.asks[i].Name == "*" {
			for a.asks[i].Count > 0 {
				k := c.grant(a, a.asks[i])
				if k == nil {
					break
				}
				out.Granted = append(out.Granted, k.Container)
				if !a.told[k.node.ID] {
					a.told[k.node.ID] = true
					out.NMTokens = append(out.NMTokens, nmToken{k.node.ID, k.node.token(a)})
				}
			}
		}
	}
	a.response++
	out.Response, out.NodeCount = a.response, int32(len(c.nodes))
	for _, n := range c.nodes {
		out.Headroom.MemoryMB += n.Size.MemoryMB - n.used.MemoryMB
		out.Headroom.VCores += n.Size.VCores - n.used.VCores
	}
	a.last = out
	return out
}

// grant finds a node for one container of an ask, and lowers all of the ask's counts (TEST-2).
func (c *Cluster) grant(a *app, any resourceRequest) *container {
	var hosts []string
	for _, k := range a.asks {
		if k.Priority == any.Priority && k.Ask == any.Ask && k.Count > 0 && k.Name != "*" && k.Name[0] != '/' {
			hosts = append(hosts, k.Name)
		}
	}
	size := any.Resource
	if c.alone {
		size = yarn.Resource{MemoryMB: (size.MemoryMB + 1023) &^ 1023, VCores: 1}
	}
	for pass := range 2 { // first where it is asked for
		for _, n := range c.nodes {
			named := slices.Contains(hosts, n.ID.Host)
			if n.away || pass == 0 && !named || pass == 1 && !any.Relax || n.Size.MemoryMB-n.used.MemoryMB < size.MemoryMB || !c.alone && n.Size.VCores-n.used.VCores < size.VCores {
				continue
			}
			n.used.MemoryMB += size.MemoryMB
			n.used.VCores += size.VCores
			for i := range a.asks {
				if k := &a.asks[i]; k.Priority == any.Priority && k.Ask == any.Ask && k.Count > 0 && (k.Name == "*" || k.Name[0] == '/' || k.Name == n.ID.Host) {
					k.Count--
				}
			}
			a.next++
			id := yarn.ContainerID{Attempt: a.attempt, Number: a.next}
			k := &container{node: n, status: yarn.ContainerStatus{ID: id, State: yarn.ContainerNew, ExitCode: yarn.ExitInvalid}}
			k.Container = yarn.Container{
				ID: id, Node: n.ID, Resource: size, Priority: any.Priority, Ask: any.Ask,
				Token: yarn.Token{Identifier: proto.Marshal(id), Password: binary.BigEndian.AppendUint64(nil, uint64(a.next)), Kind: "ContainerToken"},
			}
			a.containers = append(a.containers, k)
			return k
		}
	}
	return nil
}
