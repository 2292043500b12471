package cli

import (
	"fmt"
	"slices"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

func (a *app) configCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "config", summary: "show what files and variables set",
		examples: []string{
			"maniple config",
			"maniple config --show-origin\tand which file or variable each is from",
		},
		flags: []urfave.Flag{toggle("show-origin", "", "with the file or variable of each"), jsonFlag()},
		notes: []string{
			"Order: flag, MANIPLE_<FLAG>, #SBATCH line or Slurm job, ./maniple.toml,",
			"~/.config/maniple/config.toml, /etc/maniple/config.toml (or $MANIPLE_SITE_CONFIG).",
			"Keys are flags by their long names; in a table [COMMAND] they are for that one.",
		},
		action: (*call).config,
	})
}

// setHere is one setting in force.
type setHere struct {
	Name   string `json:"name"` // a flag, or COMMAND.FLAG
	Value  string `json:"value"`
	Origin string `json:"origin"` // a variable, or a file
}

func (c *call) config() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	list := []setHere{}
	have := map[string]bool{}
	add := func(name, value, origin string) {
		if !have[name] {
			have[name] = true
			list = append(list, setHere{name, value, origin})
		}
	}
	for _, flags := range c.settable() {
		for _, f := range flags {
			if v := c.getenv(envName(f)); v != "" {
				add(f, v, envName(f))
			}
		}
	}
	for _, s := range c.settings {
		for name, v := range s.values {
			add(name, v, s.path)
		}
		for cmd, table := range s.tables {
			for name, v := range table {
				if have[name] && c.getenv(envName(name)) != "" {
					continue // the variable wins
				}
				add(cmd+"."+name, v, s.path)
			}
		}
	}
	slices.SortFunc(list, func(a, b setHere) int { return strings.Compare(a.Name, b.Name) })
	var files []string
	for _, s := range c.settings {
		files = append(files, s.path)
	}
	if c.on("json") {
		return c.json(struct {
			Version  int       `json:"version"`
			Files    []string  `json:"files"`
			Settings []setHere `json:"settings"`
		}{1, append([]string{}, files...), list})
	}
	for _, s := range list {
		line := s.Name + " = " + s.Value
		if c.on("show-origin") {
			line = fmt.Sprintf("%-32s # %s", line, s.Origin)
		}
		fmt.Fprintln(c.stdout, line)
	}
	if len(list) == 0 {
		c.say("config: nothing is set; files would be %s", strings.Join(c.settingsFiles(), ", "))
	}
	return nil
}

// setOwn gives submit's own flags the values of files, where nothing else says them.
func (c *call) setOwn(r *request) {
	for _, f := range submitFlags() {
		name := f.Names()[0]
		if _, given := r.own[name]; given {
			continue
		}
		v, _, ok := c.setting(name)
		if _, boolean := f.(*urfave.BoolFlag); ok && (!boolean || v == "true") {
			r.own[name] = v
		}
	}
}

// setLines are #SBATCH lines for what files say of sbatch's flags and neither the command line nor the
// program's own lines do.
func (c *call) setLines(j *job, t *submitTable) ([]string, error) {
	shaped := false
	for _, name := range shapeOfJob {
		_, ok := j.value(name)
		shaped = shaped || ok
	}
	var lines []string
	for _, name := range t.names() {
		if _, said := j.value(name); said || shaped && slices.Contains(shapeOfJob, name) {
			continue
		}
		shape, kind, ours, _ := t.find(name)
		v, origin, ok := c.setting(name)
		if !ok || ours || notHere[name] != "" {
			continue
		}
		f := flagValue{shape.name, v, true}
		if kind == "" || strings.ContainsAny(v, "\n\r") {
			return nil, usage(origin, "sbatch takes no such value", "write it in one line")
		}
		if v == "true" || v == "false" {
			if v == "false" {
				continue
			}
			f.set = false
		}
		line, err := directiveLine(f)
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "#SBATCH")))
	}
	return lines, nil
}

// shapeOfJob are the flags that make one thing together: part of it from a file is worse than none.
var shapeOfJob = []string{"nodes", "ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-gpu", "gpus", "gpus-per-task", "gpus-per-node", "gres", "exclusive"}
