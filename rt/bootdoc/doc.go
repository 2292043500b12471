// Package bootdoc is the document that brings a node into a cluster, and the rule for where a node
// keeps its files. A launcher writes the document to the standard input of each keeper; the keeper
// hands it to its agent and head over their socketpairs. It holds the cluster's secret, so it never
// appears in an argument, an environment variable, a log or a file.
package bootdoc

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Version of the document; another one is refused.
const Version = 1

// Doc is the boot document. All keepers of a cluster may be given the same one.
type Doc struct {
	Version int    `json:"version"`
	Cluster string `json:"cluster"` // 32 hex digits, random
	Secret  []byte `json:"secret"`  // 32 random bytes; everything that proves membership is derived from it
	Name    string `json:"name"`    // what users call it: the job ID under Slurm, else the cluster's name
	Job     string `json:"job,omitempty"`
	Epoch   uint32 `json:"epoch,omitempty"` // the job's restart count

	Head     []string `json:"head,omitempty"`      // host:port of the head, for keepers that do not host it; may follow later on stdin
	Expect   []string `json:"expect,omitempty"`    // names of the nodes that will join, in the order that ranks are given out
	MinNodes int      `json:"min_nodes,omitempty"` // 0: all of Expect
	Replaced bool     `json:"replaced,omitempty"`  // whoever starts nodes starts another one, of the same name, for each that is lost

	// With a unix socket here the head has a copy of its journal kept by who listens there, so that another head, elsewhere, can take its
	// place: when its launcher dies its node is left without a word to the others.
	Journal  string        `json:"journal,omitempty"`
	Patience time.Duration `json:"patience_ns,omitempty"` // how long a node that reaches no head goes on; 0: 20 s

	JoinTimeout time.Duration `json:"join_timeout_ns,omitempty"` // 0: 5 minutes
	Grace       time.Duration `json:"grace_ns,omitempty"`        // between TERM and KILL on a drain; 0: 30 s
	Idle        time.Duration `json:"idle_ns,omitempty"`         // drain after so long without a group or client; 0: never

	Owner      string   `json:"owner,omitempty"`      // "stdin": the keeper drains when its standard input ends; "": it lives on
	Base       string   `json:"base,omitempty"`       // parent of all clusters' directories; "": see Base
	Interfaces []string `json:"interfaces,omitempty"` // globs in order of preference; empty: as rt/device finds best
	Loopback   bool     `json:"loopback,omitempty"`   // all nodes are on this machine: listen on 127.0.0.1 only
	Endpoint   string   `json:"endpoint,omitempty"`   // file with the cluster's address, which the head's keeper removes at its end
	PortRange  [2]int   `json:"port_range,omitempty"` // of held ports and of the node's port; zero: see the keeper
	Store      int64    `json:"store,omitempty"`      // bytes of each node's memory that values may take; 0: see the agent

	// Directories of each node for values that its memory has no room for, or, as SpillShared has it, one that nodes share; empty: see the
	// agent, "none": nowhere.
	Spill      []string `json:"spill,omitempty"`
	SpillLimit int64    `json:"spill_limit,omitempty"` // bytes that may lie in them, of each node; 0: as many as they hold
	Fabric     string   `json:"fabric,omitempty"`      // one of Fabrics by which large values go between nodes; "": what is found

	NoHandover bool     `json:"no_handover,omitempty"` // nodes of one machine send one another values as others do
	Clear      []string `json:"clear,omitempty"`       // networks as 10.1.0.0/16 within which values go unencrypted; empty: nowhere

	Node Node `json:"node,omitempty"`
}

// Fabrics are what Doc.Fabric may say: off, and providers of libfabric, of which the last two are never chosen by themselves.
var Fabrics = []string{"off", "verbs", "cxi", "efa", "opx", "tcp", "shm"}

