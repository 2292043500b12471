package exec

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/slurm"
)

// Submission is a job to be put into the queue.
type Submission struct {
	Args   []string // options of sbatch, before the script
	Script []byte   // handed over on standard input
	Dir    string   // from which it is submitted; "": here
}

// Submitted is a job that Slurm took.
type Submitted struct {
	JobID   int64
	Cluster string // where there are several
	Warning string // what sbatch said all the same
}

// Submit puts a job into the queue: one request.
func (c *Client) Submit(ctx context.Context, s Submission) (Submitted, error) {
	argv := append([]string{"sbatch", "--parsable"}, s.Args...)
	r, err := c.run(ctx, "submit", bytes.NewReader(s.Script), s.Dir, argv...)
	if err != nil {
		return Submitted{}, err
	}
	// "12" or "12;cluster", after whatever a site's submit plugin prints.
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	id, cluster, _ := strings.Cut(strings.TrimSpace(lines[len(lines)-1]), ";")
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n <= 0 {
		return Submitted{}, &slurm.Error{
			Op: "submit", Kind: slurm.ErrOutput, Text: "sbatch ended well but printed no job ID: " + strconv.Quote(r.stdout),
			Do: "look with squeue whether the job is there",
		}
	}
	return Submitted{JobID: n, Cluster: cluster, Warning: strings.TrimSpace(r.stderr)}, nil
}
