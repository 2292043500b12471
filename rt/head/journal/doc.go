// Package journal is the head's memory: an append-only file of records that a head which was killed
// reads back.
//
// The nouns. A record is a type and bytes; what they mean is the caller's. A commit writes all that was
// added since the one before, in one call. The tail is what comes after the last whole record. The
// reserve is room on the disk that the file system has promised to the file beyond its end.
//
//	file:   "maniple journal" 0x01 | record | record | ... | torn tail, if the writer was killed or the disk full
//	record: length u32 | checksum u32 | sequence u64 | type u16 | body          little endian
//
// length counts type and body; the checksum (CRC32C) is over length, sequence, type and body; sequence
// numbers start at 1 and have no gaps.
//
// Ownership. A Journal belongs to one goroutine; the file to one process, by a lock that the kernel drops
// with the process.
//
// Guarantees.
//
//	JRN-1: what was committed is read back, in order, after any death of the process.
//	JRN-2: a tail that is no whole record is cut, and said; damage anywhere before it is an error, and
//	       nothing is changed.
//	JRN-3: a commit that fails leaves the file as it was before.
//	JRN-4: compaction replaces the file as a whole: a death in between leaves the old one or the new one.
//	JRN-5: with Options.Copy what was committed is in the copy, too, which reads back as the file does.
//
// Limits. By default nothing is synced to the disk: the journal outlives the process, not the machine
// (docs/adr/0002-head-journal.md says why). A record has at most MaxRecord bytes.
package journal
