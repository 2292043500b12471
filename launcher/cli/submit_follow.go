package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/maniple-hpc/maniple/slurm"
)

// lateReads is how often the output of an ended job is looked at in vain: its last lines may come late over a network.
const lateReads = 4

// outputs follows the output files of a job: one, or of an array one for each task, the lines of which are marked with
// their task's ID. A nil one follows nothing.
type outputs struct {
	job   *job
	to    io.Writer
	files []*follower // that may still grow
	known map[string]*follower
}

// newOutputs is nil unless the job is to be followed.
func newOutputs(j *job, to io.Writer) *outputs {
	if j.own["follow"] == "" {
		return nil
	}
	o := &outputs{job: j, to: to, known: map[string]*follower{}}
	if !j.ownFiles() {
		o.add(j.outputPath(), "") // it may be there before the controller is asked
	}
	return o
}

func (o *outputs) add(path, task string) *follower {
	f := &follower{path: path, to: o.to}
	switch {
	case o.job.own["json"] != "":
		f.to = &records{to: o.to, stream: "stdout", task: task}
	case task != "":
		f.to = &marked{to: o.to, mark: fmt.Sprintf("[%d_%s] ", o.job.id, task)}
	}
	o.known[path] = f
	o.files = append(o.files, f)
	return f
}

// see takes in how the tasks stand: the output of those that have begun is followed, until they are over.
func (o *outputs) see(jobs []*slurm.Job) {
	if o == nil {
		return
	}
	for _, f := range o.files {
		f.over = true
	}
	for _, j := range jobs {
		path, task := o.job.outputPath(), ""
		if o.job.ownFiles() {
			if _, err := strconv.Atoi(j.ArrayTask); err != nil || j.State == slurm.Pending {
				continue
			}
			path, task = o.job.pathOf(j), j.ArrayTask
		}
		f := o.known[path]
		if f == nil {
			f = o.add(path, task)
			f.over = true
		}
		f.over = f.over && j.Over()
	}
}

// copy prints what is new; left tells whether there may be more.
func (o *outputs) copy() (left bool) {
	if o == nil {
		return false
	}
	o.files = slices.DeleteFunc(o.files, func(f *follower) bool {
		if n := f.copy(); n > 0 || !f.over {
			return false
		}
		if f.late++; f.file == nil && f.late < lateReads {
			return false
		}
		f.close()
		return true
	})
	return len(o.files) > 0
}

func (o *outputs) close() {
	if o == nil {
		return
	}
	for _, f := range o.files {
		f.close()
	}
}

// follower prints a file as it grows.
type follower struct {
	path string
	to   io.Writer
	file *os.File
	read int64
	over bool // nothing writes to it any more
	late int  // looks since then
}

func (f *follower) copy() (n int64) {
	if f.file == nil {
		file, err := os.Open(f.path)
		if err != nil {
			return 0 // not there yet
		}
		f.file = file
	}
	if info, err := f.file.Stat(); err == nil && info.Size() < f.read {
		f.file.Seek(0, io.SeekStart) // a requeued job began it anew
		f.read = 0
	}
	n, _ = io.Copy(f.to, f.file) // what cannot be read now is read the next time
	f.read += n
	return n
}

func (f *follower) close() {
	switch to := f.to.(type) { // a last line without its end
	case *records:
		if len(to.part) > 0 {
			to.Write([]byte("\n"))
		}
	case *marked:
		if len(to.part) > 0 {
			to.Write([]byte("\n"))
		}
	}
	if f.file != nil {
		f.file.Close()
	}
}

// marked puts a mark before each line, and writes whole ones.
type marked struct {
	to   io.Writer
	mark string
	part []byte
}

func (m *marked) Write(p []byte) (int, error) {
	m.part = append(m.part, p...)
	end := bytes.LastIndexByte(m.part, '\n') + 1
	var out []byte
	for line := range bytes.Lines(m.part[:end]) {
		out = append(append(out, m.mark...), line...)
	}
	m.part = append(m.part[:0], m.part[end:]...)
	if len(out) > 0 {
		if _, err := m.to.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
