package cli

import urfave "github.com/urfave/cli/v2"

// Words that people bring along from other programs, for "did you mean". They are no aliases: a script
// with two names for one thing is harder to read.

var otherVerbs = map[string]string{
	"ps": "status", "ls": "status", "list": "status", "squeue": "status", "queue": "status", "top": "status", "jobs": "status",
	"sinfo": "nodes", "hosts": "nodes", "info": "doctor", "check": "doctor", "diagnose": "doctor",
	"start": "up", "init": "up", "create": "up", "stop": "down", "shutdown": "down", "destroy": "down",
	"kill": "cancel", "scancel": "cancel", "delete": "cancel", "rm": "cancel",
	"sbatch": "submit", "salloc": "submit", "srun": "run", "mpirun": "run", "mpiexec": "run", "torchrun": "run", "launch": "run",
	"shell": "exec", "ssh": "exec", "attach": "logs", "tail": "logs", "events": "logs", "why": "explain", "describe": "explain",
	"settings": "config", "configure": "config", "options": "config",
}

var otherFlags = map[string][]string{
	"np": {"ntasks"}, "nproc": {"ntasks"}, "procs": {"ntasks"}, "workers": {"ntasks"}, "nproc-per-node": {"ntasks-per-node"}, "ppn": {"ntasks-per-node"},
	"N": {"fake-nodes"}, "nnodes": {"nodes"}, "tail": {"lines"}, "n": {"lines"}, "watch": {"follow"}, "force": {"now"}, "kill": {"now"}, "9": {"now"},
	"name": {"cluster", "job-name"}, "cwd": {"chdir"}, "workdir": {"chdir"}, "timeout": {"time", "join-timeout"}, "env": {"export"},
	"verbose": {"json"}, "retries": {"max-restarts"}, "restarts": {"max-restarts"}, "silent": {"quiet"}, "q": {"quiet"},
}

// queueFlags are those of sbatch that concern the queue, which only submit stands in.
var queueFlags = []string{
	"p", "partition", "A", "account", "q", "qos", "a", "array", "d", "dependency", "reservation", "w", "nodelist", "x", "exclude", "requeue",
	"mail-type", "mail-user", "exclusive", "begin", "hold", "H", "comment", "L", "licenses",
}

// meant is the flag of cmd that somebody means who writes another program's; "" if none is known.
func meant(cmd *urfave.Command, name string) string {
	known := shapes(cmd)
	for _, other := range otherFlags[name] {
		if shape, ok := known[other]; ok {
			return shape.name
		}
	}
	return ""
}
