// Package placement decides which node, which devices and which CPUs a request gets. It is pure:
// a [View] of the cluster and a [Request] go in, a [Plan] or the reason why there is none comes out.
// It knows no clock, no randomness but the request's seed, no I/O and no other room.
//
// # Nouns
//
//   - [Amount] is a quantity in steps of 1/10,000; [Resources] are named amounts, sorted by name.
//   - [Node] is what a node has, what is free of it and what may be placed there; its [Device]s have
//     opaque identities, a place on the board and a free fraction, its [LogicalCPU]s an order and a NUMA node.
//   - [View] holds the nodes and every plan committed on them. It belongs to one goroutine.
//   - [Request] is a gang: bundles, each of which lands whole on one node, and a [Strategy].
//   - [Plan] says where each bundle goes. [Unplaced] says that there is none and whether there could be
//     one on an empty cluster; [Explain] says why, node by node, and what would help.
//
// # Guarantees
//
//	PLACE-1: no plan takes more of a resource, a device or a CPU than is free, and Commit refuses one that would.
//	PLACE-2: a plan has every bundle of its request, or there is no plan.
//	PLACE-3: the same view and request give the same plan.
//	PLACE-4: Commit and then Release leave the view as it was, whatever happened in between elsewhere; so do they with Split between them.
//	PLACE-5: Infeasible is said only when no placement exists on the nodes with everything free.
//	PLACE-6: STRICT_PACK uses one node, STRICT_SPREAD no node twice; PACK of equal bundles uses the fewest nodes;
//	a request that stays within a label uses nodes with one value of it.
//	PLACE-7: a search does a bounded number of steps; one that runs out says GaveUp, never Infeasible.
//	PLACE-8: what Explain says holds a bundle off a node is the test that Solve made.
//
// # Limits
//
// Amounts are at most 2^63/10,000, 838 TiB of memory on one node. Network places are a preference, not a promise.
package placement
