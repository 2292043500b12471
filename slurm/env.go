package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Environment is what Slurm tells a process about its job, in typed form. Fields are zero where Slurm
// says nothing: salloc's shell knows no node, a batch script is not in a step.
type Environment struct {
	JobID     int64  // SLURM_JOB_ID: of this array task or component
	JobName   string //
	User      string
	Account   string
	Partition string
	QOS       string
	Cluster   string
	SubmitDir string
	SubmitOn  string // host
	Restarts  int    // SLURM_RESTART_COUNT, 0 the first time
	End       time.Time

	Nodes        []string // in Slurm's order
	CPUsPerNode  []int    // of each node; nil if unknown
	TasksPerNode []int    // of each node; nil if no task count was given
	Tasks        int      // -n
	CPUsPerTask  int      // -c
	MemPerNode   int64    // bytes; 0 is all or unknown
	MemPerCPU    int64    // bytes
	GPUs         string   // SLURM_JOB_GPUS of this node
	GPUsOnNode   int      // SLURM_GPUS_ON_NODE of this node
	GPUsPerTask  int      // --gpus-per-task
	GPUsPerNode  int      // --gpus-per-node; not set by --gres
	GPUsTotal    int      // --gpus
	NodeName     string   // SLURMD_NODENAME: "" on a login node
	TmpDir       string   // SLURM_TMPDIR, where the site makes one

	Array *Array // nil: not an array
	Het   *Het   // nil: not heterogeneous
	Step  *Step  // nil: the batch script or salloc's shell
}

// Array is the place of a job in its array.
type Array struct {
	JobID                int64
	TaskID               int
	Count, Min, Max, Inc int
}

// Het is a heterogeneous job: one component for each group of nodes.
type Het struct {
	JobID  int64 // of the leader
	Groups []Component
}

// Component is one part of a heterogeneous job.
type Component struct {
	JobID        int64
	Nodes        []string
	CPUsPerNode  []int
	TasksPerNode []int
	Tasks        int
	Partition    string
}

// Step is the job step that a process is in.
type Step struct {
	ID          string
	Nodes       []string
	Tasks       int
	Rank        int // SLURM_PROCID
	LocalRank   int
	NodeRank    int
	GPUs        string
	LauncherRun bool // srun started it (a batch script has a step of its own without tasks)
}

