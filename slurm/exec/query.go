package exec

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
)

// Jobs is what the controller knows of a job, or of all tasks of an array and all components of a
// heterogeneous job: one request. A job that ended minutes ago is gone from it (MinJobAge):
// slurm.ErrNoJob, and Ended may still know it.
func (c *Client) Jobs(ctx context.Context, id string) ([]*slurm.Job, error) {
	r, err := c.run(ctx, "show job "+id, nil, "", "scontrol", "--local", "-o", "show", "job", id)
	if err != nil {
		return nil, err
	}
	jobs, err := slurm.ParseJobs(r.stdout, time.Local)
	if err != nil {
		return nil, &slurm.Error{Op: "show job " + id, Kind: slurm.ErrOutput, Text: err.Error()}
	}
	if len(jobs) == 0 {
		return nil, &slurm.Error{Op: "show job " + id, Kind: slurm.ErrNoJob}
	}
	return jobs, nil
}

// Job is Jobs for one: the task or component of that very ID, else the first.
func (c *Client) Job(ctx context.Context, id string) (*slurm.Job, error) {
	jobs, err := c.Jobs(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if strconv.FormatInt(j.ID, 10) == id {
			return j, nil
		}
	}
	return jobs[0], nil
}

// NodeGPUs says how many GPUs a running job has on each of its nodes: one request.
func (c *Client) NodeGPUs(ctx context.Context, id string) (map[string]int, error) {
	r, err := c.run(ctx, "show job "+id, nil, "", "scontrol", "--local", "-o", "-d", "show", "job", id)
	if err != nil {
		return nil, err
	}
	gpus, err := slurm.ParseNodeGPUs(r.stdout)
	if err != nil {
		return nil, &slurm.Error{Op: "show job " + id, Kind: slurm.ErrOutput, Text: err.Error()}
	}
	return gpus, nil
}

// Partitions lists the partitions as the cache knows them or this machine's slurm.conf, without a request;
// else it asks. What an operator changed since is not in it, so that before anything is refused
// AskPartitions has to say the same.
func (c *Client) Partitions(ctx context.Context) ([]slurm.Partition, error) {
	cache := c.load()
	if list, ok := cache.partitions(c.now()); ok {
		return list, nil
	}
	if text, err := os.ReadFile(c.confPath()); err == nil {
		if list, err := slurm.ParseConf(string(text)); err == nil {
			cache.Partitions, cache.PartitionsAt = list, c.now()
			c.store(cache)
			return list, nil
		}
	}
	return c.AskPartitions(ctx)
}

// KillWait is how long after its TERM Slurm's KILL comes, as this machine's slurm.conf says, else Slurm's
// own 30 s. No request.
func (c *Client) KillWait() time.Duration {
	text, _ := os.ReadFile(c.confPath())
	return slurm.KillWait(string(text))
}

// confPath is where Slurm's programs look for their configuration, unless they were built for another place.
func (c *Client) confPath() string {
	path := "/etc/slurm/slurm.conf"
	for _, kv := range c.environ() {
		if v, ok := strings.CutPrefix(kv, "SLURM_CONF="); ok && v != "" {
			path = v
		}
	}
	return path
}

// AskPartitions asks the controller for the partitions: two requests (partitions, nodes). Without -e sinfo
// says of nodes that differ the least, and we want the most.
func (c *Client) AskPartitions(ctx context.Context) ([]slurm.Partition, error) {
	cache := c.load()
	r, err := c.run(ctx, "partitions", nil, "", "sinfo", "--local", "-e", "-h", "-o", slurm.PartitionFormat)
	if err != nil {
		return nil, err
	}
	list, err := slurm.ParsePartitions(r.stdout)
	if err != nil {
		return nil, &slurm.Error{Op: "partitions", Kind: slurm.ErrOutput, Text: err.Error()}
	}
	cache.Partitions, cache.PartitionsAt = list, c.now()
	c.store(cache)
	return list, nil
}

// Options lists sbatch's options, from its --help: no request to the controller, and no process when
// the cache knows this sbatch.
func (c *Client) Options(ctx context.Context) ([]slurm.Option, error) {
	program := c.identity("sbatch")
	cache := c.load()
	if program != "" && cache.Program == program && len(cache.Options) > 0 {
		return cache.Options, nil
	}
	r, err := c.run(ctx, "options", nil, "", "sbatch", "--help")
	if err != nil {
		return nil, err
	}
	list := slurm.ParseOptions(r.stdout)
	if len(list) < 10 {
		return nil, &slurm.Error{Op: "options", Kind: slurm.ErrOutput, Text: fmt.Sprintf("`sbatch --help` lists %d options", len(list))}
	}
	cache.Program, cache.Options = program, list
	c.store(cache)
	return list, nil
}

// Version is that of the installed Slurm, such as "22.05.8": no request.
func (c *Client) Version(ctx context.Context) (string, error) {
	r, err := c.run(ctx, "version", nil, "", "sinfo", "--version")
	if err != nil {
		return "", err
	}
	f := strings.Fields(r.stdout)
	if len(f) == 0 {
		return "", &slurm.Error{Op: "version", Kind: slurm.ErrOutput, Text: strconv.Quote(r.stdout)}
	}
	return f[len(f)-1], nil
}
