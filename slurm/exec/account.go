package exec

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
)

const accountFields = "JobIDRaw,JobID,State,ExitCode,Submit,Start,End,Timelimit,Partition,User,NodeList,NNodes,AllocTRES,WorkDir,JobName"

// Ended asks the accounting database about jobs: one request to it, none to the controller. Jobs that
// it does not know are left out; where the site keeps no accounts the error is slurm.ErrRefused.
func (c *Client) Ended(ctx context.Context, ids ...string) ([]*slurm.Job, error) {
	r, err := c.run(ctx, "accounts", nil, "", "sacct", "-X", "-n", "-P", "--delimiter=|", "-o", accountFields, "-j", strings.Join(ids, ","))
	if err != nil {
		return nil, err
	}
	var jobs []*slurm.Job
	for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
		if line == "" {
			continue
		}
		j, err := parseAccountLine(line)
		if err != nil {
			return nil, &slurm.Error{Op: "accounts", Kind: slurm.ErrOutput, Text: err.Error()}
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func parseAccountLine(line string) (*slurm.Job, error) {
	f := strings.SplitN(line, "|", 15)
	if len(f) != 15 {
		return nil, fmt.Errorf("%d fields in %q, not 15", len(f), line)
	}
	id, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("job ID %q", f[0])
	}
	j := &slurm.Job{ID: id, State: slurm.ParseState(f[2]), Partition: f[8], User: f[9], Nodes: f[10], WorkDir: f[13], Name: f[14]}
	if array, task, ok := strings.Cut(f[1], "_"); ok {
		j.ArrayTask = task
		j.ArrayID, _ = strconv.ParseInt(array, 10, 64) // of the form that JobIDRaw passed
	}
	code, signal, _ := strings.Cut(f[3], ":")
	j.ExitCode, _ = strconv.Atoi(code)
	j.Signal, _ = strconv.Atoi(signal)
	j.NumNodes, _ = strconv.Atoi(f[11])
	for i, to := range []*time.Time{&j.Submitted, &j.Started, &j.End} {
		if *to, err = slurm.ParseTime(f[4+i], time.Local); err != nil {
			return nil, err
		}
	}
	if d, err := slurm.ParseDuration(f[7]); err == nil { // Partition_Limit is none
		j.Limit = d
	}
	if j.TRES, err = slurm.ParseTRES(f[12]); err != nil {
		return nil, err
	}
	return j, nil
}
