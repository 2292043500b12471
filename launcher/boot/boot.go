// Package boot brings a cluster up on a backend and finds one that is up.
//
// Nouns. Up makes the boot document, starts keepers, relays the head's address and waits until all nodes
// have joined. A Cluster is what came of it, held by the process that started it. An Endpoint is the
// note that others find it by: a file in the user's state directory, 0600, without the cluster's secret.
//
// Ownership. An embedded cluster (Options.Embedded) belongs to the process: the keepers' standard input
// is a pipe from it, so that its death in any form drains them. A detached one belongs to nobody; it
// ends by `maniple down`, a drain, or a signal to its keepers.
//
// Guarantees.
//
//	BOOT-1: the secret is in memory and on the keepers' standard input; Share is the one exception.
//	BOOT-2: an endpoint file is complete or absent (written beside and renamed), 0600 in 0700 directories.
//	BOOT-3: an endpoint whose keeper is gone is never handed out; it is removed when it is seen.
//	BOOT-4: Up returns a cluster of which all wanted nodes joined, or an error that names those missing
//	        and nothing left running.
//	BOOT-5: two clusters of one name cannot be up at once on a machine: the second Up says so.
//
// Limits. Whether a keeper on another host lives is not known here; such an endpoint is handed out and
// the connection decides.
package boot

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// DefaultName is the name of a cluster that was given none.
const DefaultName = "default"

// Options of Up. Backend is needed; the zero value of the rest is one node, named "default", that lives on.
type Options struct {
	Backend  backend.Backend
	Name     string // "": default
	Job      string // the site scheduler's job ID
	Epoch    uint32
	Nodes    []bootdoc.Node // empty: the backend's own
	MinNodes int            // 0: all
	Embedded bool           // ends with this process
	Cluster  string         // 32 hex digits, with Secret: made by who submitted; "": made here
	Secret   []byte
	Loopback bool // all nodes are on this machine
	Binary   string

	JoinTimeout time.Duration // 0: 5 minutes
	Grace       time.Duration // 0: 30 s
	Idle        time.Duration // 0: never
	Interfaces  []string
	PortRange   [2]int
	Store       int64    // bytes of each node's memory for values; 0: 30% of it
	SpillLimit  int64    // bytes on disk, of each node; 0: as many as that holds
	Spill       []string // directories for what it has no room for; empty: the node's own, "none": nowhere
	NoHandover  bool     // nodes of one machine send one another values by the network
	Clear       []string // networks within which values go unencrypted
	Fabric      string   // by which values go between nodes, one of bootdoc.Fabrics; "": what is found
	Base        string

	// Expect names nodes whose keepers others start, with the document that Share is given once the head
	// serves. Up does not wait for them; a gang that needs them does.
	Expect []string
	Share  func(*bootdoc.Doc) error

	Progress io.Writer           // "3/4 joined, missing n4"; nil: silent
	Getenv   func(string) string // nil: os.Getenv
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.JoinTimeout == 0 {
		o.JoinTimeout = 5 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	return o
}

// NewDoc makes a boot document with a fresh identity and secret.
func NewDoc(name string) (*bootdoc.Doc, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	cluster, secret := make([]byte, 16), make([]byte, 32)
	rand.Read(cluster) // never fails: it ends the program instead
	rand.Read(secret)
	return &bootdoc.Doc{Version: bootdoc.Version, Cluster: hex.EncodeToString(cluster), Secret: secret, Name: name}, nil
}

// CheckName refuses names that cannot be a directory of their own.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("boot: cluster name %q: it has to be 1 to 64 characters and not begin with . or -", name)
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '+':
		default:
			return fmt.Errorf("boot: cluster name %q: %q cannot be in it; use letters, digits, - _ . +", name, c)
		}
	}
	return nil
}

// FakeNodes declares n nodes on this machine, n1 to nN, each with what node has.
func FakeNodes(n int, node bootdoc.Node) []bootdoc.Node {
	list := make([]bootdoc.Node, n)
	for i := range list {
		list[i] = node
		list[i].Fake = true
		list[i].Name = fmt.Sprintf("n%d", i+1)
	}
	return list
}
