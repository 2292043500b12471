// Package rpc speaks Hadoop's RPC, version 9: the one under every protocol of YARN and HDFS.
//
// The nouns: a Client calls the methods of one protocol at one service, which has one address or, with high
// availability, several; a connection is one of its TCP connections; Auth is how it logs in; a RemoteError is an
// exception that the server threw. Server is the other side, for stand-ins of Hadoop's daemons in tests.
//
// Ownership. A Client has at most one connection, made by the first call that needs it and closed after Idle
// without calls. A connection has two goroutines, one that writes and one that reads; both end when it is
// closed, and Close waits for them. Calls may be made from any number of goroutines and share the connection.
//
// Guarantees:
//
//	RPC-1: nothing that a server sends makes a Client panic, or take more memory than the server sent; a frame
//	       over 128 MiB, Hadoop's own limit, ends the connection.
//	RPC-2: a call ends with its context, whatever the server does.
//	RPC-3: a call that a server did not answer is made again under the same client ID and call ID with a
//	       higher retry count, so that the server's retry cache knows it; one that it answered never is,
//	       but for StandbyException and RetriableException, which say that nothing was done.
//	RPC-4: with more than one address a dead or standby server costs no wait until each was tried.
//	RPC-5: with a token or a ticket the client never falls back to simple authentication. A server that does not let it in is not asked again, but the
//	       others are.
//	RPC-6: a client behind a Tunnel has one answer to each of its calls, however often connections break and servers change places meanwhile, or is told
//	       that none answers.
//
// Limits: the protocol buffer engine only. No callbacks, no alignment context of observer NameNodes. All methods
// of YARN's three client protocols and of HDFS's may be repeated by Hadoop's own annotations (idempotent, or at most once by
// the numbers of RPC-3, which a NameNode keeps for ten minutes and hands on to the one that follows it), so the client repeats every method; do not call others with it.
package rpc
