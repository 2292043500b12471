package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// recordAge is when a job's record is dropped.
const recordAge = 30 * 24 * time.Hour

// jobRecord is what `submit` leaves in the state directory, so that a job is found from any directory.
type jobRecord struct {
	Version   int       `json:"version"`
	JobID     string    `json:"job_id"`
	Cluster   string    `json:"cluster,omitempty"`
	Name      string    `json:"name"`
	Submitted time.Time `json:"submitted"`
	Dir       string    `json:"dir"`
	Output    string    `json:"output"`
	Command   []string  `json:"command"`
	Script    string    `json:"script"`
	Tasks     int       `json:"tasks,omitempty"` // of an array
}

// recordJob writes jobs/slurm/ID/job.json, and says where.
func (c *call) recordJob(j *job, script []byte) (string, error) {
	state, err := boot.StateDir(c.getenv)
	if err != nil {
		return "", err
	}
	jobs := filepath.Join(state, "jobs", "slurm")
	dir := filepath.Join(jobs, fmt.Sprint(j.id))
	if err := os.MkdirAll(filepath.Dir(state), 0o700); err != nil {
		return "", err
	}
	if err := bootdoc.MakePrivate(dir, filepath.Dir(state)); err != nil {
		return "", err
	}
	prune(jobs, time.Now())
	data, err := json.MarshalIndent(jobRecord{
		1, fmt.Sprint(j.id), j.cluster, j.name, time.Now().UTC().Truncate(time.Second), j.dir, j.outputPath(), j.command, string(script), j.tasks(),
	}, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "job.json")
	beside := path + ".new"
	if err := os.WriteFile(beside, append(data, '\n'), 0o600); err != nil {
		return "", err
	}
	return path, os.Rename(beside, path)
}

// readRecord is what `submit` left about a job; nil if nothing can be read.
func (c *call) readRecord(id string) *jobRecord {
	base := strings.FieldsFunc(id, func(r rune) bool { return r == '_' || r == '+' })[0]
	for _, state := range boot.StateDirs(c.getenv) {
		var r jobRecord
		data, err := os.ReadFile(filepath.Join(state, "jobs", "slurm", base, "job.json"))
		if err == nil && json.Unmarshal(data, &r) == nil && r.Version == 1 {
			return &r
		}
	}
	return nil
}

// prune drops records of jobs that were submitted long ago. What cannot be removed stays.
func prune(jobs string, now time.Time) {
	old, _ := filepath.Glob(filepath.Join(jobs, "*", "job.json")) // the pattern is valid
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && now.Sub(info.ModTime()) > recordAge {
			os.Remove(path)
			os.Remove(filepath.Dir(path)) // only if nothing else is in it
		}
	}
}
