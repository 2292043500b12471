package cli

import (
	"fmt"
	"os"
	"path/filepath"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/demo"
	"github.com/maniple-hpc/maniple/launcher/spec"
)

func (a *app) demoCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "demo", summary: "train a small network with two ranks",
		examples: []string{
			"maniple demo\ton this machine; needs Python with numpy",
			"srun -N2 maniple demo\ton two nodes of a Slurm allocation",
			"maniple demo --python ~/venv/bin/python",
		},
		flags: []urfave.Flag{
			value("python", "", "PROGRAM", "the Python to use (default: the active environment's)"),
			rare(value("ntasks", "n", "N", "ranks (2; one on each node of the step under srun)")),
			rare(value("join-timeout", "", "SECONDS", "how long to wait for nodes (60 under srun)")),
			runJSON(),
		},
		notes:  []string{"The program is plain Python that imports nothing of ours; torch is used if it can be imported."},
		action: (*call).demo,
	})
}

func (c *call) demo() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	ranks, err := c.number("ntasks", 1, 1<<16)
	if err != nil {
		return err
	}
	python, err := c.python()
	if err != nil {
		return err
	}
	s := &spec.Spec{Name: "demo", Tasks: max(ranks, 2), Command: []string{python, "-c", string(demo.Program)}}
	if ranks == 1 {
		s.Tasks = 1
	}
	if step, err := c.step(); err != nil {
		return err
	} else if step != nil {
		return c.demoStep(step, s)
	}
	return c.runSpec(s, runOptions{})
}

// python is the interpreter of the demo: the one asked for, the active environment's, the one beside
// this binary (a wheel puts it there), or that in PATH.
func (c *call) python() (string, error) {
	if v := c.str("python"); v != "" {
		dir, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("the working directory is gone: %w", err)
		}
		return v, checkProgram("--python", []string{v}, dir, c.environ)
	}
	var dirs []string
	if env := c.getenv("VIRTUAL_ENV"); env != "" {
		dirs = append(dirs, filepath.Join(env, "bin"))
	}
	if env := c.getenv("CONDA_PREFIX"); env != "" {
		dirs = append(dirs, filepath.Join(env, "bin"))
	}
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	dirs = append(dirs, filepath.SplitList(c.getenv("PATH"))...)
	for _, name := range []string{"python3", "python"} {
		for _, dir := range dirs {
			if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable("demo", name, path) == nil {
				return path, nil
			}
		}
	}
	return "", &Fault{Name: "NOT_FOUND", What: "demo", Why: "no Python in PATH", Do: "name one with --python"}
}
