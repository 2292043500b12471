package spec

import (
	"fmt"
	"strconv"
)

// check finds what contradicts itself, whatever the cluster.
func (s *Spec) check() error {
	switch {
	case s.Tasks > 0 && s.NodesMin > s.Tasks:
		return &FlagError{"--ntasks", fmt.Sprintf("%s cannot be spread over %d nodes", plural(s.Tasks, "rank"), s.NodesMin), "use --nodes " + strconv.Itoa(s.Tasks) + " or more ranks"}
	case s.Tasks > 0 && s.TasksPerNode > 0 && s.Tasks%s.TasksPerNode != 0 && s.NodesMin == 0:
		return &FlagError{"--ntasks-per-node", fmt.Sprintf("%d ranks do not fill nodes of %d", s.Tasks, s.TasksPerNode), "leave one of the two away"}
	case s.Tasks > 0 && s.TasksPerNode > 0 && s.NodesMin > 0 && s.Tasks > s.NodesMax*s.TasksPerNode:
		return &FlagError{"--ntasks", fmt.Sprintf("%d ranks are more than %d nodes of %d", s.Tasks, s.NodesMax, s.TasksPerNode), "leave --ntasks away"}
	case s.GPUsPerTask > 0 && s.GPUsPerNode > 0 && s.GPUsPerNode%s.GPUsPerTask != 0:
		return &FlagError{"--gpus-per-task", fmt.Sprintf("%d does not divide --gpus-per-node %d", s.GPUsPerTask, s.GPUsPerNode), "leave one of the two away"}
	case s.Mem > 0 && s.MemPerCPU > 0:
		return &FlagError{"--mem-per-cpu", "--mem is given too", "leave one of the two away"}
	}
	return nil
}

// Gang tells whether the request has a task count: ranks then, otherwise one driver.
func (s *Spec) Gang() bool { return s.Tasks > 0 || s.TasksPerNode > 0 || s.GPUsPerTask > 0 }

// Shape makes bundles of the request. nodes is how many nodes the cluster has; it decides within -N
// MIN-MAX, and how many nodes "--gpus-per-task" with a total of GPUs covers.
//
//	-N and a task count: one bundle per node, on different nodes
//	-n alone:            one bundle per rank, packed
//	neither:             a driver; with -N its node comes with the others, reserved and empty
func (s *Spec) Shape(nodes int) (*Shape, error) {
	n := s.NodesMin
	if s.NodesMax > n {
		n = max(n, min(s.NodesMax, nodes))
	}
	tasks, perNode := s.Tasks, s.TasksPerNode
	if tasks == 0 && s.GPUsPerTask > 0 && perNode == 0 {
		switch {
		case s.GPUs > 0:
			tasks = s.GPUs / s.GPUsPerTask
		case s.GPUsPerNode > 0:
			perNode = s.GPUsPerNode / s.GPUsPerTask
		default:
			return nil, &FlagError{"--gpus-per-task", "it does not say how many ranks", "add --ntasks N, --ntasks-per-node N or --gpus-per-node N"}
		}
	}
	if perNode > 0 && n == 0 {
		n = 1
		if tasks > 0 {
			n = tasks / perNode
		}
	}
	sh := &Shape{Strategy: s.Strategy, Nodes: n, Driver: !s.Gang()}
	switch {
	case sh.Driver:
		s.driver(sh, max(n, 1))
	case n > 0:
		if err := s.perNode(sh, n, tasks, perNode); err != nil {
			return nil, err
		}
	default:
		if err := s.perRank(sh, tasks); err != nil {
			return nil, err
		}
	}
	for i := range sh.Bundles {
		sh.Ranks += sh.Bundles[i].Ranks
		sh.Bundles[i].Labels = s.Labels
	}
	if err := s.visibility(sh); err != nil {
		return nil, err
	}
	if sh.Strategy == "" {
		sh.Strategy = Pack
		if n > 1 || n == 1 && !sh.Driver {
			sh.Strategy = StrictSpread
		}
	}
	return sh, nil
}

func (s *Spec) driver(sh *Shape, n int) {
	cpus := max(s.CPUsPerTask, 1)
	gpus := max(s.GPUsPerNode, (s.GPUs+n-1)/n)
	for i := range n {
		b := Bundle{CPUs: cpus, GPUs: gpus, Memory: s.memory(cpus), Resources: s.Resources}
		if i == 0 {
			b.Ranks = 1
		}
		sh.Bundles = append(sh.Bundles, b)
	}
}

