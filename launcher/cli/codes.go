package cli

// Exit codes that are ours; every other one is the user's program's. docs/spec/errors.md is made of
// these two tables.
const (
	ExitUsage       = 64 // the command line is wrong
	ExitUnreachable = 69 // no cluster, or it does not answer
	ExitBug         = 70 // our own fault
	ExitCreate      = 73 // a file, a directory or a process cannot be made
	ExitRetry       = 75 // not now: try again
	ExitRefused     = 77 // somebody does not let us
	ExitConfig      = 78 // it cannot work as it is asked for

	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// ExitCodes is the table of exit codes.
var ExitCodes = []struct {
	Code    string
	Meaning string
}{
	{"0", "all is well; every rank ended with 0"},
	{"1 to 255", "the program's own: of the driver, or of the rank that failed first"},
	{"128+N", "that rank was ended by signal N; 137 also when its node died"},
	{"126", "the program is there and cannot be executed"},
	{"127", "the program was not found"},
	{"64", "usage: the command line is wrong"},
	{"69", "unavailable: no cluster, or it does not answer"},
	{"70", "software: our bug"},
	{"73", "cannot create: a file, a directory, a process"},
	{"75", "try again: nodes did not join in time, it could not start in time, the cluster is draining"},
	{"77", "refused: somebody else's files, a foreign cluster, another user"},
	{"78", "configuration: no node has what is asked for, versions differ"},
	{"129", "HUP: the terminal went away (`nohup` keeps that from `maniple run`)"},
	{"130", "Ctrl-C"},
	{"131", "Ctrl-\\: stopped at once"},
	{"143", "TERM, or USR1; or the time limit of `maniple run --time`"},
}

// ErrorCodes is the table of errors that users see. Name is stable and is the code of an error with --json.
var ErrorCodes = []struct {
	Name    string
	Exit    int
	Meaning string
	Do      string
}{
	{"USAGE", ExitUsage, "a flag or an argument is wrong", "the message names the right one"},
	{"NO_CLUSTER", ExitUnreachable, "no cluster of that name is up", "`maniple up`, or let `maniple run` start one for its own time"},
	{"UNREACHABLE", ExitUnreachable, "the cluster's agent does not answer", "`maniple doctor`; the log is in the node's directory"},
	{"BUG", ExitBug, "something that should not happen", "report it with the text"},
	{"CANNOT_CREATE", ExitCreate, "a directory, file or process cannot be made", "the message names it and the reason"},
	{"DISK_FULL", ExitCreate, "no space left on the device that the message names", "free some, or set TMPDIR"},
	{"CLUSTER_UP", ExitCreate, "a cluster of that name is up", "`maniple down` it, or give another --cluster"},
	{"JOIN_TIMEOUT", ExitRetry, "nodes are missing after --join-timeout", "look at the nodes that the message names"},
	{"NODE_FAILED", ExitRetry, "a node ended before it joined", "the message has what it said"},
	{"DRAINING", ExitRetry, "the cluster is going down", "bring up another"},
	{"REFUSED", ExitRefused, "a file or directory belongs to another user, or a peer refused us", "the message names it"},
	{"INFEASIBLE", ExitConfig, "no node, or not so many, has what is asked for", "`maniple nodes` shows what there is"},
	{"CONFIG", ExitConfig, "a configuration file is wrong", "the message names the file, the key and the right one"},
	{"VERSION", ExitConfig, "another version of maniple runs there", "use the same one everywhere"},
	{"NOT_FOUND", ExitNotFound, "the program does not exist", "give its path"},
	{"NOT_EXECUTABLE", ExitNotExecutable, "the program is a directory or lacks the x bit", "chmod +x it, or name its interpreter"},
	{"MASTER_PORT_NOT_REUSABLE", 0, "rank 0 found MASTER_PORT in use: the program binds it without SO_REUSEADDR, or another program set that option and took it; the gang starts once more, with another port", "set SO_REUSEADDR in the program"},
}
