// Package work decides how the tasks, the actors and the objects of one node's programs go: what
// waits, what runs where, who holds what. It is the part of an agent that every call of a program
// goes through, beside the core of package agent for members and gangs.
//
// The nouns. A process is a driver or a worker at the other end of a work connection. A job is a driver
// and all that it started; its number comes with the driver. A task is a Submit, a Call or the
// construction of an actor, from its frame to its last result. An object is one result or one put; an
// entry is what is known under one minted ID: the task, the actor, the objects of it. A class is a shape
// as all of a job say it; its queue holds the tasks whose arguments are here, and a pile the frames of what comes behind a queue that is deep. A grant is what may be
// used, of the node or of a bundle of a group; a lease is the part of it that a worker holds, for one
// class at a time. A host is another agent that runs tasks of a job for this one, an owner another agent that this
// one runs tasks for: processes both, the one like a worker with any number of tasks, the other like a driver. A place is what a host may be given
// tasks for: a bundle that it has. An object is foreign if its reference came from another agent, an actor a proxy. A lane holds the calls of one process to one actor.
//
// Ownership. A Core belongs to one goroutine. It keeps none of an event's bytes: what it has to keep it
// copies into memory of its own, which it uses again. Bytes in an effect are the core's, good until the
// next Step.
//
// What goes in and out. Frames pass through as the bytes in which they came, but for the numbers that
// mean something on one connection only (shape) or that the agent decides (attempt, incarnation).
//
// Invariants:
//
//	REF-1: an object is there as long as a process holds it, a task waits for it, or an object that is
//	       there contains it; with the last of these it goes, and so does what it alone contained.
//	REF-2: a release ends a hold only if it has seen every delivery; one under way keeps the object.
//	REF-3: nobody names an object that it does not hold: not as an argument, in a value, nor to get it.
//	       An actor names itself, and is not kept by that.
//	REF-4: a process that died holds nothing.
//	REF-5: an agent that sent a reference lists the one to which it went as a holder, until that one has released all
//	       deliveries; so an object is there as long as anybody needs it, at whatever agent.
//	REF-6: a reference that came by way of an agent which does not own the object comes from the owner once that has
//	       said that it lists this agent.
//	REF-7: a process that wants to know when it alone has an object is told once, then or by the end of the turn in which that comes to be.
//	REF-8: the Store may let go of what is a copy of its home's value, and held by no other agent; that is fetched once more when it is wanted. A
//	       copy whose home is lost, or does not have the value, is let go of with its last reference only.
//	LIN-1: an object counts the lineages that would need it, and one that nothing else names keeps no value in memory (LIN-2).
//	LIN-3: a lineage is of a task that has its outcome and runs nowhere, and an object of it is there; their bytes are bounded (LIN-4).
//	LIN-5: a value that stayed away lies with one agent, and is fetched if anybody waits for it.
//	LIN-6: who waits for a value that is gone waits for a task that makes it again; all have an answer in the end (LIN-7).
//	WORK-1: a task that was accepted has one outcome, told once to the process that submitted it.
//	WORK-2: what leases hold and what is free of a grant add up to the grant; only one who wakes up from
//	        waiting, or was sent because it waited, takes more CPUs than there are, and no device is ever shared beyond its whole.
//	WORK-3: a task is given to one worker at a time; one that must not be retried is never given out twice.
//	WORK-4: tasks of a class start in the order in which their arguments became complete, those given back first; but for those that
//	        start on what an ancestor lends, where no other may (kin.go).
//	WORK-5: calls of a process to an actor reach it in the order in which they were sent, in every
//	        incarnation, unless it was created to take them out of order, or with several at a time.
//	WORK-6: the next lease goes to the job that has least of what all share; what needs much is kept from starting by others no
//	        longer than until its job has its share.
//	WORK-7: what a process has spent it gets back, once: for a put or a task on a pile at once, for other tasks with their outcome.
//	WORK-8: no frame of a process makes the core fail, or touch what is another job's; what none may
//	        say is counted and said once, and its connection ends.
//	WORK-9: a task that its own ancestors keep from ever starting fails with the chain of their names.
//	WORK-10: what explain says a task waits for is the test that keeps it from starting.
//	WORK-11: of a lease of its own an agent counts what it has sent there and still runs, and what that has started there; it gives
//	         none back on which something is.
//	WORK-12: when the node's memory is nearly used up a worker ends whose work may be tried again, as long as those have enough of it;
//	         one at a time, and nobody whose end would help nobody. That is counted apart from retries, and bounded.
//	WORK-13: of what waits in a circle the first that has not started fails with the chain of their names; nothing fails so that may still go on.
//	WORK-14: of what waits for long because only actors that do nothing keep what it needs the driver is told, and by whom; not so where anything else may give it back.
//	WORK-15: a worker knows the class of each task that it has; of a class that no process names any more nobody keeps more than its tasks need.
//	CACHE-1: a value of the cache is made by one process at a time, under an ID that no other has; if that does not make it, all who wait are told.
//	CACHE-2: what rests is known by its key, and to the Store; it goes when that drops it, or when more rests than may. It is no object, and nobody holds it.
//
// Large values lie in the Store, if there is one: what is kept of them here is their place. A result that tells of a place
// is a delivery of the object that lies there, so that a process holds what it may be looking at. Another agent is told
// that they lie here, and has them fetched into its own Store (fetch.go).
//
// Limits. Values inside frames are counted by nobody: the connections' bounds keep them small. Code that a job defines is kept while the job is, and not
// counted. Names of actors are known to this node's processes, and to
// those of its jobs elsewhere. Results that
// contain one another in a circle are never freed.
package work
