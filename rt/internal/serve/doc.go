// Package serve is the user's program in the hands of an agent: as the template that workers come from, and as a worker.
//
// A template is the program once more, with MANIPLE_SERVE=template:HASH. It checks that its file still has the content
// that the driver was started from, attaches, and execs itself for each Fork frame, with MANIPLE_SERVE=worker:HASH; it
// tells the agent how its children end. A worker attaches with its key and runs tasks, one after the other, or one
// actor. A Program is what the user's code has declared. A job is a task that was given to this worker.
//
//	SERVE-1: a job has one last result, unless it was given back.
//	SERVE-2: what is asked back and has not begun is given back, whatever user code does.
//	SERVE-3: a worker ends within a second of its connection.
//	SERVE-4: calls of an actor without rt.Concurrency run one by one, in the order in which they came.
//	SERVE-5: a panic of a task's code is that task's error, and so is runtime.Goexit, which ends the process, too, unless an actor does several calls.
//
// Ownership: jobs belong to the session's lock until they begin, then to the goroutine that runs them.
//
// Limits: a function that runs can't be interrupted from outside: a cancel ends its context. A panic in a goroutine
// that user code started ends the process, as it does everywhere in Go.
package serve
