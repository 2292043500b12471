// Package hdfs is HDFS for programs and for values: without a JVM, by the library colinmarc/hdfs, with the logins of package yarn.
//
// # Nouns
//
//   - A Client is a process's way to one file system, which it finds and logs in to as Hadoop's own programs do: by HADOOP_CONF_DIR and what it finds without it, a token of
//     HADOOP_TOKEN_FILE_LOCATION, a keytab, or what kinit left.
//   - A Server does for programs what each might do itself. A program speaks to it by a socket (frame.go); `maniple hdfs-server` is one that a program
//     starts for itself, and that whatever it forks uses with it.
//   - A draft is a file that is being written, under a hidden name beside the one that it will have.
//   - A SpillStore is a folder for values that a node's memory has no room for, an agent.SpillFS.
//
// # Guarantees
//
//	HDFS-1: a file is there under its name once all of it is, and its last block is where HDFS wants it; until then whoever reads that name has the file
//	        before. What a program that ended had not closed is removed.
//	HDFS-2: what is read is of one file: one that another took the name of is an error, also when the connection broke and was made anew.
//	HDFS-3: an erasure-coded or encrypted file is refused by name, and never read wrong; where new files would be so, none is made.
//	HDFS-4: what is asked of a NameNode is asked again while none answers, for a minute, also for a file in the midst of its writing; a rename or a removal
//	        whose answer was lost is not an error then. What goes wrong for one file ends no other.
//	HDFS-5: nothing that a program says makes a Server fail, or do for one what it could not do itself: who may connect has its user, and it logs in with what
//	        the program names.
//	HDFS-6: a file that is being written outlives DataNodes of its last block, as long as one that has the block lives; of a small one none has to.
//
// # Ownership
//
// A Server has a goroutine for each connection, which owns the file that is open there; it ends with the connection. Clients and SpillStores may be used by several
// goroutines, and block as long as HDFS does.
//
// # Limits
//
// No append, no snapshots, ACLs, quotas or extended attributes. Replication and block size are the NameNode's defaults.
package hdfs
