// Package keeper is the process that holds a node: `maniple keeper`, one per node, the Slurm step,
// the YARN container, or a child of the command line. It is the parent of everything on the node and
// decides nothing: it starts, hands over, signals, reaps, sweeps and reports.
//
// The nouns. A daemon is the agent (always) or the head (on one node): children that the keeper starts
// again when they die, with a socketpair on descriptor 3. A program is a rank: a child that the agent
// asked for, named by group, incarnation and rank. A tree is a program with all that descends from it.
// A stray is a process below the keeper that belongs to no program. A held port is bound for a rank
// that will listen on it.
//
// Ownership. Everything belongs to the loop, which runs on the process's main thread (Main must be
// called there, locked by main.go): programs die by PDEATHSIG when the thread that forked them ends,
// so this thread forks and never ends before the process. Other goroutines only read (connections,
// standard input, the daemons' sockets, a program's path) or write one daemon's socket, and post what
// they got to the loop. All of them are over when Main returns, but for
// the one that reads standard input.
//
// What the agent must know:
//
//   - The first ProgramState of a program to an agent process carries its descriptors, whatever its phase:
//     standard input if ProgramState.stdin (only while nobody closed it), standard output, standard error;
//     a terminal is a single descriptor. They are non-blocking, and shared with the keeper's copies.
//     Later ones carry none. A new agent gets one for every program that was not forgotten, the ended
//     too: their pipes may hold unread output. KeeperConfig.programs lists the same.
//   - The keeper holds a copy of the input's write end, so that an agent's crash is no end of input.
//     To end the input, close the own copy and send a ProgramSignal with signal 0 and no tree.
//     A terminal is ended by its end-of-file character instead; reading one whose program is gone
//     gives EIO, which means the end.
//   - ProgramLaunch, PortHold are idempotent: asked again they are answered again, with descriptors.
//   - ProgramSignal without tree signals the program's process alone. With tree it ends the program: the
//     signal to the whole tree now (with CONT, so that a stopped one gets it), KILL to what is left after
//     grace, at once if grace is 0 or the signal is KILL.
//   - ProgramState Ended means the rank's own process. Of its descendants, those that are left then get
//     TERM, and KILL after the launch's grace, a second at most.
//   - A later KeeperConfig says that the head is elsewhere now, and nothing else that is new. A keeper that hosts no head and was
//     given no address starts its agent when the address arrives on standard input.
//
// The environment of a program is what the agent sent, with MANIPLE_NODE_KEY, MANIPLE_GROUP,
// MANIPLE_INCARNATION and MANIPLE_RANK set by the keeper: the mark by which a process is known for its
// program's even when parent and session are lost.
//
// Invariants:
//
//	KEEP-1: no program outlives its keeper, killed by -9 too; what the kernel does not end (descendants)
//	        the agent sweeps by mark.
//	KEEP-2: a daemon's death ends no program, loses no end of a program, and no output that is in a pipe.
//	KEEP-3: a tree that is stopped is gone when grace is over: processes that left the session, were
//	        orphaned, ignore TERM or keep forking included. No process outside the keeper's own
//	        descendants is ever signalled while the keeper lives, but for what a dead node left (sweep).
//	KEEP-4: a program has no descriptor but 0, 1, 2, and default signals.
//	KEEP-5: no two keepers of a machine hold the same port at the same time, whoever runs them.
//	KEEP-6: nothing is left when the keeper has printed its end: process, directory, socket.
//	KEEP-7: the end of a program is kept and told again to each new agent until ProgramForget.
//
// Limits: maxPrograms programs, maxHeld ports, maxHalfOpen connections that have not said what they
// want, maxWaiting that wait for a daemon. A descendant that left the session, cleared its environment
// and was orphaned before any scan saw it is a stray: it ends with the node's last program. A process
// of another user (sudo, setuid) can't be signalled; its keeper says so and goes on.
package keeper
