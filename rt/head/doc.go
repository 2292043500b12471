// Package head is the cluster's head: who belongs to it, who holds what, and what became of it.
//
// The Core decides. It is a plain struct: events in, effects out, the time an argument; it opens no
// socket, starts no goroutine and reads no clock, so the simulator runs a thousand of its hours in a
// second and a crash can be replayed. Main is the thin shell around it: a process under a keeper that
// owns sockets, links, the journal and the clock.
//
// A *member* is one run of one node's agent, named by a number that is never used again. A *node* is
// a keeper; it outlives its agents. A *group* is a placement group: bundles of resources on nodes,
// with or without a *gang* of programs on them. An *incarnation* is one attempt at a group. A *record*
// is one change of the head's state; the state is what the records make of it and nothing else.
//
// Ownership: the goroutine that calls Step owns the Core and everything reachable from it. Messages
// handed in belong to the Core from then on; those handed out are not touched again by it.
//
// Guarantees.
//
//	HEAD-1: the ledger balances: what groups hold on a node and what is free add up to what it has.
//	HEAD-2: the end of a group is decided once; every owner or watcher that asks gets the same one.
//	HEAD-3: a gang is placed on all its bundles or on none.
//	HEAD-4: terms and agent numbers only grow, over restarts of the head too.
//	HEAD-5: a number that was declared dead is refused for ever.
//	HEAD-6: replaying the journal gives the state that was live, at every record.
//	HEAD-7: a rank that we ended is never the reason of a gang's end.
//	HEAD-8: a name of an actor has one holder at a time, whose agent is alive, or which waits while there is none that takes something new.
//	HEAD-9: a lease that keeps others waiting is recalled: any for a group that somebody asked for, between agents as long as
//	        shares become more equal; no agent that asks for a lease goes without one for ever, and none gets what a group waits for.
//
// Limits: one head, on one node; 1000 ended groups are remembered, older ends are gone. State is
// O(nodes + groups + names). There is no standby: a head that died is started again by its keeper and reads
// its journal; a node that dies with the head on it ends the cluster, unless somebody elsewhere has a copy of the journal and
// starts a head from it (bootdoc.Doc.Journal).
package head
