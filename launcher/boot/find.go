package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/launcher/backend/local"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// ErrNone means that no cluster was found.
var ErrNone = errors.New("no cluster is up")

// Find says how to reach the cluster that a command means: the one called name, else that of MANIPLE_ADDRESS (a rank's own cluster, or one that the user
// has named for all programs), else that of the Slurm job this runs in, else the default one.
func Find(getenv func(string) string, name string) (*Endpoint, error) {
	if address := getenv("MANIPLE_ADDRESS"); address != "" && name == "" {
		if CheckName(address) != nil {
			return fromAddress(address)
		}
		name = address
	}
	switch {
	case name != "":
		if err := CheckName(name); err != nil {
			return nil, err
		}
	case getenv("SLURM_JOB_ID") != "":
		name = JobName(getenv)
	default:
		name = DefaultName
	}
	if ep := onThisNode(getenv, name); ep != nil {
		return ep, nil
	}
	for _, state := range StateDirs(getenv) {
		for _, file := range []string{
			filepath.Join(state, "jobs", "local", name+"@"+local.HostName(), "endpoint.json"),
			filepath.Join(state, "jobs", "slurm", name, "endpoint.json"),
			filepath.Join(state, "jobs", "yarn", name, "endpoint.json"),
		} {
			ep, err := readEndpoint(file)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, err
			case ep.dead() || ep.earlier(getenv):
				ep.Remove() // BOOT-3
			default:
				return ep, nil
			}
		}
	}
	return nil, fmt.Errorf("boot: %s: %w", name, ErrNone)
}

// JobName is what a cluster inside a Slurm job is called: the job's ID.
func JobName(getenv func(string) string) string { return getenv("SLURM_JOB_ID") }

// fromAddress reads MANIPLE_ADDRESS: the path of an agent's socket, with or without "unix:".
func fromAddress(address string) (*Endpoint, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(address, "unix:"), "//")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("boot: MANIPLE_ADDRESS=%s is neither the path of a socket nor a cluster's name; unset it to use another cluster", address)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("boot: MANIPLE_ADDRESS=%s: %w; its cluster is gone: unset it to use another", address, ErrNone)
	}
	dir := filepath.Dir(filepath.Dir(path))
	return &Endpoint{Version: EndpointVersion, Kind: "local", Name: filepath.Base(dir), Dir: dir, Socket: path, Host: local.HostName()}, nil
}

// onThisNode finds a cluster by its directory on this node, for which no home directory is needed.
func onThisNode(getenv func(string) string, name string) *Endpoint {
	base, err := bootdoc.Base(getenv)
	if err != nil {
		return nil
	}
	dir := filepath.Join(base, name)
	if bootdoc.CheckPrivate(base) != nil || bootdoc.CheckPrivate(dir) != nil {
		return nil
	}
	nodes := liveNodes(dir)
	if len(nodes) == 0 {
		return nil
	}
	if _, err := os.Stat(nodes[0].Socket); err != nil {
		return nil
	}
	kind := "local"
	switch {
	case getenv("SLURM_JOB_ID") == name:
		kind = "slurm"
	case strings.HasPrefix(name, "application_"):
		return nil // one node of several, perhaps: its own note says how to reach all
	}
	return &Endpoint{
		Version: EndpointVersion, Kind: kind, Name: name, Dir: dir, Socket: nodes[0].Socket, Nodes: nodeNames(nodes),
		Host: local.HostName(), Boot: bootID(), Pid: nodes[0].Pid, Start: nodes[0].Start,
	}
}

// ID is the cluster's ID as far as its endpoint says, "" where none does: the first keeper here has to be the one that is noted there.
func (ep *Endpoint) ID(getenv func(string) string) string {
	if ep.Cluster != "" {
		return ep.Cluster
	}
	for _, state := range StateDirs(getenv) {
		note, err := readEndpoint(endpointFile(state, ep.Kind, ep.Name, ep.Host))
		if err == nil && ep.Pid != 0 && note.Pid == ep.Pid && note.Start == ep.Start && note.Host == ep.Host && note.Boot == ep.Boot {
			return note.Cluster
		}
	}
	return ""
}

// List gives all clusters of this user that can be seen from here, this node's first.
func List(getenv func(string) string) []*Endpoint {
	var list []*Endpoint
	have := func(name string) bool {
		return slices.ContainsFunc(list, func(ep *Endpoint) bool { return ep.Name == name })
	}
	if base, err := bootdoc.Base(getenv); err == nil {
		entries, _ := os.ReadDir(base) // an absent one has no clusters
		for _, e := range entries {
			if e.Name()[0] == '.' {
				continue
			}
			if ep := onThisNode(getenv, e.Name()); ep != nil {
				list = append(list, ep)
			}
		}
	}
	for _, state := range StateDirs(getenv) {
		files, _ := filepath.Glob(filepath.Join(state, "jobs", "*", "*", "endpoint.json")) // the pattern is valid
		for _, file := range files {
			ep, err := readEndpoint(file)
			switch {
			case err != nil || have(ep.Name):
			case ep.dead() || ep.earlier(getenv):
				ep.Remove()
			case ep.Kind != "local" || ep.Host == local.HostName():
				list = append(list, ep)
			}
		}
	}
	return list
}