// Node overrides what is detected on the node.
type Node struct {
	Name      string             `json:"name,omitempty"` // "": the host name up to the first dot
	Fake      bool               `json:"fake,omitempty"` // several nodes on one machine: resources are declared, CPUs are not bound
	CPUs      int                `json:"cpus,omitempty"`
	NoCPUs    bool               `json:"no_cpus,omitempty"`  // CPUs is 0 because it has none, whatever is there
	MinCPUs   int                `json:"min_cpus,omitempty"` // so many at least: where there are fewer, programs share those and are not bound; what else there is stays real
	GPUs      int                `json:"gpus,omitempty"`     // declared devices, for fake nodes and tests
	NoGPUs    bool               `json:"no_gpus,omitempty"`  // the same of GPUs
	Memory    int64              `json:"memory,omitempty"`   // bytes
	Resources map[string]float64 `json:"resources,omitempty"`
	Labels    map[string]string  `json:"labels,omitempty"`

	Grant string   `json:"grant,omitempty"` // who granted CPUs and Memory, as "YARN": they count whatever the machine has, CPUs are not bound, and no more GPUs than GPUs are used
	Bare  bool     `json:"bare,omitempty"`  // the node hosts the head and takes no work
	Dir   string   `json:"dir,omitempty"`   // where programs start that name no directory
	Disks []string `json:"disks,omitempty"` // directories of its own, one on each disk, for values that its memory has no room for, unless Spill names others
	Env   []string `json:"env,omitempty"`   // variables of this node, which programs have instead of those that they were asked for with
}

// What stands before directories for values that all nodes see.
const (
	SpillShared = "shared:"
	SpillHDFS   = "hdfs://"
	SpillS3     = "s3://"
)

// SpillDirectory tells whether something may be among Spill.
func SpillDirectory(name string) bool {
	if bucket, found := strings.CutPrefix(name, SpillS3); found {
		return bucket != "" && bucket[0] != '/' && !strings.ContainsAny(bucket, "@?#") // no credentials: whoever lists processes would read them
	}
	return filepath.IsAbs(strings.TrimPrefix(name, SpillShared)) || strings.HasPrefix(name, SpillHDFS)
}

// Parse reads a document and checks it.
func Parse(data []byte) (*Doc, error) {
	d := new(Doc)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("bootdoc: not a boot document: %w", err)
	}
	return d, d.Check()
}

// Check says what is wrong with the document.
func (d *Doc) Check() error {
	switch {
	case d.Version != Version:
		return fmt.Errorf("bootdoc: version %d, this binary speaks %d: use the same maniple on all nodes", d.Version, Version)
	case len(d.Cluster) != 32:
		return fmt.Errorf("bootdoc: cluster ID %q does not have 32 digits", d.Cluster)
	case len(d.Secret) != 32:
		return fmt.Errorf("bootdoc: the secret has %d bytes, not 32", len(d.Secret))
	case d.Name == "":
		return fmt.Errorf("bootdoc: no name")
	case !fileName(d.Name):
		return fmt.Errorf("bootdoc: the cluster's name %q can't be a directory's name: no slash, no dot in front, at most 255 bytes", d.Name)
	case d.Node.Name != "" && !fileName(d.Node.Name):
		return fmt.Errorf("bootdoc: the node's name %q can't be a directory's name: no slash, no dot in front, at most 255 bytes", d.Node.Name)
	case d.PortRange != [2]int{} && (d.PortRange[0] < 1 || d.PortRange[1] > 65535 || d.PortRange[0] > d.PortRange[1]):
		return fmt.Errorf("bootdoc: %d-%d is no range of ports", d.PortRange[0], d.PortRange[1])
	case d.Store < 0 || d.SpillLimit < 0:
		return fmt.Errorf("bootdoc: %d and %d bytes are no sizes of an object store and its files", d.Store, d.SpillLimit)
	case !slices.Equal(d.Spill, []string{"none"}) && slices.ContainsFunc(d.Spill, func(dir string) bool { return !SpillDirectory(dir) }):
		return fmt.Errorf("bootdoc: %q: directories for values begin with a slash, with %s and a slash, with %s, or with %s and a bucket", d.Spill, SpillShared, SpillHDFS, SpillS3)
	case d.Fabric != "" && !slices.Contains(Fabrics, d.Fabric):
		return fmt.Errorf("bootdoc: %q is no fabric; there are %s", d.Fabric, strings.Join(Fabrics, ", "))
	case d.Owner != "" && d.Owner != "stdin":
		return fmt.Errorf("bootdoc: owner %q is neither empty nor stdin", d.Owner)
	}
	_, err := Networks(d.Clear)
	return err
}

// Networks reads networks, as of Doc.Clear. One that has every address names none.
func Networks(list []string) (networks []netip.Prefix, err error) {
	for _, text := range list {
		n, err := netip.ParsePrefix(text)
		if err != nil || n.Bits() == 0 {
			return nil, fmt.Errorf("bootdoc: %q is no network such as 10.1.0.0/16", text)
		}
		networks = append(networks, n.Masked())
	}
	return networks, nil
}
