package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
)

// EndpointVersion is the version of the endpoint file.
const EndpointVersion = 1

// Endpoint says how to reach a cluster. It holds a client's credential, never the cluster's secret.
type Endpoint struct {
	Version   int       `json:"version"`
	Kind      string    `json:"kind"` // of the backend: local, slurm
	Name      string    `json:"name"` // what users call it: the job ID under Slurm
	Cluster   string    `json:"cluster"`
	Addresses []string  `json:"addresses"`         // of the head's node, for TCP with TLS
	Socket    string    `json:"socket,omitempty"`  // of the first node, if it is on Host
	Dir       string    `json:"dir,omitempty"`     // the cluster's directory on its nodes
	Nodes     []string  `json:"nodes"`             // in the order of ranks
	Host      string    `json:"host,omitempty"`    // where Socket and Pid are
	Boot      string    `json:"boot_id,omitempty"` // of Host: a pid means nothing after a restart
	Pid       int       `json:"pid,omitempty"`     // of the first node's keeper, else of what the cluster hangs on
	Start     uint64    `json:"start,omitempty"`   // clock ticks after boot at which it started
	Since     time.Time `json:"since"`
	Epoch     uint32    `json:"epoch,omitempty"` // how often the Slurm job had been put back into the queue
	Site      string    `json:"site,omitempty"`  // what Slurm calls itself: one home may serve several
	CA        string    `json:"ca,omitempty"`
	Cert      string    `json:"cert,omitempty"`
	Key       string    `json:"key,omitempty"`

	Access *yarnbackend.Access `json:"access,omitempty"` // of a YARN application, whose addresses YARN and its master say

	path string // of the file it came from
}

func newEndpoint(kind string, doc *bootdoc.Doc, j *join) (*Endpoint, error) {
	ep := &Endpoint{
		Version: EndpointVersion, Kind: kind, Name: doc.Name, Cluster: doc.Cluster,
		Addresses: j.addresses, Since: j.started.UTC().Truncate(time.Millisecond),
	}
	ca, cert, key, err := gang.ClientCredential(doc.Cluster, doc.Secret)
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	ep.CA, ep.Cert, ep.Key = string(ca), string(cert), string(key)
	if a, ok := j.session.(backend.Attached); ok {
		ev := a.Attached()
		ep.Socket, ep.Host, ep.Boot = ev.Socket, local.HostName(), bootID()
		ep.Pid, ep.Start = keeperOf(ev.Dir)
	}
	for _, name := range j.want {
		for _, ev := range j.ready {
			if ev.Node != name {
				continue
			}
			ep.Nodes = append(ep.Nodes, name)
			if pid, start := keeperOf(ev.Dir); ep.Socket == "" && pid != 0 {
				ep.Socket, ep.Host, ep.Boot, ep.Pid, ep.Start = ev.Socket, local.HostName(), bootID(), pid, start
			}
		}
	}
	if kind == "slurm" {
		ep.Epoch, ep.Site = doc.Epoch, j.o.Getenv("SLURM_CLUSTER_NAME")
	}
	if a, ok := j.session.(backend.Anchored); ok && ep.Pid == 0 {
		if p, err := sweep.Read(a.Anchor()); err == nil {
			ep.Host, ep.Boot, ep.Pid, ep.Start = local.HostName(), bootID(), p.PID, p.Started
		}
	}
	return ep, nil
}

// keeperOf is the keeper of a node's directory, if both are on this machine.
func keeperOf(dir string) (pid int, start uint64) {
	for _, n := range liveNodes(filepath.Dir(dir)) {
		if n.Dir == dir {
			return n.Pid, n.Start
		}
	}
	return 0, 0
}

func bootID() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // only compared
	return string(data[:min(len(data), 36)])
}

// dead tells whether the cluster is gone for certain. One on another host never is.
func (ep *Endpoint) dead() bool {
	if ep.Pid == 0 || ep.Host != local.HostName() {
		return false
	}
	return ep.Boot != bootID() || !alive(ep.Pid, ep.Start)
}

