// Package backend is how a cluster gets its nodes: one interface that fits this machine, ssh, Slurm and
// YARN alike. An adapter starts one keeper per node and is the only thing that knows how.
//
// Nouns. A Request says which nodes are wanted and carries the boot document. A Session is the set of
// keepers that a Start brought up; it is the keepers' standard input and output, whatever lies between
// (a pipe, one srun, an ssh channel, a container's stdin). An Event is a line that a keeper printed, or
// something the backend itself learned: a node will go away (Warning), a node went away (Lost).
//
// Ownership. Whoever called Start owns the session and must call Stop or Wait. The session owns its
// goroutines; they are over when Events is closed and Wait has returned.
//
// Files. A node needs one file to begin, the maniple program, and bringing it there is Start's business:
// what Request.Binary names is a file of the caller's machine. Where nodes see the same disk an adapter may
// start it from there, once it has made sure (local: the same machine; slurm: it looks on every node, and
// sends it with sbcast where it is not). Where they do not, the adapter ships it by what the site has: ssh
// copies it over the connection on which the keeper is started, YARN localizes it as a resource of the
// container, which the node caches by content. The boot document is no file (BACK-1). The user's programs
// and data are not shipped: they are found on the nodes, or a gang ends with 127 and names the node.
//
// Guarantees.
//
//	BACK-1: the boot document (and with it the secret) travels on standard input only, or as a named credential of a
//	        container's launch context.
//	BACK-2: when the process that called Start dies, by kill -9 too, keepers of a document with owner
//	        "stdin" see the end of their input and drain; the others live on. YARN's nodes wait for the next master.
//	BACK-3: nothing in this interface assumes a shared directory, a common user name or a shell.
//	BACK-4: Events never blocks a keeper for ever: it is closed only after every keeper has ended.
//
// Limits. Growing a session is Start again with the head's address in the document; releasing a node is
// the head's drain, not the backend's business.
package backend

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Backend starts keepers somewhere.
type Backend interface {
	// Name is the backend's name in messages and in the state directory: "local", "slurm".
	Name() string
	// Start brings up one keeper per node and returns once they are being started; that they run is told
	// by their events. An error means that nothing was left running.
	Start(ctx context.Context, req Request) (Session, error)
}

// Request is what a caller wants brought up.
type Request struct {
	Doc    *bootdoc.Doc
	Nodes  []bootdoc.Node // one keeper for each; empty: the nodes that the backend has (the allocation)
	Head   bool           // one of the keepers hosts the head; which one is up to the backend
	Binary string         // the maniple program, a file here that Start brings to the nodes; "": the running one
	Env    []string       // environment of the keepers; nil: this process's
	Stderr io.Writer      // what keepers print before their log file exists; nil: dropped
}

// Session is a set of running keepers.
type Session interface {
	// Nodes names the nodes in the order in which ranks are given out.
	Nodes() []string
	// Send writes one JSON line to the standard input of every keeper.
	Send(line []byte) error
	// Events gives the keepers' lines and the backend's own news. Closed when all keepers have ended.
	Events() <-chan Event
	// Release lets go of keepers that live on without this process (document without an owner): their
	// standard input is closed, their output no longer read. The session is over afterwards.
	Release() error
	// Wait returns when all keepers have ended: nil, or why the backend says they failed.
	Wait() error
	// Stop asks the keepers to drain, and ends what is left of them when ctx is done.
	Stop(ctx context.Context) error
}

// Anchored is a Session that hangs on a process of this machine, Slurm's srun: when that has ended the
// session is over, wherever the keepers are.
type Anchored interface {
	Anchor() (pid int)
}

// Attached is a Session with a keeper of this process's own that is none of its nodes, YARN's master: programs here
// are clients of that one, which dies with them and with no node.
type Attached interface {
	Attached() Event // its "ready"; waits for it
}

// Kinds of events. The first four are the keepers' own.
const (
	KindHead     = "head"     // the head serves at Addresses
	KindReady    = "ready"    // the node's agent has registered
	KindError    = "error"    // it can't go on: Code and Text
	KindEnd      = "end"      // the keeper is over
	KindText     = "text"     // a line that is no JSON, kept for messages
	KindWarning  = "warning"  // the node will be taken away at Deadline
	KindStopping = "stopping" // the site ends the session: Reason says why, if it does
	KindLost     = "lost"     // the node went without an end: Text is what it or the site said of it, Reason how it ended
)

// Event is one line of news about a node.
type Event struct {
	Kind      string    `json:"event"`
	Node      string    `json:"node,omitempty"`
	Addresses []string  `json:"addresses,omitempty"`
	Agent     uint32    `json:"agent,omitempty"`
	Dir       string    `json:"dir,omitempty"`
	Socket    string    `json:"socket,omitempty"`
	Code      Code      `json:"code,omitempty"`
	Text      string    `json:"text,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Deadline  time.Time `json:"-"`
}

// Code is an exit code ("end") or the name of an error ("error"); keepers write a number or a string.
type Code string

// UnmarshalJSON takes both forms.
func (c *Code) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) != nil {
		s = string(data)
	}
	*c = Code(s)
	return nil
}

// ParseEvent reads a line of a keeper's standard output; what is no JSON object with an event is text.
func ParseEvent(node string, line []byte) Event {
	var ev Event
	if err := json.Unmarshal(line, &ev); err != nil || ev.Kind == "" {
		return Event{Kind: KindText, Node: node, Text: string(line)}
	}
	if ev.Node == "" {
		ev.Node = node
	}
	return ev
}

// HeadLine is the line that tells keepers where the head is, DrainLine the one that ends them.
func HeadLine(addresses []string) []byte {
	line, _ := json.Marshal(map[string][]string{"head": addresses})
	return line
}

// EndLine tells keepers when the site takes their nodes.
func EndLine(end time.Time) []byte {
	line, _ := json.Marshal(map[string]int64{"end_ns": end.UnixNano()})
	return line
}

// DrainNodeLine tells a keeper that its node goes, at a deadline if that is known, or, undo, that it stays: its tasks and actors move away. Its programs go on.
func DrainNodeLine(reason string, deadline time.Time, undo bool) []byte {
	type drain struct {
		Deadline int64  `json:"deadline_ns,omitempty"`
		Reason   string `json:"reason"`
		Undo     bool   `json:"undo,omitempty"`
	}
	d := drain{Reason: reason, Undo: undo}
	if !deadline.IsZero() {
		d.Deadline = deadline.UnixNano()
	}
	line, _ := json.Marshal(map[string]drain{"drain_node": d})
	return line
}

// AbandonLine tells a keeper that another node has its node's place: it ends at once, and alone. The cluster's head, which may hear it, is not asked for anything.
func AbandonLine(reason string) []byte {
	line, _ := json.Marshal(map[string]string{"abandon": reason})
	return line
}

// DrainLine asks keepers to drain until deadline; now: at once.
func DrainLine(reason string, deadline time.Time, now bool) []byte {
	type drain struct {
		Deadline int64  `json:"deadline_ns"`
		Reason   string `json:"reason"`
		Now      bool   `json:"now"`
	}
	line, _ := json.Marshal(map[string]drain{"drain": {deadline.UnixNano(), reason, now}})
	return line
}
