package cli

// Code is a stable name of something that a node, the head or `maniple doctor` says. docs/spec/errors.md
// is made of these tables too; ci/lint finds a code that is in none.
type Code struct {
	Name    string
	Exit    string // of the keeper, where it ends with it
	Meaning string
	Do      string
}

// NodeCodes are the errors of a keeper: the code of an "error" event on its standard output, which
// commands show as NODE_FAILED with the text.
var NodeCodes = []Code{
	{"BOOT_DOC", "78", "the keeper was given no boot document, or one that it can't use; or the node's name can't be had", "use `maniple up`, and the same maniple on all nodes"},
	{"USAGE", "64", "an argument that a keeper does not know", "keepers are started by `maniple up` and `maniple run`"},
	{"ADDRESS", "78", "the node has no address at which others reach it", "--interface with a pattern that fits one of its interfaces"},
	{"PORT", "73", "no port can be bound for the node", "--port-range with ports that are free"},
	{"SOCKET", "73", "the node's unix socket can't be made", "set TMPDIR to a local directory of your own"},
	{"CANNOT_CREATE", "73", "the node's directory, or a file in it, can't be made", "set TMPDIR to a local directory of your own"},
	{"DISK_FULL", "73", "no space, no inode or no quota is left for the node's directory", "free some, or set TMPDIR"},
	{"CLUSTER_UP", "73", "another keeper has that node of that cluster", "give the cluster or the node another name"},
	{"REFUSED", "77", "the node's directory is another user's", "set TMPDIR to a directory of your own"},
	{"RANDOM", "71", "the kernel gives no random bytes", "look at /dev/urandom on the node, in containers above all"},
	{"PROCESS", "71", "the kernel does not let the keeper adopt orphans or close what it inherited", "look at the seccomp rules of the container"},
	{"PROCESS_LIMIT", "73", "the user, or the cgroup, may have no more processes and threads: the node's agent or head can't be started", "raise `ulimit -u` or the cgroup's pids.max, or end other programs"},
	{"SIGNAL", "128+N", "a signal ended the keeper before its boot document came", "nothing: somebody wanted it"},
	{"AGENT_CRASH_LOOP", "70", "the node's agent ended five times in 10 s", "report it with the text, which has its last words"},
	{"HEAD_CRASH_LOOP", "70", "the head ended five times in 10 s", "report it with the text, which has its last words"},
	{"KEEPER", "70", "something that should not happen in a keeper", "report it with the text"},
	{"LEFT", "", "processes of an ended node do not end even by KILL", "they hang in the kernel (a file system that is gone) or are another user's: tell the administrator"},
}

// NoticeCodes are what the head tells about a cluster while it runs; warnings show as [CODE].
var NoticeCodes = []Code{
	{"NODE_JOINED", "", "a node joined after the start", ""},
	{"NODE_DIED", "", "a node died, and why", "its gangs end with 137, or start again with --max-restarts"},
	{"NODE_DRAIN", "", "a node is being drained, by when and why, or takes new work again", "`maniple explain NODE` says what is left there; `maniple drain --undo NODE` takes it back"},
	{"NODES_MISSING", "", "the time to join is over, and it goes on without some", "look at the nodes that the message names"},
	{"AGENT_RESTARTED", "", "a node's agent was started anew; no program noticed", "report it if nobody killed it"},
	{"HEAD_RESTARTED", "", "the head was started anew and read its journal; no program noticed", "report it if nobody killed it"},
	{"GANG_RESTARTED", "", "a gang starts again, and why", ""},
	{"CLOCK_SKEW", "", "a node's clock differs from the head's", "times in its programs' logs do not compare; ask for NTP"},
	{"DRAIN", "", "the cluster is going down, when and why", "programs get TERM, and what the grace says"},
	{"JOURNAL_SHORT", "", "the head's disk is full: nothing new can begin", "free space where the message says"},
	{"JOURNAL_ROOM", "", "the head's disk has room again", ""},
	{"JOURNAL_FULL", "", "the head can't write down what happens, and ends the cluster", "free space, or set TMPDIR"},
	{"HEAD_BUG", "", "something that should not happen in the head", "report it with the text"},
}

// DoctorCodes are the findings of `maniple doctor --json`; each brings its level, text and what to do.
var DoctorCodes = []Code{
	{"DETECT", "", "what the node has could not be found out, or only in part", ""},
	{"GRANT", "", "what of the machine this user or job may use, and who says so", ""},
	{"GPU_NO_DRIVER", "", "a GPU is there and its driver is not", ""},
	{"NET", "", "the addresses at which other nodes reach this one", ""},
	{"PORT_RANGE", "", "few ports are left that the kernel does not hand out itself", ""},
	{"HOSTNAME_LOOPBACK", "", "/etc/hosts has the host's name at a loopback address", ""},
	{"CGROUP", "", "the cgroup, and whether it can be divided", ""},
	{"PIDS_SMALL", "", "the cgroup allows few processes", ""},
	{"FABRIC", "", "a high-speed network", ""},
	{"FABRIC_DOWN", "", "a port of it is not active", ""},
	{"FABRIC_NO_ACCESS", "", "there is one, and no device to open it by", ""},
	{"KERNEL_OLD", "", "the kernel is older than what is tested", ""},
	{"OVERCOMMIT", "", "memory that is reserved and not used is refused", ""},
	{"DEV_SHM", "", "the shared memory file system", ""},
	{"DEV_SHM_NONE", "", "there is none", ""},
	{"DEV_SHM_SMALL", "", "it is small", ""},
	{"DEV_SHM_FULL", "", "it is full", ""},
	{"TMP", "", "where the node's files go", ""},
	{"TMP_FULL", "", "little space or few inodes are left there", ""},
	{"HOME", "", "whether the home directory can be written", ""},
	{"STATE_DIR", "", "where clusters are noted for other commands", ""},
	{"CLOCK", "", "whether the clock is set and synchronised", ""},
	{"PYTHON", "", "the Python that programs find", ""},
	{"SLURM", "", "whether this is a Slurm job, or could be", ""},
	{"SLURM_NO_SRUN", "", "it is one, and there is no srun", ""},
	{"CLUSTER", "", "whether a cluster that is up answers", ""},
	{"ULIMIT_NOFILE", "", "how many files a process may open", ""},
	{"ULIMIT_NPROC", "", "how many processes the user may have", ""},
	{"ULIMIT_MEMLOCK", "", "how much memory may be locked, as RDMA wants", ""},
}
