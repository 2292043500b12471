package exec

import (
	"context"
	"os"

	"github.com/maniple-hpc/maniple/slurm"
)

// Cancel ends jobs: one request for each. A job that has ended already is no error.
func (c *Client) Cancel(ctx context.Context, ids ...string) error {
	_, err := c.run(ctx, "cancel", nil, "", append([]string{"scancel", "-Q"}, ids...)...)
	return ignoreGone(err)
}

// Signal sends a signal to the job's steps; full: to its batch script as well.
func (c *Client) Signal(ctx context.Context, id, signal string, full bool) error {
	argv := []string{"scancel", "--signal=" + signal}
	if full {
		argv = append(argv, "--full")
	}
	_, err := c.run(ctx, "signal", nil, "", append(argv, id)...)
	return err
}

// Requeue puts a job back into the queue under its ID.
func (c *Client) Requeue(ctx context.Context, id string) error {
	_, err := c.run(ctx, "requeue", nil, "", "scontrol", "requeue", id)
	return err
}

// Update changes a job: fields as NumNodes=2, in scontrol's words.
func (c *Client) Update(ctx context.Context, id string, fields ...string) error {
	_, err := c.run(ctx, "update", nil, "", append([]string{"scontrol", "update", "JobId=" + id}, fields...)...)
	return err
}

func ignoreGone(err error) error {
	if e, ok := err.(*slurm.Error); ok && e.Kind == slurm.ErrNoJob {
		return nil
	}
	return err
}

func uid() int { return os.Getuid() }

// Broadcast copies a file to the same path on every node of the job that this process is in: one request
// to the controller, the rest goes between the nodes.
func (c *Client) Broadcast(ctx context.Context, from, to string) error {
	_, err := c.run(ctx, "copy "+from+" to the nodes", nil, "", "sbcast", "--preserve", from, to)
	return err
}
