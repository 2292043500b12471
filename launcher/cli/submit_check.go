package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

// checkJob finds what would fail only after hours in the queue, or would be refused by sbatch without a
// useful word. Nothing of it asks the controller while the cache knows the partitions.
func (c *call) checkJob(j *job, client *exec.Client) error {
	if len(j.command) == 0 || j.command[0] == "" {
		return checkProgram("submit", nil, j.dir, c.environ)
	}
	if err := checkDir(j.dir); err != nil {
		return err
	}
	if j.own["no-check"] == "" {
		if err := checkProgram("submit", j.command, j.dir, c.environ); err != nil {
			return err
		}
		if err := checkScript(j); err != nil {
			return err
		}
	}
	if err := checkOutputDirs(j); err != nil {
		return err
	}
	if _, elsewhere := j.get("clusters"); elsewhere {
		return nil // another cluster's partitions are not known here
	}
	if _, unread := j.own["sbatch"]; unread {
		return nil // flags that are not looked at may change everything
	}
	list, err := client.Partitions(c.ctx)
	if err != nil {
		if j.own["dry-run"] != "" {
			return nil
		}
		return slurmFault("submit", err)
	}
	err = checkPartitions(j, list)
	if err != nil {
		// Before refusing anything make sure that it is not our memory, or an old slurm.conf, that is wrong.
		if fresh, ferr := client.AskPartitions(c.ctx); ferr == nil {
			err = checkPartitions(j, fresh)
		}
	}
	return err
}

// checkScript looks for the file that an interpreter is to run.
func checkScript(j *job) error {
	script := scriptOf(j.command)
	if script == "" {
		return nil
	}
	path := script
	if !filepath.IsAbs(path) {
		path = filepath.Join(j.dir, path)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return &Fault{Name: "NOT_FOUND", What: "submit", Why: script + " does not exist", Do: "it would be looked for as " + path, Err: err}
	case info.IsDir() && !strings.HasPrefix(filepath.Base(j.command[0]), "python"):
		return &Fault{Name: "NOT_EXECUTABLE", What: "submit", Why: script + " is a directory", Do: "give a file"}
	}
	return nil
}

