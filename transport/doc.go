// Package transport moves messages between processes, in order and once, over connections that may
// break.
//
// A Conn is a stream of bytes to a Peer whose identity the carrier has proved: package uds by the
// kernel's peer credentials, package tcp by mutual TLS, package simnet by being in one process. A
// connection from outside begins with a preamble of eight bytes (who is meant, and for what), then
// a handshake: Greet on the side that dialled, Answer on the other, with a Gate that refuses and
// counts what is stale. What follows depends on the purpose. On a control connection the two sides
// attach a Link: a session of numbered messages that outlives its connections. On a liveness
// connection they run a Liveness, which proves that the peer's main loop turns. On a work connection
// package work takes over, which has no sessions. A Dialer keeps a Link attached to one of several
// addresses for as long as its context lives.
//
// What a Link decides is in LinkCore, a pure struct: no goroutine, clock or I/O; rt/sim runs the
// same code on virtual time. Messages travel in four classes (wire.Class). Of all messages that
// wait, those of the most urgent class go first, in pieces of at most wire.MaxFragment, so that a
// large data message never delays a control message by more than one piece and what the carrier
// already holds.
//
// Invariants, each proved by tests that name it:
//
//	LINK-1: messages of one class are delivered in the order in which they were sent, whole, once.
//	LINK-2: what the peer received before a connection broke is not delivered again after the
//	        session was resumed, and what it did not receive is.
//	LINK-3: nothing is sent or delivered once a session is dead, nor from a connection that was
//	        replaced.
//	LINK-4: buffers are bounded: a class never holds more than its budget at the sender, and never
//	        more than its window and one message at the receiver, whatever the peer does.
//	LINK-5: after Goodbye was sent or received nothing is resumed.
//	LINK-6: a peer that breaks the protocol costs its connection, never the process.
//	LIVE-1: a peer whose loop turned within the deadline is not called silent, nor is any peer
//	        because this process itself was stopped.
//
// Ownership: a Link has one writer goroutine and, while attached, one reader goroutine; both end
// with the session. Callbacks run on the reader, one at a time. A Dialer runs in its caller's
// goroutine. Contexts cancel waiting, never a session.
//
// Limits: one message has at most wire.MaxMessage bytes; order is not kept between classes; a
// session lives in memory, so it ends with its process.
package transport
