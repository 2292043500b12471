// Package shm makes the shared memory of a node's object store and hands out descriptors of it. What goes
// where is package objstore's to decide; this package does it, and refuses what would break a
// guarantee whoever decided so.
//
// # Nouns
//
//   - An arena is one memfd: large, whole from the start, its size sealed. It has a descriptor for
//     writing that stays here and one for reading that goes to whoever may read. Its pages are huge (docs/adr/0031) as far as the kernel
//     has such; nothing here depends on it.
//   - A slab is a range of an arena that one process has for writing. It gets a duplicate of the
//     descriptor for writing, with which it maps that range and which it closes then.
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
//	SHM-4: Drop gives the memory back at once, even if a reader still maps it (who reads zeros then).
//	       Punch does so with a part, of which nothing is lent; what lies beside it stays.
//	SHM-5: Close leaves no descriptor and no mapping.
//
// # Ownership
//
// A Memory may be used by several goroutines; making an arena takes long (10 GB/s) and holds up nobody else.
// Files that Lend gives belong to the caller; those that Reader gives to the Memory. Bytes are valid
// until Drop.
//
// # Limits
//
// F_SEAL_FUTURE_WRITE is not used: it would stop the next writer of a slab from mapping, and Drop from freeing.
// That readers can't write is the descriptor's and the file mode's doing. This guards against mistakes, not
// against a program of the same user that sets out to write: it may attach a debugger. A fork of a writing
// process has the writer's mapping, too, unless the writer set MADV_DONTFORK, as objstore/client does.
package shm
