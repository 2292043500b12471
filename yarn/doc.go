// Package yarn is a client of a real YARN: it speaks the protocols of Hadoop 3 itself, so that neither Java nor
// Hadoop's files are needed where it runs. It imports nothing of the rest of this repository and can be used
// alone.
//
// The nouns: a Client speaks to the ResourceManager for a user: it submits, watches and kills applications, and
// tells of nodes and queues. A Submission is an application to be, its LaunchContext what starts in the container
// of its ApplicationMaster; a Report is how it is. Credentials are the tokens that a process carries. An HDFS is how a client of that file system which knows nothing of security reaches it. The package am
// below is for an ApplicationMaster, nm starts its containers, conf reads Hadoop's *-site.xml files, kerberos logs in to a
// realm, logs reads what YARN keeps of an application's output, and yarntest has stand-ins of the daemons. The words are Hadoop's own.
//
// Ownership. A Client has one connection, which its calls share and which is closed after 10 s without calls; Close
// ends it. Calls end with their contexts and start nothing that outlives them.
//
// Guarantees:
//
//	YARN-1: every error of a call is an *Error of a kind that errors.Is finds, or the end of the call's context.
//	YARN-2: with several ResourceManagers calls go to the active one; while none answers they are made again, as
//	        Hadoop's own clients do, for as long as Config.RetryFor.
//	YARN-3: an application that Submit reports is stored by the ResourceManager; one that was lost with a
//	        ResourceManager that died is submitted again, under the same ID.
//	YARN-4: a kind of resource that the cluster does not count is refused; YARN itself would ignore it.
//	YARN-5: no token's secret is in the text of an error or a value's String.
//	YARN-6: what is not a token file, or a damaged one, is an error, and takes no more memory than its size.
//	YARN-7: with DataNodes that site's configuration or its NameNode wants protected, the strongest protection that both sides take is used, and none that
//	        is weaker than what is wanted.
//
// Limits: Hadoop 3.3 and 3.4 were tested. No timeline service, no reservations, no resource profiles, no federation's
// router; of the logs of ended applications the formats TFile and IFile are read.
package yarn
