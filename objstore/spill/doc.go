// Package spill keeps what a node's object store has written out of memory, in files of that node or of what nodes share.
//
// # Nouns
//
//   - A file, as the store counts it, is some objects that were written together. It has a number.
//   - A segment is a file of the system: files lie in it one behind the other until it is large, and the next one begins.
//     It has no name: it is unlinked as it is made, so that it goes with the process that has it, however that ends.
//   - A directory is where segments are made. With several, they take turns; one that fails is passed over.
//   - An FS is a file system that nodes share. It has a file with a name for each that the store counts, and gets what directories have no room for.
//
// # Guarantees
//
//	SPL-1: what Read gives is what Write was given: each mebibyte of an object has a checksum, which stays in memory.
//	SPL-2: a file is written whole or not at all; what was written of one that failed is given back.
//	SPL-3: a segment leaves no name behind, and its space goes when its last file is removed, or the process ends. What one file in it
//	       took goes at once where the file system can punch holes.
//	SPL-4: a directory is left alone when its file system is fuller than its bound: others live there, too.
//	SPL-5: a file in an FS outlives its process, and says itself what is in it, with checksums; one that was not written whole is nobody's.
//	SPL-6: what an FS does not give is there for as long as the FS is silent. What it refuses for five minutes of asking is lost, as what it does not have is.
//
// # Ownership
//
// A Files may be used by several goroutines. Its methods block as long as the disk does.
//
// # Limits
//
// A segment takes a descriptor for each gibibyte. What is spilled is not encrypted; segments can be read by their user
// and root only. A process that starts anew has nothing of what was spilled
// to directories before.
package spill