// checkOutputDirs looks for the directories of output files: Slurm fails a job whose output it cannot open,
// and has no place to say so.
func checkOutputDirs(j *job) error {
	for _, name := range []string{"output", "error"} {
		pattern, ok := j.get(name)
		if !ok {
			continue
		}
		dir := filepath.Dir(pattern)
		if strings.Contains(dir, "%") {
			continue
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(j.dir, dir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return usage("--"+name, dir+" does not exist", "mkdir -p it: Slurm makes no directories, and would fail the job without a word")
		}
		if err := unix.Access(dir, unix.W_OK); err != nil {
			return &Fault{Name: "REFUSED", What: "--" + name, Why: dir + " cannot be written: " + err.Error(), Do: "give another directory", Err: err}
		}
	}
	return nil
}

// checkPartitions compares each component with the partitions that it may run in; one that fits is enough.
func checkPartitions(j *job, list []slurm.Partition) error {
	for i, group := range j.groups {
		if i == 0 { // what is given on the command line comes later and wins
			group = append(slices.Clone(j.inLines), group...)
		}
		if err := checkGroup(group, list); err != nil {
			return err
		}
	}
	return nil
}

func checkGroup(group []flagValue, list []slurm.Partition) error {
	var names []string
	if v, ok := lastOf(group, "partition"); ok {
		names = strings.Split(v, ",")
	} else {
		for _, p := range list {
			if p.Default {
				names = append(names, p.Name)
			}
		}
	}
	var firstErr error
	for _, name := range names {
		p := findPartition(list, name)
		if p == nil {
			return noPartition(name, list)
		}
		err := fits(group, p)
		if err == nil {
			return nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return firstErr
}

func findPartition(list []slurm.Partition, name string) *slurm.Partition {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func noPartition(name string, list []slurm.Partition) error {
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	do := "there are " + strings.Join(names, ", ")
	if near := nearest(name, names); near != "" {
		do = "did you mean " + near + "? " + strings.ToUpper(do[:1]) + do[1:]
	}
	return usage("--partition", "no partition "+strconv.Quote(name), do)
}

// fits compares what a component asks for with what a partition has. A value in a form that is not
// known here is sbatch's to judge.
func fits(group []flagValue, p *slurm.Partition) error {
	infeasible := func(flag, why, do string) error {
		return &Fault{Name: "INFEASIBLE", What: "--" + flag, Why: why, Do: do}
	}
	if !p.Up {
		return infeasible("partition", p.Name+" is down or closed", "give another with -p")
	}
	if v, ok := lastOf(group, "time"); ok {
		d, err := slurm.ParseDuration(v)
		if err != nil {
			why, do, _ := strings.Cut(strings.TrimPrefix(err.Error(), "slurm: "), "; ")
			return usage("--time", why, do)
		}
		if d == 0 {
			d = slurm.Infinite // sbatch: zero is no limit
		}
		// Slurm counts in minutes, rounded up.
		if d != slurm.Infinite {
			d = (d + time.Minute - 1).Truncate(time.Minute)
		}
		if d > p.Limit {
			return infeasible("time", fmt.Sprintf("%s is more than partition %s allows (%s)", slurm.FormatDuration(d), p.Name, slurm.FormatDuration(p.Limit)),
				"give at most -t "+slurm.FormatDuration(p.Limit)+", or another partition")
		}
	}
	most := p.Nodes
	if p.MaxNodes > 0 {
		most = min(most, p.MaxNodes)
	}
	if v, ok := lastOf(group, "nodes"); ok {
		least, _, _ := strings.Cut(v, "-")
		if n, err := strconv.Atoi(least); err == nil && n > most {
			return infeasible("nodes", fmt.Sprintf("%d nodes, and partition %s has %d for a job", n, p.Name, most), "give fewer with -N, or another partition")
		}
	}
	for _, row := range []struct {
		flag string
		has  int
		what string
	}{{"cpus-per-task", p.CPUs, "cores"}, {"gpus-per-node", p.GPUs, "GPUs"}, {"gpus-per-task", p.GPUs, "GPUs"}} {
		v, ok := lastOf(group, row.flag)
		if !ok {
			continue
		}
		if _, count, typed := strings.Cut(v, ":"); typed {
			v = count
		}
		if n, err := strconv.Atoi(v); err == nil && n > row.has {
			return infeasible(row.flag, fmt.Sprintf("no node of partition %s has %d %s (the most is %d)", p.Name, n, row.what, row.has), "ask for fewer, or for another partition")
		}
	}
	if err := fitsTasks(group, p, most); err != nil {
		return err
	}
	if v, ok := lastOf(group, "mem"); ok {
		n, err := slurm.ParseMemory(v)
		if err != nil {
			why, do, _ := strings.Cut(strings.TrimPrefix(err.Error(), "slurm: "), "; ")
			return usage("--mem", why, do)
		}
		if n > p.Memory {
			return infeasible("mem", fmt.Sprintf("no node of partition %s has %s (the most is %s)", p.Name, slurm.FormatMemory(n), slurm.FormatMemory(p.Memory)), "ask for less, or for another partition")
		}
	}
	return nil
}

// fitsTasks compares the cores that all tasks need with those of as many nodes as the job may have. Of nodes
// that differ each counts as the largest: only what surely never runs is refused.
func fitsTasks(group []flagValue, p *slurm.Partition, nodes int) error {
	if _, ok := lastOf(group, "overcommit"); ok {
		return nil // tasks share cores
	}
	number := func(flag string) (n int, ok bool) {
		v, given := lastOf(group, flag)
		n, err := strconv.Atoi(v)
		return n, given && err == nil && n > 0
	}
	cpus, ok := number("cpus-per-task")
	if !ok {
		cpus = 1
	}
	tasks := func(n int) string {
		if cpus == 1 {
			return fmt.Sprintf("%d tasks", n)
		}
		return fmt.Sprintf("%d tasks of %d cores", n, cpus)
	}
	if n, ok := number("ntasks"); ok {
		having := "partition " + p.Name + " has"
		if v, ok := lastOf(group, "nodes"); ok {
			least, most, isRange := strings.Cut(v, "-")
			if !isRange {
				most = least
			}
			if n, err := strconv.Atoi(most); err == nil && n > 0 && n < nodes {
				nodes, having = n, fmt.Sprintf("%d of the nodes of partition %s have", n, p.Name)
			}
		}
		if n > nodes*p.CPUs/cpus {
			return &Fault{Name: "INFEASIBLE", What: "--ntasks", Why: fmt.Sprintf("%s, and %s %d cores for a job at most (%d x %d)", tasks(n), having, nodes*p.CPUs, nodes, p.CPUs),
				Do: "ask for fewer, for more nodes, or for another partition"}
		}
		return nil // beside it --ntasks-per-node is an upper limit
	}
	if n, ok := number("ntasks-per-node"); ok && n > p.CPUs/cpus {
		return &Fault{Name: "INFEASIBLE", What: "--ntasks-per-node", Why: fmt.Sprintf("%s, and no node of partition %s has more than %d cores", tasks(n), p.Name, p.CPUs),
			Do: "ask for fewer on each of more nodes, or for another partition"}
	}
	return nil
}
