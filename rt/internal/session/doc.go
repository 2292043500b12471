// Package session is a process as its agent knows it: what it has said, what it holds, what it waits for.
// The public API of package rt, and the workers of package rt/internal/serve, stand on it.
//
// A Session is one attachment by a work connection. An object is what the process knows of one result or
// put that it has a reference to. A Hold is one such reference; the last one that is released tells the agent, with
// the number of deliveries that were seen. A Value is an object's bytes. A gate waits for objects. A Task is
// the code that runs in a worker, found through its context.
//
//	SES-1: an object is known from its first Hold to its last, and released once, after all that named it.
//	SES-2: who waits for an object hears of it, of the context's end or of the connection's, whichever is first.
//	SES-3: submits, calls, creates and puts wait for credit and for nothing else.
//	SES-4: a task that waits has told its agent so, and what for if nothing else ends that, and tells when it goes on.
//	SES-5: calls of this process to an actor leave in the order of their numbers.
//
// Ownership: a Session may be used by any goroutine. Frames are taken in on the connection's reader, with
// the session locked; what that brings about for others is done by them, or after unlocking. Holds are released by their
// owners, or by the garbage collector.
//
// Limits: what is sent is bounded by credit, but for results, of which there is one per task that runs.
package session