// Environ reads the environment of this process through getenv. ok is false outside a job.
func Environ(getenv func(string) string) (e *Environment, ok bool, err error) {
	id := first(getenv, "SLURM_JOB_ID", "SLURM_JOBID")
	if id == "" {
		return nil, false, nil
	}
	r := reader{getenv: getenv}
	e = &Environment{
		JobID:       r.number("SLURM_JOB_ID", "SLURM_JOBID"),
		JobName:     getenv("SLURM_JOB_NAME"),
		User:        getenv("SLURM_JOB_USER"),
		Account:     getenv("SLURM_JOB_ACCOUNT"),
		Partition:   getenv("SLURM_JOB_PARTITION"),
		QOS:         getenv("SLURM_JOB_QOS"),
		Cluster:     getenv("SLURM_CLUSTER_NAME"),
		SubmitDir:   getenv("SLURM_SUBMIT_DIR"),
		SubmitOn:    getenv("SLURM_SUBMIT_HOST"),
		Restarts:    r.int("SLURM_RESTART_COUNT"),
		End:         r.epoch("SLURM_JOB_END_TIME"),
		Nodes:       r.hosts("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
		Tasks:       r.int("SLURM_NTASKS", "SLURM_NPROCS"),
		CPUsPerTask: r.int("SLURM_CPUS_PER_TASK"),
		MemPerNode:  r.memory("SLURM_MEM_PER_NODE"),
		MemPerCPU:   r.memory("SLURM_MEM_PER_CPU"),
		GPUs:        getenv("SLURM_JOB_GPUS"),
		GPUsOnNode:  r.int("SLURM_GPUS_ON_NODE"),
		GPUsPerTask: r.gpus("SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK"),
		GPUsPerNode: r.gpus("SLURM_GPUS_PER_NODE"),
		GPUsTotal:   r.gpus("SLURM_GPUS"),
		NodeName:    getenv("SLURMD_NODENAME"),
		TmpDir:      getenv("SLURM_TMPDIR"),
	}
	e.CPUsPerNode = r.counts("SLURM_JOB_CPUS_PER_NODE")
	e.TasksPerNode = r.counts("SLURM_TASKS_PER_NODE")
	if getenv("SLURM_ARRAY_JOB_ID") != "" {
		e.Array = &Array{
			JobID: r.number("SLURM_ARRAY_JOB_ID"), TaskID: r.int("SLURM_ARRAY_TASK_ID"), Count: r.int("SLURM_ARRAY_TASK_COUNT"),
			Min: r.int("SLURM_ARRAY_TASK_MIN"), Max: r.int("SLURM_ARRAY_TASK_MAX"), Inc: r.int("SLURM_ARRAY_TASK_STEP"),
		}
	}
	if n := r.int("SLURM_HET_SIZE"); n > 0 {
		e.Het = r.het(n)
	}
	if step := first(getenv, "SLURM_STEP_ID", "SLURM_STEPID"); step != "" {
		e.Step = &Step{
			ID: step, Nodes: r.hosts("SLURM_STEP_NODELIST"), Tasks: r.int("SLURM_STEP_NUM_TASKS"), Rank: r.int("SLURM_PROCID"),
			LocalRank: r.int("SLURM_LOCALID"), NodeRank: r.int("SLURM_NODEID"), GPUs: getenv("SLURM_STEP_GPUS"),
			LauncherRun: getenv("SLURM_STEP_NUM_TASKS") != "",
		}
	}
	return e, true, r.err
}

// FullID is the job's ID as users write it: 12, 12_3 in an array, 12+1 in a heterogeneous job.
func (e *Environment) FullID() string {
	switch {
	case e.Array != nil:
		return fmt.Sprintf("%d_%d", e.Array.JobID, e.Array.TaskID)
	case e.Het != nil:
		for i, c := range e.Het.Groups {
			if c.JobID == e.JobID && i > 0 {
				return fmt.Sprintf("%d+%d", e.Het.JobID, i)
			}
		}
	}
	return strconv.FormatInt(e.JobID, 10)
}

// AllNodes are the nodes of all components, the leader's first.
func (e *Environment) AllNodes() []string {
	if e.Het == nil {
		return e.Nodes
	}
	var all []string
	for _, c := range e.Het.Groups {
		all = append(all, c.Nodes...)
	}
	return all
}

// reader reads variables and keeps the first error.
type reader struct {
	getenv func(string) string
	err    error
}

func first(getenv func(string) string, names ...string) string {
	for _, n := range names {
		if v := getenv(n); v != "" {
			return v
		}
	}
	return ""
}

func (r *reader) fail(name string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("slurm: environment: %s: %w", name, err)
	}
}

func (r *reader) number(names ...string) int64 {
	v := first(r.getenv, names...)
	if v == "" {
		return 0
	}
	n, err := parseNumber(v)
	if err != nil {
		r.fail(names[0], fmt.Errorf("%q is no number", clip(v)))
	}
	return n
}

func (r *reader) int(names ...string) int {
	n := r.number(names...)
	if n > 1<<31 {
		r.fail(names[0], fmt.Errorf("%d is too large", n))
		return 0
	}
	return int(n)
}

func (r *reader) epoch(name string) time.Time {
	n := r.number(name)
	if n == 0 || n >= 1<<32-2 { // NO_VAL and INFINITE
		return time.Time{}
	}
	return time.Unix(n, 0)
}

