// Package logs reads what YARN keeps of the logs of applications: the files that its NodeManagers bring together when an application ends
// (log aggregation), one of each NodeManager, in Hadoop's formats TFile and IndexedFile (IFile).
//
// The nouns: a File is one of them; a Log is a file of a container's log directory in it, such as stdout. Where says in which folder the files of an
// application are.
//
// Ownership. A File reads from what it was opened on, whenever it is asked; who opened that closes it. A File may be used by one goroutine at a time.
//
// Guarantees:
//
//	LOGS-1: what is no such file, or a damaged one, is an error that says what is wrong with it, and takes no more memory than a block of it has.
//	LOGS-2: logs come in the order of the file, each with as many bytes as it has; one that was cut off is an error.
//
// Limits: the compression lzo is refused by name. A block that is compressed is read as a stream. Of an indexed file that a NodeManager was adding to when it ended, which it does for
// applications that ask for it while they run, nothing is read.
package logs
