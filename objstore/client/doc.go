// Package client is the object store as a program sees it: it writes large values into shared memory that
// the node's agent lent, and reads sealed ones where they lie.
//
// # Nouns
//
//   - [Agent] is the way to the agent: frames that go out. What the agent says comes in by Lent, Refused, Recall,
//     Arena, Gone and Located, which whoever reads the connection calls.
//   - A slab is a range of an arena that this process has mapped for writing. Objects are laid one behind
//     another into what is open of the newest; asking the agent is needed only when it is full, so that a
//     put costs no round trip. What the agent opens again of a slab is mapped already, and warm.
//   - A [Buffer] is room for one object. Seal makes it an object, Discard gives it back.
//   - A [View] is the bytes of a sealed object, in an arena that is mapped once, whole, and stays so.
//
// # Guarantees
//
//	MAP-1: an object begins at a multiple of 64, and no two overlap.
//	MAP-2: an arena is mapped once for reading, whatever is looked at, and can't be written through that.
//	MAP-3: bytes of a view stay valid and the same until its Release; only when the last view and the
//	       program's reference (Drop) are gone does the agent hear of it, with the number of deliveries
//	       that were seen, so that one which is on its way is not lost.
//	MAP-4: a slab is unmapped before the agent hears that it is returned, and never while a Buffer lies in it.
//	MAP-5: what a program was given to write by Alloc can't be written after Seal: whole pages of
//	       buffers of a mebibyte and more become read-only. What Put copies nobody else can reach.
//	MAP-6: who waits for memory waits in order, until the agent answers or the context ends, which withdraws
//	       the question; what comes all the same is used by the next one.
//	MAP-7: after Close and the last Release nothing is mapped and no descriptor open.
//
// # Frames
//
//	WantSlab, Withdraw  SlabWanted (0: Withdraw)   Slab            Lent, or Refused if it has an error
//	Seal                Seal                       SlabRecall      Recall
//	Forgo               SlabForgo                  Arena           Arena
//	ReturnSlab          SlabReturn                 ArenaGone       Gone
//	Release             Release                    a Location      Located
//
// # Ownership
//
// A Client may be used by several goroutines. Copies are made outside of its lock; from 8 MiB a second goroutine
// helps, which has ended when Put returns. Agent's methods are called under the lock and must neither block nor call back.
//
// # Limits
//
// The client counts its own Seal as a delivery. On a work connection that is none: there Release says one less of what
// this process sealed.
//
// A view that is never released keeps its object for as long as the process lives: the garbage collector
// can't tell, since a slice of the bytes may outlive the View. A child made by fork has the read-only
// mappings and not the slabs.
package client
