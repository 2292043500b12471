// Package slurm is the backend of a Slurm allocation: one job step, one srun, one keeper on each node. (A
// heterogeneous job has a step for each component.)
//
// Nouns. The step is everything that we run in the allocation; programs are the keepers' children, never
// further steps. The srun is this side of the step: its standard input is broadcast to the keepers (boot
// document, head line, drain), their lines come out of its standard output, each with its task's number.
//
// Ownership. The Session owns the srun process, which is a session leader of its own so that a terminal's
// Ctrl-C and hang-up reach the command and not the cluster, and three goroutines: two readers and one
// that reaps, and the clock that knows when the job's time is over. All have ended when Events is closed.
//
// Guarantees.
//
//	STEP-1: the step takes nothing from the job: --overlap --mem=0, so the user's own srun works beside
//	        it; no variable of the job or of an outer step shapes it (slurm.StepEnv).
//	STEP-2: a launch costs two requests to the controller, srun's look-up of the allocation and its
//	        creation of the step; running costs at most MaxQuestions a day, none in the first 30 seconds.
//	STEP-3: keepers whose document has an owner end when this process does, however it ends: srun reads
//	        the end of its input and passes it on.
//	STEP-4: the loss of a node is told as Lost once, whether Slurm or the keeper's task said it first.
//
// Limits. A keeper's line of more than 1,024 bytes may arrive in pieces (srun's messages) and is then
// text. The program must be at the same path on all nodes, or is sent there by srun --bcast, which is
// one more request.
package slurm
