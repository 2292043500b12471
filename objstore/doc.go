// Package objstore decides where the values of one node live, for how long, and who may write where.
//
// It is pure: a [Store] is told what happened, with the time, and appends to a list of effects what is
// to be done. It touches no memory but the inline values it was given, no clock and no descriptor;
// package shm does what it decides, and package objstore/client is its counterpart in a program.
//
// # Nouns
//
//   - An object is a value that never changes, known by its [id.Object]. Its [Location] is a few bytes
//     kept here (inline), or a range of an arena; other places become further kinds of location.
//   - A file holds objects that were spilled: written, several together, because memory was short. Such an object leaves
//     memory when nothing pins it, is loaded again when somebody wants it, and stays in its file until it is freed.
//   - An arena is a large piece of shared memory, made at once and given back as a whole. A slab is a
//     range of one, mapped for writing by one process. What of a slab its process may write is open;
//     what a sealed object does not use is a hole, and the first thing that this process gets again,
//     because its pages are mapped there and warm.
//   - A process is a client of this node's agent; [Agent] is the agent itself, which writes what comes
//     from other nodes, and is a writer like the others.
//   - A pin keeps an object where it is: one per delivery of its location to a process, dropped by a
//     release that says how many deliveries it saw, and one per task that waits for it. The process that
//     sealed an object has had one delivery.
//   - A job is whose an object is. It has a share of the memory only when that is short.
//   - An [Account] names what memory is used for. One budget is over all accounts of the node.
//
// # Guarantees
//
//	OBJ-1: the range of a sealed object is given to nobody while a reference, a pin or a primary copy is left.
//	OBJ-2: accounts are exact: each is the sum of what it names, their total never exceeds the budget,
//	       and with the last object, process and arena all are zero.
//	OBJ-3: no byte is open to two processes, and none that is open belongs to an object.
//	OBJ-4: a byte of one process's slab is lent to another only after the first returned the slab
//	       (which it says when it has unmapped it) or died.
//	OBJ-5: a process that died leaves its sealed objects and nothing else: no open range, slab, pin or request.
//	OBJ-6: who wants memory gets it in the order of asking. One that does not fit waits for at most
//	       Config.Patience and is then refused with a text that says who holds what; one that can
//	       never fit is refused at once.
//	OBJ-7: what a process has no right to say (seal or give back what is not open to it, release what it
//	       was not given) is an error and changes nothing.
//	OBJ-8: the same calls give the same effects.
//	OBJ-9: under want, evictable copies, and what was demoted, go before anybody waits, the longest unused first, and
//	       processes are asked for slabs that they don't use. Nothing is written to a file before they are gone, and before those who may look
//	       at such were asked, and had a second to answer: one that does not answer costs that once.
//	       Nobody waits for memory that is made ahead without Hurry having said so.
//	OBJ-10: an object is in memory, or whole in a file, or on its way from the one to the other and then still in the
//	       first; a file is deleted with the last object in it, and not before.
//	OBJ-11: what is spilled is of the job that has most in memory, and of that what nobody used for longest.
//	OBJ-12: what is pinned stays where it is. Processes are asked whether they look at what they were told the place of; who
//	       does not answer within a second is not waited for.
//	OBJ-13: a request waits for bytes, not for addresses: free memory in pieces of Grain or more is given back and had anew in one piece.
//
// # What the shell does
//
//	frame SlabWanted    Lend (0: Withdraw) effect Grow     shm Make, not in the loop; then Grown or GrowFailed
//	                                       effect Hurry    of a spare arena, which shm Spare makes: it is waited for now
//	frame Seal          Seal               effect Lent     frame Arena with shm Reader, the first time that the
//	frame SlabForgo     Forgo                              process meets that arena; if New shm Lend; frame Slab
//	frame SlabReturn    shm Return, Return effect Refused  frame Slab with the error, or an error as the object's value
//	frame Release       Undeliver          effect Recall   frame SlabRecall
//	location is sent    Deliver            effect Drop     shm Drop, frame ArenaGone to those who met the arena
//	process has ended   shm Died, Died     effect Evicted  who could make it again hears that it is gone
//	frame ViewEnd       Undeliver, Keeps   effect RecallView  frame ViewRecall
//	get of what         Load; and Unawait  effect Spill    spill Write, not in the loop; then Spilled or SpillFailed
//	  lies in a file      after Loaded     effect Restore  spill Read, shm Write, not in the loop; then Restored
//	                                       effect Unlink   spill Remove
//	                                       effect Punch    shm Punch
//
// What shm is told comes first: a call here may lend the same bytes again. Effects are done in order. In an agent the
// work core counts deliveries, for all objects alike (rt/agent/work): to the Store each place
// that a process was told is one delivery; they go when it says that it looks there no more, or does not hold the object.
//
// # Ownership
//
// A Store belongs to one goroutine, the agent's loop. Slices given to PutInline belong to the Store, and are
// read-only to everybody, from then on.
//
// # Limits
//
// Only arenas are spilled; values kept inline and other accounts get room by arenas that are empty. Objects don't move in memory, so an arena may hold free pieces that are smaller than Grain, which nothing
// large can have; and addresses without memory, which are never used again, until the last object in it goes.
package objstore
