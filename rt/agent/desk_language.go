package agent

import (
	"fmt"
	"strings"
)

// The languages that drivers and workers may have. A template of either is a program that attaches, and makes a worker for
// each Fork: Python by fork, Go by exec of the driver's own binary.
const (
	python = "python"
	golang = "go"
)

// check tells what is wrong with a driver's job_config; "": nothing.
func (c *jobConfig) check(language string) string {
	absolute := strings.HasPrefix(c.Executable, "/") && strings.HasPrefix(c.Cwd, "/")
	switch {
	case language == python && !absolute:
		return "its job_config names neither its Python nor its directory: install the same maniple everywhere"
	case language == golang && (!absolute || len(c.Hash) != 64 || len(c.Argv) == 0):
		return "its job_config does not say which program its workers are: build it with the module of the same maniple"
	}
	return ""
}

// program is how the process is started that a job's workers come from, and what its environment says beside the driver's.
func (j *job) program() (argv, env []string) {
	if j.language == golang {
		return append([]string{j.config.Executable}, j.config.Argv[1:]...), []string{"MANIPLE_SERVE=template:" + j.config.Hash}
	}
	if len(j.config.Preload) > 0 {
		env = []string{"MANIPLE_PRELOAD=" + strings.Join(j.config.Preload, ",")}
	}
	return []string{j.config.Executable, "-m", "maniple._template"}, env
}

// cannot says why a worker of that language can't be had by the job; "": it can.
func (j *job) cannot(language string) string {
	if language == j.language && (language == python || language == golang) {
		return ""
	}
	return fmt.Sprintf("workers of language %q need a driver of it, and this one's is %q", language, j.language)
}

// threads names the variables that say how many threads a worker's libraries use.
func (j *job) threads() []string {
	if j.language == golang {
		return []string{"OMP_NUM_THREADS", "GOMAXPROCS"}
	}
	return []string{"OMP_NUM_THREADS"}
}