// earlier tells whether it is of an earlier run of the Slurm job that this is: one that was put back into
// the queue, or had the same ID long ago. What could not remove it was killed, or its node was lost.
func (ep *Endpoint) earlier(getenv func(string) string) bool {
	if ep.Kind != "slurm" || ep.Name != JobName(getenv) {
		return false
	}
	restarts, _ := strconv.ParseUint(getenv("SLURM_RESTART_COUNT"), 10, 32) // not set: the first run, or not told
	began, _ := strconv.ParseInt(getenv("SLURM_JOB_START_TIME"), 10, 64)    // since 24.05
	return uint32(restarts) > ep.Epoch || ep.Since.Add(skew).Unix() < began
}

// skew is how far the clocks of a node and of the controller may be apart.
const skew = time.Minute

// file is where the endpoint belongs under a state directory.
func (ep *Endpoint) file(state string) string { return endpointFile(state, ep.Kind, ep.Name, ep.Host) }

func endpointFile(state, kind, name, host string) string {
	if kind == "local" {
		name += "@" + host
	}
	return filepath.Join(state, "jobs", kind, name, "endpoint.json")
}

// Note writes the endpoint of an application that was submitted: its ID, and what proves its user to it.
func Note(getenv func(string) string, application, cluster string, secret []byte) error {
	state, err := StateDir(getenv)
	if err != nil {
		return err
	}
	ep := &Endpoint{Version: EndpointVersion, Kind: "yarn", Name: application, Cluster: cluster, Nodes: []string{}, Since: time.Now().UTC().Truncate(time.Millisecond)}
	ca, cert, key, err := gang.ClientCredential(cluster, secret)
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	ep.CA, ep.Cert, ep.Key = string(ca), string(cert), string(key)
	if ep.Access, err = yarnbackend.NewAccess(cluster, secret); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	ep.path = ep.file(state)
	return ep.write(state)
}

// Publish writes the endpoint file, and says where.
func (c *Cluster) Publish(getenv func(string) string) (path string, err error) {
	state, err := StateDir(getenv)
	if err != nil {
		return "", err
	}
	c.Endpoint.path = c.Endpoint.file(state)
	return c.Endpoint.path, c.Endpoint.write(state)
}

// Announce publishes the endpoint of an embedded cluster to the user's commands on other machines: in the
// user's own state directory or nowhere, since those of this job find it by its directory on the node.
func (c *Cluster) Announce(getenv func(string) string) error {
	state, ok := userState(getenv)
	if !ok {
		return errors.New("boot: neither HOME nor XDG_STATE_HOME is set")
	}
	c.Endpoint.path = c.Endpoint.file(state)
	return c.Endpoint.write(state)
}

// Withdraw takes back what Announce wrote, unless another cluster has written there since.
func (c *Cluster) Withdraw() {
	bootdoc.Withdraw(c.Endpoint.path, c.Endpoint.Cluster)
}

func (ep *Endpoint) write(state string) error {
	data, err := json.MarshalIndent(ep, "", "  ")
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	for range 3 { // the end of another cluster may take an empty directory away in between
		if err = makePrivateBelow(filepath.Dir(ep.path), state); err == nil {
			err = writeFile(ep.path, append(data, '\n'))
		}
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return err
}

// writeFile writes beside and renames, so that a reader finds the old file or the new one.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".endpoint-*") // 0600
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("boot: %w", err)
	}
	return nil
}

// Remove takes the endpoint's file away, and those of its directories that are empty then: the cluster's,
// its kind's, jobs, and the state directory.
func (ep *Endpoint) Remove() {
	if ep.path == "" {
		return
	}
	os.Remove(ep.path)
	bootdoc.Tidy(ep.path)
}

func readEndpoint(path string) (*Endpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ep := &Endpoint{path: path}
	if err := json.Unmarshal(data, ep); err != nil {
		return nil, fmt.Errorf("boot: %s: %w; it is broken, remove it", path, err)
	}
	if ep.Version != EndpointVersion {
		return nil, fmt.Errorf("boot: %s: version %d, this maniple knows %d; use the maniple that brought the cluster up", path, ep.Version, EndpointVersion)
	}
	return ep, nil
}

// Here tells whether the cluster's socket is on this machine.
func (ep *Endpoint) Here() bool { return ep.Socket != "" && ep.Host == local.HostName() }
