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
//	BOOT-1: the secret is in memory and on the keepers' standard input, nowhere else.
//	BOOT-2: an endpoint file is complete or absent (written beside and renamed), 0600 in 0700 directories.
//	BOOT-3: an endpoint whose keeper is gone is never handed out; it is removed when it is seen.
//	BOOT-4: Up returns a cluster of which all wanted nodes joined, or an error that names those missing
//	        and nothing left running.
package boot

import (
	"context"
	"io"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Options of Up. The zero value is one node on the backend, named "default", that lives on.
type Options struct {
	Backend  backend.Backend
	Name     string // "" : default
	Job      string // the site scheduler's job ID
	Epoch    uint32
	Nodes    []bootdoc.Node // empty: the backend's own
	MinNodes int            // 0: all
	Embedded bool           // ends with this process
	Binary   string

	JoinTimeout time.Duration // 0: 5 minutes
	Grace       time.Duration // 0: 30 s
	Idle        time.Duration // 0: never
	Interfaces  []string
	PortRange   [2]int
	Base        string

	Progress io.Writer                   // "3/4 joined, missing n4"; nil: silent
	Getenv   func(string) string         // nil: os.Getenv
	Now      func() time.Time            // nil: time.Now
	Sleep    func(context.Context, time.Duration) // nil: a timer
}
