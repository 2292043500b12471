// Package agent is the process that runs a node: it joins the head, starts programs through the
// keeper, carries their output and input, and serves the clients of its node.
//
// The nouns. Core is everything that the agent decides: a struct with Step, without goroutine, clock,
// socket or file. Main is the loop around it that does what the effects say. A rank is one program of
// a gang, named by Key. A stream is its stdout (1) or stderr (2). A client is a process on this node
// that is attached over the unix socket; the sink of a gang is the client that gets its output. The desk
// is the shell of package work: it owns the work connections of drivers and workers, the templates that
// workers are forked from, and the stake, which is what the head has given this node's tasks.
//
// Ownership. Core belongs to the loop's one goroutine (in rt/sim to the event heap). Bytes in an
// event or an effect belong to whoever receives them and are never changed afterwards.
//
// The queues, who owns them and what bounds them:
//
//	output of a stream that was not acknowledged   Core (stream.go)   Window, 256 KiB; less in large gangs
//	input of a rank that was not written           Core (input.go)    Window, kept by the client's side
//	questions to the head without an answer        Core (relay.go)    maxQueries
//	groups created and not confirmed               Core (relay.go)    maxPending
//	frames on links                                transport.Link     its budget per class
//	batches of work connections                    desk               two per connection
//	what a process was sent and has not read       desk               maxUnsent; then its connection ends
//	values in shared memory                        desk               storeShare of the node's memory
//	values on their way here                       desk               fetchesAtOnce, fetchBytes; objstore/pull bounds what is under way
//	ranges of values that others ask for           bulk.Serve         bulk.Ahead of each connection; what is more is not read
//
// Invariants:
//
//	AGENT-1: a rank is launched at most once in an incarnation, however often its RankStart comes.
//	AGENT-2: the end of a rank is told until it is acknowledged, by this agent and by the one after it.
//	AGENT-3: never more than Window bytes of a stream are unacknowledged; then its pipe is not read.
//	AGENT-4: a stream's bytes reach its sink in order, without a gap, and are resent from the mark that
//	         the sink names; the bytes before an acknowledged offset are never sent again.
//	AGENT-5: the end of a rank is told after its output ended, or endedWait after the end itself.
//	AGENT-6: what a client asked of the head is asked again after the head restarted, until it is answered.
//	AGENT-7: an agent that had a head and reaches none for fenceAfter ends its programs and its node, but for
//	         the one on the head's node, whose keeper starts the head again.
//	AGENT-8: an agent whose keeper is gone says so to its clients and the head, ends its programs and exits.
//
//	AGENT-9: tasks use what the head's ledger has given: the grant of the work core is the sum of the stake's parts,
//	         and a part goes back only after the grant shrank, if what is in use fits into the others.
//	AGENT-10: a worker is gone for the work core when both its process and its connection are, and then at once.
//	AGENT-11: with the agent, its connections: drivers and workers of a killed agent end, and it leaves no worker.
//	AGENT-12: shared memory that a process was lent, or looks at, is nobody else's before the process said that it is
//	         done or ended itself; the end of its connection is not that.
//	AGENT-13: tasks run where the head has placed what they use, here or at another agent, and are the owner's wherever
//	         they run: with the session of the two agents, or with the job, ends what one runs for the other.
//	AGENT-14: what a part of the stake has and the pieces that the head does not know add up to what the head gave; the head
//	         knows a piece before a message of this agent can name it to others (docs/adr/0011).
//	AGENT-15: a part, or a lent group, that the head recalled takes no new task and goes back once what is used fits without it.
//
// Limits: a stream's offset has the incarnation in its upper bits (OffsetBase), which leaves 16 TiB of
// output per stream and incarnation.
package agent
