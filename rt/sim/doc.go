// Package sim is a whole cluster in one goroutine: the head, the agents and their links as they are,
// keepers, programs, clients and the network as models, on one heap of events in virtual time.
//
// The nouns. A Cluster holds everything. A Node is a machine: a keeper that starts an agent (and, on
// node 0, the head) again when it dies, and the programs that it runs. A Client is what `maniple
// run` is: it attaches to its node's agent, creates a gang, takes its output and learns its end. A Driver is a program that
// submits tasks, makes actors and groups, puts, gets, waits, cancels and kills; its workers are models, too. The
// network (Shape) delays, loses and cuts what travels; partitions part it. Faults are methods that
// may be called at any virtual time.
//
// What runs is rt/head.Core, rt/agent.Core with the agent's desk and its rt/agent/work.Core, and transport.LinkCore, with real
// frames between them: every message is marshalled, framed, fragmented, lost, resent and unmarshalled. What is a model is what
// has no core: the shells around those cores, which do what the real ones do in the same order. Of agents the shell of the
// loop's core is one; the desk, which asks the head for what tasks use of nodes and lends it to other agents, is as it is
// (agent.Simulated).
//
// Events are ordered by (time, a number drawn from the seed, sequence), so one seed gives one history
// and another seed another. Hash digests the history: what happened, when, and the bytes of every
// frame. Nothing here reads a clock, starts a goroutine or ranges over a map where order could show.
// Programs that want to play with a cluster of any size can use the package outside tests.
//
//	SIM-1: the same seed and the same calls give the same Hash.
//	SIM-2: Check finds what no cluster may do: ends that differ or are missing, a ledger that does
//	       not balance, a node that runs more than it has, output with gaps, a dead number admitted, an honest
//	       process refused.
//
// Ownership: a Cluster belongs to one goroutine.
//
// Limits: no disks, no Slurm, no input, no memory that processes share: all values go inside frames; TLS and the handshake of certificates are taken as done.
package sim
