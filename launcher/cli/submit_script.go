package cli

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/slurm"
)

// job is a job to be, and once it is submitted its ID.
type job struct {
	*request
	lines   []string    // #SBATCH lines of the program, if it is a batch script
	inLines []flagValue // the flags in them
	name    string
	dir     string // where the program will start
	program string // maniple
	id      int64
	cluster string
}

// newJob completes a request: working directory, name, #SBATCH lines of the program.
func (c *call) newJob(r *request, options []slurm.Option) (*job, error) {
	j := &job{request: r}
	here, err := os.Getwd()
	if err != nil {
		return nil, &Fault{Name: "CANNOT_CREATE", What: "submit", Why: "the working directory is gone: " + err.Error(), Do: "change to one that exists", Err: err}
	}
	j.dir = here
	if d, ok := r.get("chdir"); ok {
		if !filepath.IsAbs(d) {
			d = filepath.Join(here, d)
		}
		j.dir = d
	}
	if len(r.command) > 0 {
		path := r.command[0]
		if !filepath.IsAbs(path) {
			path = filepath.Join(here, path)
		}
		j.lines = directives(path)
		j.inLines = flagsOf(j.lines, options)
	}
	set, err := c.setLines(j, newSubmitTable(options))
	if err != nil {
		return nil, err
	}
	j.lines = append(set, j.lines...)
	j.inLines = append(flagsOf(set, options), j.inLines...)
	j.name, _ = j.value("job-name")
	if j.name == "" && len(r.command) > 0 {
		j.name = filepath.Base(nameOfProgram(r.command))
	}
	j.program, err = ourPath()
	return j, err
}

// value is that of one of sbatch's flags: of the command line, else of the program's #SBATCH lines.
func (j *job) value(name string) (string, bool) {
	if v, ok := j.get(name); ok {
		return v, true
	}
	return lastOf(j.inLines, name)
}

// nameOfProgram is what the job is about: the script of an interpreter rather than the interpreter.
func nameOfProgram(command []string) string {
	if script := scriptOf(command); script != "" {
		return script
	}
	return command[0]
}

// scriptOf is the file that an interpreter is given, "" if the command is not of that form.
func scriptOf(command []string) string {
	switch base := filepath.Base(command[0]); {
	case strings.HasPrefix(base, "python"), base == "bash", base == "sh", base == "perl", base == "Rscript", base == "julia":
	default:
		return ""
	}
	for i := 1; i < len(command); i++ {
		arg := command[i]
		switch {
		case arg == "-c" || arg == "-m" || arg == "-e" || arg == "-" || arg == "--":
			return ""
		case arg == "-W" || arg == "-X" || arg == "-O" && strings.HasSuffix(command[0], "sh"):
			i++ // takes a value
		case !strings.HasPrefix(arg, "-"):
			return arg
		}
	}
	return ""
}

// directives are the #SBATCH lines of a batch script that is submitted as the program.
func directives(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil // checked later, with a message
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "#!") {
		return nil
	}
	var list []string
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "#SBATCH"); ok {
			list = append(list, strings.TrimSpace(text))
			continue
		}
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			break // as sbatch: lines after the first command are none
		}
	}
	return list
}

// flagsOf reads flags from #SBATCH lines, for checks and messages: what cannot be read is sbatch's to judge.
func flagsOf(lines []string, options []slurm.Option) []flagValue {
	var all []flagValue
	for _, line := range lines {
		r, err := parseSubmit(words(line), options, func(string) string { return "" })
		if err == nil {
			all = append(all, r.groups[0]...)
		}
	}
	return all
}