func (s *Spec) perNode(sh *Shape, n, tasks, perNode int) error {
	if tasks == 0 {
		tasks = n * perNode
	}
	if s.GPUs > 0 && s.GPUsPerTask == 0 && s.GPUsPerNode == 0 && s.GPUs%n != 0 {
		return &FlagError{"--gpus", fmt.Sprintf("%d GPUs cannot be divided among %d nodes", s.GPUs, n), "use --gpus-per-node or --gpus-per-task"}
	}
	for i := range n {
		ranks := tasks / n
		if i < tasks%n {
			ranks++
		}
		if perNode > 0 && ranks > perNode {
			return &FlagError{"--ntasks-per-node", fmt.Sprintf("%d ranks on %d nodes are more than %d on a node", tasks, n, perNode), "use more --nodes, or leave one of the two away"}
		}
		b := Bundle{CPUs: ranks * max(s.CPUsPerTask, 1), Resources: s.Resources, Ranks: ranks}
		switch {
		case s.GPUsPerTask > 0:
			b.GPUs = ranks * s.GPUsPerTask
			if s.GPUsPerNode > 0 && b.GPUs > s.GPUsPerNode {
				return &FlagError{"--gpus-per-task", fmt.Sprintf("%s with %d each: more than --gpus-per-node %d", plural(ranks, "rank"), s.GPUsPerTask, s.GPUsPerNode), "leave one of the two away"}
			}
		case s.GPUsPerNode > 0:
			b.GPUs = s.GPUsPerNode
		default:
			b.GPUs = s.GPUs / n
		}
		b.Memory = s.memory(b.CPUs)
		sh.Bundles = append(sh.Bundles, b)
	}
	return nil
}

func (s *Spec) perRank(sh *Shape, tasks int) error {
	per := s.GPUsPerTask
	if per == 0 && s.GPUs > 0 {
		if s.GPUs%tasks != 0 {
			return &FlagError{"--gpus", fmt.Sprintf("%d GPUs cannot be divided among %d ranks", s.GPUs, tasks), "use --gpus-per-task"}
		}
		per = s.GPUs / tasks
	}
	switch {
	case s.GPUsPerNode > 0 && per == 0:
		return &FlagError{"--gpus-per-node", "--ntasks alone does not say how many nodes", "add --nodes N, or use --gpus-per-task"}
	case s.Mem > 0:
		return &FlagError{"--mem", "it is memory per node, and --ntasks alone does not say how many nodes", "add --nodes N, or use --mem-per-cpu"}
	}
	cpus := max(s.CPUsPerTask, 1)
	for range tasks {
		sh.Bundles = append(sh.Bundles, Bundle{CPUs: cpus, GPUs: per, Memory: s.memory(cpus), Resources: s.Resources, Ranks: 1})
	}
	return nil
}

// visibility decides how many GPUs each rank sees as its own. As under srun that is --gpus-per-task; other
// counts are the node's, of which a rank picks by its LOCAL_RANK.
func (s *Spec) visibility(sh *Shape) error {
	switch {
	case sh.Driver || s.GPUVisibility == Node || s.GPUVisibility == "" && s.GPUsPerTask == 0:
		return nil
	case s.GPUsPerTask > 0:
		sh.OwnGPUs = s.GPUsPerTask
		return nil
	}
	for i, b := range sh.Bundles {
		switch {
		case b.Ranks == 0: // fewer ranks than nodes of a range
			continue
		case b.GPUs%b.Ranks != 0:
			return &FlagError{"--gpu-visibility", fmt.Sprintf("%d GPUs cannot be divided among the %d ranks of a node", b.GPUs, b.Ranks), "use --gpu-visibility=node, or another number"}
		case i > 0 && b.GPUs/b.Ranks != sh.OwnGPUs:
			return &FlagError{"--gpu-visibility", fmt.Sprintf("nodes have %d and %d ranks for the same GPUs", sh.Bundles[0].Ranks, b.Ranks), "use --gpu-visibility=node, or as many ranks on each node"}
		}
		sh.OwnGPUs = b.GPUs / b.Ranks
	}
	return nil
}

func (s *Spec) memory(cpus int) int64 {
	if s.MemPerCPU > 0 {
		return s.MemPerCPU * int64(cpus)
	}
	return s.Mem
}
