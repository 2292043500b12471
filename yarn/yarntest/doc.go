// Package yarntest is a YARN in the test's own process: a ResourceManager and NodeManagers that listen on
// loopback sockets and speak Hadoop's RPC, for tests of what uses the clients of this room.
//
// The nouns: a Cluster is one ResourceManager with its Nodes; what a test wants to see happen it does: End a
// container, Preempt one, Restart the ResourceManager, Roll its token.
//
// Ownership. The cluster ends with the test that made it. All of its state is under one lock; each of its servers has the
// goroutines of its connections.
//
// Guarantees:
//
//	TEST-1: tokens are checked: a scheduler or NodeManager speaks only to who shows the right one.
//	TEST-2: asks are counted as YARN does: absolute numbers per priority, allocation request, name and size,
//	        and containers are granted on nodes that have room, honouring hosts and strictness.
//
// Limits: a stand-in answers; it starts no process, has one queue without limits, and one rack. An
// ApplicationMaster's container is a name only: the test plays the master, or submits an unmanaged one.
// Tests of behaviour run on a real YARN (ci/e2e).
package yarntest
