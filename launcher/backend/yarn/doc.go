// Package yarn is the backend of YARN: an application whose ApplicationMaster hosts the cluster's head and runs the
// command, and whose other containers are the nodes.
//
// Nouns. A Job is what `maniple submit` hands to the application: command, flags, what a node has. A Store is where the
// program and files lie for the containers, HDFS as a rule. The Master is the process in the first container; it is the
// Backend, too, whose Start asks YARN for the nodes. The relay is what carries a keeper's standard input and output
// between its container and the master, and the application's output to whoever follows it. The gang is the set of
// containers that start together.
//
// Ownership. The Master owns the relay, the registration with the ResourceManager and its heartbeat; Finish ends all three.
// The session owns one loop, in which the gang's core is stepped, and a goroutine for each container that is being
// launched; all have ended when Events is closed.
//
// Guarantees.
//
//	YJOB-1: the cluster's secret and the job travel as named secrets in the launch contexts' tokens; they are in no
//	        argument, no environment and no log, and a container takes them out of its token file.
//	YJOB-2: grants are held for at most the gang's wait and then all given back, with a random pause before the next
//	        try: two gangs that hold half a queue each do not wait for each other for ever. So are the nodes of a program that has waited as long
//	        for those that were lost.
//	YJOB-3: a node that YARN took away (-100, -101, -102) is replaced and is not the program's failure; one that
//	        needed more memory than it has (-103, -104) ends the application and is never tried again at the same size. One that ends otherwise twice in a row, and
//	        the program did not run in between, ends it too. One that could not be started is tried again for about 8 minutes.
//	YJOB-4: a file that is in the store under its content's hash is never written again, also by who brings the same content
//	        at the same moment: its folder is renamed into place, and onto none that is there.
//	YJOB-5: a container without a master ends: 20 s after the last word of one that is out of reach, after ten minutes when the
//	        master's process is gone and no other one came. One that is the application's no more is told so when it comes back.
//	        The master gives it back after 45 s, and does not wait for YARN's word of it (docs/adr/0059). One whose container's folder is gone
//	        ends also when its program waits to be placed.
//	YJOB-6: who reads the application's output is told whether that was all of it.
//	YJOB-7: a master that comes after one that died has its nodes and a copy of the head's journal that has all that the head ever
//	        said: the head waits until each node that is there has each piece. A master that is over can't take it back (docs/adr/0034).
//	        One that YARN tells of later, as after a restart of its own, goes on likewise, or is given back at once where the program has begun anew.
//	YJOB-8: the application's page is served to YARN's proxies alone, and where YARN knows its users to the application's own.
//	YJOB-9: where calls are private (hadoop.rpc.protection) the page, which is not, has nothing of what the program said.
//
// Limits. Who lost its master can't tell the death of that machine from a cut in the network: then the nodes end, and the next master
// begins the program anew.
package yarn