// words splits a line as sbatch does: quotes, backslashes, and a # that begins a comment.
func words(line string) []string {
	var list []string
	var word strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == '#' && !inWord:
			return list
		case c == ' ' || c == '\t':
			if inWord {
				list = append(list, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		list = append(list, word.String())
	}
	return list
}

// script is the batch script: plain enough to be read, kept and submitted by hand.
func (j *job) script() ([]byte, error) {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	for _, l := range j.lines {
		fmt.Fprintf(&b, "#SBATCH %s\n", l)
	}
	for i, group := range j.groups {
		if i > 0 {
			b.WriteString("#SBATCH hetjob\n")
		}
		if _, named := j.value("job-name"); i == 0 && !named {
			group = append([]flagValue{{"job-name", j.name, true}}, group...)
		}
		for _, f := range group {
			if i == 0 && (f.name == "output" || f.name == "error") && perRank(f.value) {
				continue // files of ranks are maniple's, see below
			}
			line, err := directiveLine(f)
			if err != nil {
				return nil, err
			}
			b.WriteString(line)
		}
	}
	if more := j.own["sbatch"]; more != "" {
		if strings.ContainsAny(more, "\n\r") {
			return nil, usage("--sbatch", "a line break in it", "write it in one line")
		}
		fmt.Fprintf(&b, "#SBATCH %s\n", more)
	}
	b.WriteString("\nexec " + quoteShell(j.program) + " run")
	for _, name := range []string{"max-restarts", "grace", "gpu-visibility", "slurm-env"} {
		if v := j.own[name]; v != "" {
			b.WriteString(" --" + name + "=" + quoteShell(v))
		}
	}
	if j.own["bind"] != "" {
		b.WriteString(" --bind")
	}
	for _, name := range []string{"output", "error"} {
		if v, ok := j.get(name); ok && perRank(v) {
			b.WriteString(" --" + name + "=" + quoteShell(v))
		}
	}
	b.WriteString(" --")
	for _, arg := range j.command {
		b.WriteString(" " + quoteShell(arg))
	}
	b.WriteString("\n")
	return []byte(b.String()), nil
}

// perRank says whether a file pattern makes a file per rank, which Slurm knows nothing of: for it a job
// has one task.
func perRank(pattern string) bool { return strings.Contains(pattern, "%t") }

// directiveLine writes a flag as sbatch reads it from a script, which knows quotes and backslashes.
func directiveLine(f flagValue) (string, error) {
	if strings.ContainsAny(f.value, "\n\r\x00") {
		return "", usage("--"+f.name, "a line break in its value", "write it in one line")
	}
	if !f.set {
		return "#SBATCH --" + f.name + "\n", nil
	}
	value := f.value
	if value == "" || strings.ContainsAny(value, " \t#\"'\\;&|<>()$`*?") {
		value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
	}
	return "#SBATCH --" + f.name + "=" + value + "\n", nil
}

// quoteShell writes an argument as a POSIX shell reads it.
func quoteShell(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%^") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// checkOwn judges the flags that go to `maniple run` in the job, which would find out after the queue.
func (j *job) checkOwn() error {
	_, err := spec.Parse(func(name string) (string, string, bool) {
		v, ours := j.own[name]
		return v, "--" + name, ours
	})
	return err
}

// what is the first line: what the job will be. How many nodes it gets may be the queue's to say, and with
// it what memory and GPUs of a node mean for a rank: that is left out then.
func (j *job) what() string {
	if n := len(j.groups); n > 1 {
		return fmt.Sprintf("%d components", n)
	}
	for _, known := range [][]string{nil, {"nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "gpus-per-task"}} {
		s, err := spec.Parse(func(name string) (string, string, bool) {
			v, ok := j.own[name]
			if !ok {
				v, ok = j.value(name)
			}
			return v, "--" + name, ok && (known == nil || slices.Contains(known, name))
		})
		if err != nil {
			continue
		}
		if sh, err := s.Shape(max(s.NodesMin, 1)); err == nil {
			return sh.FirstLine("")
		}
	}
	for _, name := range []string{"ntasks", "ntasks-per-node", "gpus-per-task"} {
		if _, ok := j.value(name); ok {
			return "ranks, as many as Slurm gives it"
		}
	}
	return "1 driver"
}

// outputPath is the file that Slurm writes the job's output to; a pattern while the ID is not known, and of an array.
func (j *job) outputPath() string {
	return j.expand("%j", j.idText())
}

// pathOf is the file of one task of an array, as the controller says it or as the pattern does.
func (j *job) pathOf(task *slurm.Job) string {
	if path := task.StdOut; path != "" && !strings.Contains(path, "%") {
		return path
	}
	id := fmt.Sprint(task.ID)
	return j.expand("%a", task.ArrayTask, "%j", id, "%J", id)
}

// ofTask is what makes a pattern's file one task's own.
var ofTask = regexp.MustCompile(`%[0-9]*[ajJ]`)

// ownFiles tells whether each task of an array has a file of its own.
func (j *job) ownFiles() bool { return j.array() && ofTask.MatchString(j.outputPattern()) }

func (j *job) array() bool {
	_, array := j.value("array")
	return array
}

// tasks is how many tasks an array has; 0: it is none, or Slurm knows better how that is read.
func (j *job) tasks() int {
	spec, _ := j.value("array")
	return arrayTasks(spec)
}

// arrayTasks counts indices that are written as 0-9:3,12%2, each once; 0: they are not.
func arrayTasks(spec string) int {
	spec, _, _ = strings.Cut(strings.Trim(spec, "[]"), "%")
	tasks := map[int]bool{}
	for _, part := range strings.Split(spec, ",") {
		span, step, stepped := strings.Cut(part, ":")
		from, to, ranged := strings.Cut(span, "-")
		if !ranged {
			to = from
		}
		if !stepped {
			step = "1"
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		by, err3 := strconv.Atoi(step)
		if err1 != nil || err2 != nil || err3 != nil || by < 1 || last < first {
			return 0
		}
		for i := first; i <= last; i += by {
			tasks[i] = true
		}
	}
	return len(tasks)
}

func (j *job) outputPattern() string {
	if v, ok := j.value("output"); ok && !perRank(v) {
		return v
	}
	if j.array() {
		return "slurm-%A_%a.out"
	}
	return "slurm-%j.out"
}

// expand replaces letters of the output's pattern, and those that are the same for all tasks.
func (j *job) expand(letters ...string) string {
	all := append(letters, "%J", j.idText(), "%A", j.idText(), "%x", j.name, "%u", userName(), "%%", "%")
	path := strings.NewReplacer(all...).Replace(j.outputPattern())
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(j.dir, path)
}

func (j *job) idText() string {
	if j.id == 0 {
		return "%j"
	}
	return fmt.Sprint(j.id)
}
