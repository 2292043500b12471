// Package matrix plans the measurement of the ways between all nodes of a cluster, and shows what came of it: as text, as a
// picture, and in words that name what is slow.
//
// The nouns. A Pair is two nodes that are measured at a time, first one way, then the other. A Round is pairs that share no host, so
// that none disturbs another. A Matrix has what was measured of each way, by the place of the node that sends and of the one that reads.
// A Finding names a node, or a single way, that is slower than the rest.
//
//	MATRIX-1: rounds have each pair once, and in a round each host has a part in one pair at most.
package matrix
