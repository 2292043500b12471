package spec

import (
	"strconv"
	"strings"
	"time"
)

// Flag is one row of the table from which the command line, its help, its completion and the docs are
// made. Names and value forms are sbatch's where sbatch has the flag.
type Flag struct {
	Name  string // long name
	Short string // one letter, or ""
	Arg   string // placeholder of the value; "" is a switch
	Help  string
	Rare  bool // left out of the one-screen help
	set   func(s *Spec, v string) *FlagError
}

// Flags is the table, in the order of the help.
var Flags = []Flag{
	{Name: "nodes", Short: "N", Arg: "MIN[-MAX]", Help: "nodes", set: setNodes},
	{Name: "ntasks", Short: "n", Arg: "N", Help: "ranks in all", set: count(func(s *Spec) *int { return &s.Tasks })},
	{Name: "ntasks-per-node", Arg: "N", Help: "ranks on each node", set: count(func(s *Spec) *int { return &s.TasksPerNode })},
	{Name: "cpus-per-task", Short: "c", Arg: "N", Help: "cores for each rank", set: count(func(s *Spec) *int { return &s.CPUsPerTask })},
	{Name: "gpus-per-task", Arg: "N", Help: "GPUs for each rank", set: gpus(func(s *Spec) *int { return &s.GPUsPerTask })},
	{Name: "gpus-per-node", Arg: "N", Help: "GPUs on each node, for all its ranks", set: gpus(func(s *Spec) *int { return &s.GPUsPerNode })},
	{Name: "gpus", Arg: "N", Help: "GPUs in all, for all the ranks of a node", Rare: true, set: gpus(func(s *Spec) *int { return &s.GPUs })},
	{Name: "gpu-visibility", Arg: "own|node", Help: "GPUs that a rank sees (own with --gpus-per-task)", Rare: true, set: setVisibility},
	{Name: "mem", Arg: "SIZE", Help: "memory on each node (512M, 8G)", set: memory(func(s *Spec) *int64 { return &s.Mem })},
	{Name: "mem-per-cpu", Arg: "SIZE", Help: "memory for each core", Rare: true, set: memory(func(s *Spec) *int64 { return &s.MemPerCPU })},
	{Name: "gres", Arg: "NAME[:N],...", Help: "generic resources per node", Rare: true, set: setGres},
	{Name: "resources", Arg: "NAME=N,...", Help: "custom resources per node, without -N per rank", Rare: true, set: setResources},
	{Name: "constraint", Short: "C", Arg: "LABEL[&LABEL]", Help: "labels (KEY or KEY=VALUE) that the nodes must have", Rare: true, set: setConstraint},
	{Name: "strategy", Arg: "NAME", Help: "pack, spread, strict-pack or strict-spread", Rare: true, set: setStrategy},
	{Name: "time", Short: "t", Arg: "D-HH:MM:SS", Help: "end it after this time", set: setTime},
	{Name: "immediate", Arg: "SECONDS", Help: "give up if it cannot start within this time", Rare: true, set: seconds(func(s *Spec) *time.Duration { return &s.Wait })},
	{Name: "job-name", Short: "J", Arg: "NAME", Help: "name", set: text(func(s *Spec) *string { return &s.Name })},
	{Name: "output", Short: "o", Arg: "FILE", Help: "stdout to files (%t rank, %N node, %x name, %j job)", set: text(func(s *Spec) *string { return &s.Output })},
	{Name: "error", Short: "e", Arg: "FILE", Help: "stderr to files", set: text(func(s *Spec) *string { return &s.Error })},
	{Name: "input", Short: "i", Arg: "FILE", Help: "stdin of rank 0 from a file", Rare: true, set: text(func(s *Spec) *string { return &s.Input })},
	{Name: "chdir", Short: "D", Arg: "DIR", Help: "working directory", Rare: true, set: text(func(s *Spec) *string { return &s.Chdir })},
	{Name: "export", Arg: "ALL|NONE|K=V,...", Help: "environment of the ranks", Rare: true, set: setExport},
	{Name: "max-restarts", Arg: "N", Help: "start the gang again after a failure", set: setRestarts},
	{Name: "grace", Arg: "SECONDS", Help: "between TERM and KILL (30)", Rare: true, set: seconds(func(s *Spec) *time.Duration { return &s.Grace })},
	{Name: "signal", Arg: "SIG[@SECONDS]", Help: "signal so long before the time limit (USR1@300)", Rare: true, set: setSignal},
	{Name: "slurm-env", Arg: "MODE", Help: "rewrite, keep or hide SLURM_* of ranks", Rare: true, set: setSlurmEnv},
	{Name: "bind", Help: "a set of cores of its own for each rank", Rare: true, set: setBind},
}

// Parse makes a Spec of the values that get knows, by the long names of flags. get also gives the value's
// origin as the user wrote it ("--nodes", "MANIPLE_NODES"), for messages.
func Parse(get func(name string) (value, origin string, ok bool)) (*Spec, error) {
	s := new(Spec)
	for i := range Flags {
		f := &Flags[i]
		v, origin, ok := get(f.Name)
		if !ok {
			continue
		}
		if err := f.set(s, v); err != nil {
			err.Flag = origin
			return nil, err
		}
	}
	return s, s.check()
}

func bad(why, do string) *FlagError { return &FlagError{Why: why, Do: do} }

func count(at func(*Spec) *int) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return bad(quote(v)+" is not a number from 1 on", "write for instance 4")
		}
		if n > 1<<20 {
			return bad(v+" is more than there can be", "write at most 1048576")
		}
		*at(s) = n
		return nil
	}
}

// gpus also takes sbatch's "type:n"; the type is a label and not a count.
func gpus(at func(*Spec) *int) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		num := v
		if kind, n, ok := strings.Cut(v, ":"); ok {
			num = n
			s.Labels = append(s.Labels, Label{Key: "gpu", Value: kind})
		}
		n, err := strconv.Atoi(num)
		if err != nil || n < 0 || n > 1<<20 {
			return bad(quote(v)+" is not a number of GPUs", "write N or TYPE:N")
		}
		*at(s) = n
		return nil
	}
}

func text(at func(*Spec) *string) func(*Spec, string) *FlagError {
	return func(s *Spec, v string) *FlagError {
		if v == "" {
			return bad("is empty", "leave it away, or give it a value")
		}
		*at(s) = v
		return nil
	}
}

func quote(v string) string { return strconv.Quote(v) }
