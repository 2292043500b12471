// Package plane simulates how large values move between the nodes of a cluster: which of them asks whom, for how many bytes, over how many connections, in virtual time.
//
// The nouns. A Cluster is nodes; each has the objstore/pull.Core of an agent as it is. What is a model is the network: each node has a link,
// which carries Rate bytes a second out of it and as many into it, first come first served, and a switch behind the links that never is the
// bottleneck. A message takes Latency, a connection three of them. Values have sizes and no bytes.
//
// A Bound is what no way of moving the same bytes over these links could beat. Page runs what docs/perf/simulated-data-plane.md shows.
//
//	PLANE-1: a fetch that is over has every byte, and no node has received more than what it wanted.
//
// Limits: no losses, no faults (objstore/pull's own random worlds have them), no share of a link that is slower than others, no processor, memory or disk that
// takes time. Values that fit into a frame, which rt/sim has, are not here.
package plane
