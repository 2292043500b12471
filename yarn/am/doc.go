// Package am is an ApplicationMaster's side of YARN: it registers with the ResourceManager, keeps its attempt
// alive by a heartbeat, asks for containers and hears what becomes of them. What runs in them is started by
// package nm.
//
// The nouns: a Master is one registered attempt; an Ask says how many containers of one kind are still wanted and
// where; an Event is what a heartbeat brought: containers Granted and Ended, changed nodes, warnings of
// preemption, the end.
//
// Ownership. Register starts the one goroutine that sends heartbeats; Finish and Close end it and wait for it. Events
// are delivered by that goroutine, one after the other, with no lock held: a handler may call the Master, but not
// Finish or Close, and while it runs there is no heartbeat. What is asked, held and released is kept by a core without goroutine, clock or socket.
//
// Guarantees:
//
//	AM-1: counts are absolute, as YARN's are: Set says how many more are wanted from now on, however often it is
//	      called, and a grant lowers the count by one. What is granted beyond it is given back and not told.
//	AM-2: a request that got no answer, or a ResourceManager that was restarted, loses no ask and no release:
//	      all that still counts is sent again.
//	AM-3: a container that was Granted is told as Ended once, also across restarts of the ResourceManager.
//	AM-4: an ask that the ResourceManager refuses is dropped and told as Refused; others go on.
//	AM-5: tokens are taken as they come: a rolled token of the master from the next connection on, a
//	      NodeManager's until a newer one comes.
//	AM-6: Finish returns when YARN knows the final status, or says why it does not.
//	AM-7: a container of an attempt before this one is known from the registration or told as Found, once, as late as the ResourceManager
//	      may hear of it.
//
// Limits: no scheduling requests (placement constraints by attribute or tag), no opportunistic containers, no
// changes of a running container's size.
package am
