// Package gang runs programs on bundles, seen from the side of whoever asks for it, and says which
// environment each of them sees.
//
// The nouns. A Client is attached to the agent of a node, over its unix socket, TCP with TLS, or any
// stream of bytes. Run creates a gang and stands for it until its end: it carries input, folds and
// prefixes output or writes it to files, and turns interrupts into a drain. End says how it went.
// Env is a pure function: what a rank's environment is, from the user's, the rank and the node.
//
// Ownership. A Client has one goroutine that keeps it attached (client.go) and dispatches what comes;
// Close waits for it. Run owns its readers and writers and leaves none behind. A Client may be used
// from several goroutines.
//
// Guarantees.
//
//	GANG-1: a rank sees no variable that belongs to our own step of the site's scheduler.
//	GANG-2: a rank's bytes reach its file unchanged, in order, without loss or repetition, over a
//	        restart of any agent too; on a terminal they are cut into whole lines and never mixed within one.
//	GANG-3: no line waits longer than FoldFor for its like from other ranks, while the client's agent is there.
//	GANG-4: the exit code is that of the rank that failed first, or the one in docs/spec/errors.md.
//	GANG-5: a client that was cut off re-attaches or gives up with a reason; it never waits for ever on
//	        a node that is gone. The death of its own node is a gang's end like that of any other node.
//	GANG-6: what is acknowledged to a rank's agent is written: the client that comes after one that was killed
//	        goes on where its output ends.
//	GANG-7: what waits for its like is not written while the client's agent is away, which could not be told of it: who comes after this
//	        client has it from the rank's agent.
//
// Limits. A line on a terminal is cut after 64 KiB. At most 256 KiB of a rank's output wait for a
// reader that does not read; then the rank waits.
package gang
