// Package native is how an agent uses maniple-native, the second program of Maniple: what needs cgo and other people's
// libraries (NVML, libfabric) lives there, so that the first one stays static and a library that crashes costs one process that
// nobody waits for.
//
// The nouns. A Client is the agent's side: it starts the program at the first question, on a socket that only the two
// have, and ends it when nothing was asked for a while. Serve is the program's side. A question is a StateQuery, its answer a
// StateReply with JSON, the same frames as between agents and the head. Devices is what is answered to "devices". A Fabric is a
// Client of its own for an endpoint of libfabric at each of several devices, its rails; a FabricLine is one life of it, in which parts of this node's
// arenas are exposed to others, and a FabricPlace tells where a part of another node's lies.
//
// Ownership. A Client and a Fabric may be used by several goroutines. Each process has one goroutine, which reads its answers and reaps it.
//
//	NATIVE-1: a question is answered or fails: with the end of its context, and with the process that it was asked.
//	NATIVE-2: the program ends with its agent, also while a library hangs.
//	NATIVE-3: a process that ended by itself is logged in one line, and none is started for restAfter then.
//	NATIVE-4: when Read returns, well or not, nothing is written to its memory any more; when Conceal does, nobody reads there by that key.
package native
