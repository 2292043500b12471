// Package shm makes the shared memory of a node's object store and hands out descriptors of it. What goes
// where is package objstore's to decide; this package does it, and refuses what would break a
// guarantee whoever decided so.
//
// # Nouns
//
//   - An [Arena] is one memfd: large, whole from the start, its size sealed. It has a descriptor for
//     writing that stays here and one for reading that goes to whoever may read.
//   - A slab is a range of an arena that one process has for writing. It gets a duplicate of the
//     descriptor for writing, with which it maps that range and which it closes then.
//   - An own arena is written by this process alone, by a mapping that is older than the seal
//     F_SEAL_FUTURE_WRITE. It holds what came from other nodes. Arenas that are lent can't have that seal: it
//     would stop the next writer from mapping.
//   - [Memory] is all arenas of a node, with who has which slab.
//
// # Guarantees
//
//	SHM-1: all pages of an arena are there before anybody sees it and its size is sealed, so no access
//	       to a mapping ends in SIGBUS; when the system has no memory, Make fails and leaves nothing.
//	SHM-2: through a reader's descriptor nobody writes: not by write, not by a mapping, not by mprotect, and
//	       not by opening it again unless he is root.
//	SHM-3: slabs that overlap are never lent at the same time, and a slab that is lent is not lent again
//	       before it was returned or its process died.
//	SHM-4: nobody but this process ever writes an own arena, not even with a descriptor for writing.
//	SHM-5: Drop gives the memory back. In lent arenas at once, even if a reader still maps it (who
//	       reads zeros then); in own arenas, whose seal forbids that, when the last reader has unmapped it.
//	SHM-6: Close leaves no descriptor and no mapping.
//
// # Ownership
//
// A Memory may be used by several goroutines; making an arena takes long (10 GB/s) and holds up nobody else.
// Files that Lend gives belong to the caller; those that Reader gives to the Memory. Bytes are valid
// until Drop.
//
// # Limits
//
// Linux 5.1 and later (F_SEAL_FUTURE_WRITE). This guards against mistakes, not against a program
// of the same user that sets out to write: it may attach a debugger. A fork of a writing process has the writer's
// mapping, too, unless the writer set MADV_DONTFORK, as objstore/client does.
package shm
