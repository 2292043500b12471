// Package pull decides from whom values of other nodes come to this one, over which connections, and who gets them from here.
//
// It is pure: a [Core] is told what happened, with the time, and appends to a list of effects what is to be done. The bytes go
// over connections of package bulk; who owns a Core does what it decides.
//
// # Nouns
//
//   - A fetch is a value on its way here, into memory that is there for it. Its owner is the agent that told of it, its source the
//     agent that it is asked of.
//   - A stream is a connection to another agent, over which ranges of values are asked for, several ahead.
//   - A way is all streams to one agent. There are as many as what is to come by it is worth, and more of them than one only
//     for what is large.
//   - A tree is who has been given a large value that lies here. Who asks for one is sent to this agent, or to one
//     that was sent before; so the bytes that leave a node are bounded however many want them.
//   - A wait is a range that another agent wants of a value that is still on its way here.
//
// # Guarantees
//
//	PULL-1: every byte of a value is asked for and comes once, but for what was under way on a stream that broke, which is asked
//	        for again from where it broke.
//	PULL-2: a fetch ends once, as got or with why not, and never while anything of it is under way.
//	PULL-3: at most Ahead ranges, and bytes of about two chunks, are under way on a stream, and at most Config.Streams streams go to an agent.
//	PULL-4: an agent is sent to one that asked before it, or to the one that has the value: nobody waits for himself.
//	PULL-5: when a source fails the owner is asked again, and gives the value itself. When the owner fails the fetch does, after patience.
//	PULL-6: one that has the value itself gives it to two others, and to those whose source failed.
//	PULL-7: a wait is answered: when the range has come, or when the fetch is over.
//	PULL-8: the same calls give the same effects.
//	PULL-9: of what comes from one agent nothing is asked for while something more urgent is left to be asked for there.
//	PULL-10: all bytes of a fetch are of one value of its name, which may be made anew, or kept by several agents as it was made at different
//	        times: of two a fetch ends, to be begun anew.
//
// # Limits
//
// A source that has stopped and holds its connections open is found out by the session with it, not here.
package pull
