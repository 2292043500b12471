package slurm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/slurm"
)

// A step without options about GPUs has all that the job has on each node, if the job asked per node. If
// it asked per task, Slurm gives our single task per node the GPUs of one task; if it asked for a total,
// as many as divide evenly, or refuses the step. Then the step has to name a number for every node, and
// there is only one number for all.

// stepGPUs finds srun's option, and says what is lost by it. A job that asked for a total costs one
// request, since nothing but the controller knows how it was divided.
func (b *Backend) stepGPUs(ctx context.Context, env *slurm.Environment, nodes []string) (option, lost string) {
	has := map[string]int{}
	switch {
	case env.Het != nil || env.GPUsPerTask == 0 && env.GPUsTotal == 0:
		return "", ""
	case env.GPUsPerTask > 0 && len(env.TasksPerNode) == len(env.Nodes):
		for i, n := range env.Nodes {
			has[n] = env.TasksPerNode[i] * env.GPUsPerTask
		}
	default:
		var err error
		if has, err = b.client().NodeGPUs(ctx, strconv.FormatInt(env.JobID, 10)); err != nil || len(has) == 0 {
			return "", "" // srun says itself what is wrong
		}
	}
	least := slices.MinFunc(nodes, func(a, b string) int { return has[a] - has[b] })
	var more []string
	for _, n := range nodes {
		if has[n] > has[least] {
			more = append(more, n)
		}
	}
	option = "--gpus-per-node=" + strconv.Itoa(has[least])
	if has[least] == 0 {
		option = "--gres=none"
	}
	if len(more) > 0 {
		var counts []string
		for _, n := range nodes {
			counts = append(counts, fmt.Sprintf("%d on %s", has[n], n))
		}
		lost = fmt.Sprintf("the job has %s GPUs, and a step of Slurm can have only the same number on every node: %d are used; ask with --gpus-per-node",
			strings.Join(counts, ", "), has[least])
	}
	return option, lost
}
