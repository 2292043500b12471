package yarntest

import (
	"bytes"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

// nodeIdentifier is what an NMToken's identifier says.
type nodeIdentifier struct {
	Attempt yarn.AttemptID `pb:"1"`
	Node    yarn.NodeID    `pb:"2"`
}

func (n *Node) token(a *app) yarn.Token {
	id := proto.Marshal(nodeIdentifier{a.attempt, n.ID})
	return yarn.Token{Identifier: id, Password: secret(id), Kind: yarn.KindNM, Service: n.ID.String()}
}

// password knows the tokens that are for this node (TEST-1).
func (n *Node) password(identifier []byte) ([]byte, bool) {
	var m nodeIdentifier
	err := proto.Unmarshal(identifier, &m)
	return secret(identifier), err == nil && m.Node == n.ID
}

// Drop breaks the node's connections.
func (n *Node) Drop() { n.server.Drop() }

// SetStarting makes the node say that it is not ready yet.
func (n *Node) SetStarting(on bool) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.starting = on
}

// SetRefusing makes the node refuse every container.
func (n *Node) SetRefusing(on bool) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.refusing = on
}

// SetAway makes the ResourceManager know nothing of the node, as one that was started anew before the node has reported. When it is
// back, masters are told of what goes on there of attempts before theirs.
func (n *Node) SetAway(on bool) {
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.away = on; on {
		return
	}
	for _, a := range c.apps {
		for _, k := range a.containers {
			if k.node == n && k.ID.Attempt != a.attempt && k.status.State == yarn.ContainerRunning {
				a.news.Previous = append(a.news.Previous, k.Container)
				if !a.told[n.ID] {
					a.told[n.ID] = true
					a.news.NMTokens = append(a.news.NMTokens, nmToken{n.ID, n.token(a)})
				}
			}
		}
	}
}

type failure struct {
	ID        yarn.ContainerID `pb:"1"`
	Exception struct {
		Message string `pb:"1"`
		Class   string `pb:"3"`
	} `pb:"2"`
}

func failed(id yarn.ContainerID, message string) (f failure) {
	f.ID, f.Exception.Message, f.Exception.Class = id, message, "org.apache.hadoop.yarn.exceptions.YarnException"
	return f
}

type containerIDs struct {
	IDs []yarn.ContainerID `pb:"1"`
}

func (n *Node) methods() map[string]method {
	return map[string]method{"startContainers": n.start, "getContainerStatuses": n.statuses, "stopContainers": n.stop}
}

func (n *Node) start(c *Cluster, r rpc.Request) (any, error) {
	var m struct {
		Starts []struct {
			Launch yarn.LaunchContext `pb:"1"`
			Token  yarn.Token         `pb:"2"`
		} `pb:"1"`
	}
	if err := r.Read(&m); err != nil {
		return nil, err
	}
	if n.starting {
		return nil, thrown("NMNotYetReadyException", "Rejecting new containers as NodeManager has not yet connected with ResourceManager")
	}
	var out struct {
		Done   []yarn.ContainerID `pb:"2"`
		Failed []failure          `pb:"3"`
	}
	for _, s := range m.Starts {
		var id yarn.ContainerID
		if err := proto.Unmarshal(s.Token.Identifier, &id); err != nil {
			return nil, err
		}
		_, k := c.find(id)
		switch {
		case n.refusing || k == nil || k.node != n || !bytes.Equal(k.Token.Password, s.Token.Password):
			out.Failed = append(out.Failed, failed(id, "Unauthorized request to start container."))
		case k.status.State != yarn.ContainerNew:
			out.Failed = append(out.Failed, failed(id, "Unauthorized request to start container. \nAttempt to relaunch the same container with id "+id.String()+"."))
		default:
			k.launch, k.status.State = s.Launch, yarn.ContainerRunning
			out.Done = append(out.Done, id)
		}
	}
	return out, nil
}

func (n *Node) statuses(c *Cluster, r rpc.Request) (any, error) {
	var m containerIDs
	if err := r.Read(&m); err != nil {
		return nil, err
	}
	var out struct {
		Status []yarn.ContainerStatus `pb:"1"`
		Failed []failure              `pb:"2"`
	}
	for _, id := range m.IDs {
		if _, k := c.find(id); k != nil && k.node == n && k.status.State != yarn.ContainerNew {
			out.Status = append(out.Status, k.status)
		} else {
			out.Failed = append(out.Failed, failed(id, "Container "+id.String()+" is not handled by this NodeManager"))
		}
	}
	return out, nil
}

func (n *Node) stop(c *Cluster, r rpc.Request) (any, error) {
	var m containerIDs
	if err := r.Read(&m); err != nil {
		return nil, err
	}
	var out struct {
		Done   []yarn.ContainerID `pb:"1"`
		Failed []failure          `pb:"2"`
	}
	for _, id := range m.IDs {
		if a, k := c.find(id); k != nil && k.node == n {
			c.end(a, k, yarn.ExitByMaster)
			out.Done = append(out.Done, id)
		} else {
			out.Failed = append(out.Failed, failed(id, "Container "+id.String()+" is not handled by this NodeManager"))
		}
	}
	return out, nil
}