func (r *reader) memory(name string) int64 {
	v := r.getenv(name)
	if v == "" {
		return 0
	}
	n, err := ParseMemory(v)
	if err != nil {
		r.fail(name, err)
	}
	return n
}

func (r *reader) gpus(names ...string) int {
	v := first(r.getenv, names...)
	n, err := CountGPUs(v)
	if err != nil {
		r.fail(names[0], err)
	}
	return n
}

// CountGPUs reads a count of GPUs in the forms of sbatch's flags, "2" and "h100:2", and in that of
// SLURM_TRES_PER_TASK, which 24.11 has instead of SLURM_GPUS_PER_TASK: "cpu=1,gres/gpu:h100=2". Types are
// added up, other resources are none.
func CountGPUs(v string) (n int, err error) {
	for _, part := range splitOutside(v) {
		count := part
		name, gres := strings.CutPrefix(part, "gres/")
		if !gres {
			name, gres = strings.CutPrefix(part, "gres:") // up to 23.02
		}
		switch {
		case gres:
			kind, isGPU := strings.CutPrefix(name, "gpu")
			if !isGPU || kind != "" && kind[0] != ':' && kind[0] != '=' {
				continue
			}
			if count = kind; kind == "" {
				count = "1"
			}
		case part == "", strings.ContainsAny(part, "=/"): // cpu=1, license/x=1
			continue
		}
		if i := strings.LastIndexAny(count, ":="); i >= 0 {
			count = count[i+1:]
		}
		c, err := parseNumber(count)
		if err != nil || c >= 1<<20 || n+int(c) >= 1<<20 {
			return 0, fmt.Errorf("%q is no count of GPUs", clip(v))
		}
		n += int(c)
	}
	return n, nil
}

func (r *reader) hosts(names ...string) []string {
	hosts, err := ParseHosts(first(r.getenv, names...))
	if err != nil {
		r.fail(names[0], err)
	}
	return hosts
}

func (r *reader) counts(name string) []int {
	list, err := ParseCounts(r.getenv(name))
	if err != nil {
		r.fail(name, err)
	}
	return list
}

func (r *reader) het(n int) *Het {
	if n > 1024 {
		r.fail("SLURM_HET_SIZE", fmt.Errorf("%d components", n))
		return nil
	}
	h := &Het{}
	for i := range n {
		group := "_HET_GROUP_" + strconv.Itoa(i)
		h.Groups = append(h.Groups, Component{
			JobID:        r.number("SLURM_JOB_ID"+group, "SLURM_JOBID"+group),
			Nodes:        r.hosts("SLURM_JOB_NODELIST"+group, "SLURM_NODELIST"+group),
			CPUsPerNode:  r.counts("SLURM_JOB_CPUS_PER_NODE" + group),
			TasksPerNode: r.counts("SLURM_TASKS_PER_NODE" + group),
			Tasks:        r.int("SLURM_NTASKS" + group),
			Partition:    r.getenv("SLURM_JOB_PARTITION" + group),
		})
	}
	h.JobID = h.Groups[0].JobID
	return h
}

// ParseCounts reads one number per node, as "2(x3),1" for 2, 2, 2, 1.
func ParseCounts(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	var list []int
	for _, part := range strings.Split(s, ",") {
		count, times, repeated := strings.Cut(part, "(x")
		n, err := parseNumber(count)
		times64 := int64(1)
		if repeated {
			var closed bool
			if times, closed = strings.CutSuffix(times, ")"); !closed {
				err = strconv.ErrSyntax
			} else if err == nil {
				times64, err = parseNumber(times)
			}
		}
		if err != nil || n > 1<<31 || times64 > int64(MaxHosts-len(list)) {
			return nil, fmt.Errorf("slurm: counts %q: not of the form 2(x3),1", clip(part))
		}
		list = append(list, slices.Repeat([]int{int(n)}, int(times64))...)
	}
	return list, nil
}
