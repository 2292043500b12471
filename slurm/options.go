package slurm

import "strings"

// Option is an option of one of Slurm's programs, as its --help lists it.
type Option struct {
	Name  string `json:"name"`            // long, without dashes
	Short string `json:"short,omitempty"` // one letter
	Value Value  `json:"value"`
	Arg   string `json:"arg,omitempty"` // Slurm's placeholder for the value
	Help  string `json:"help,omitempty"`
}

// Value says whether an option takes a value.
type Value string

const (
	NoValue       Value = "none"
	NeedsValue    Value = "needs"
	OptionalValue Value = "optional" // only as --name=value
)

// ParseOptions reads the --help page of sbatch, salloc or srun.
func ParseOptions(page string) []Option {
	var list []Option
	seen := map[string]bool{}
	for _, line := range strings.Split(page, "\n") {
		o, ok := parseOption(line)
		if !ok {
			// The description goes on in the next lines.
			if text := strings.TrimSpace(line); len(list) > 0 && strings.HasPrefix(line, strings.Repeat(" ", 20)) && len(list[len(list)-1].Help) < 60 {
				last := &list[len(list)-1]
				last.Help = strings.TrimSpace(last.Help + " " + text)
			}
			continue
		}
		if !seen[o.Name] {
			seen[o.Name] = true
			list = append(list, o)
		}
	}
	return list
}

// parseOption reads "  -A, --account=name   charge job to specified account".
func parseOption(line string) (o Option, ok bool) {
	text := strings.TrimLeft(line, " ")
	if indent := len(line) - len(text); indent == 0 || indent > 12 {
		return o, false
	}
	if len(text) > 2 && text[0] == '-' && text[1] != '-' {
		o.Short = text[1:2]
		text = strings.TrimLeft(text[2:], ", ") // 22.05 has "-B  --extra-node-info"
	}
	text, ok = strings.CutPrefix(text, "--")
	if !ok {
		return o, false
	}
	name, help, _ := strings.Cut(text, " ")
	o.Help, o.Value = strings.TrimSpace(help), NoValue
	if n := strings.Index(name, "[="); n >= 0 {
		o.Value, o.Arg, name = OptionalValue, strings.TrimSuffix(name[n+2:], "]"), name[:n]
		// "--wrap[=command string] wrap ..." has a space in its placeholder.
		if end := strings.IndexByte(o.Help, ']'); end >= 0 && !strings.HasSuffix(text[:len(name)+2+len(o.Arg)+1], "]") {
			o.Arg, o.Help = o.Arg+" "+o.Help[:end], strings.TrimSpace(o.Help[end+1:])
		}
	} else if n := strings.IndexByte(name, '='); n >= 0 {
		o.Value, o.Arg, name = NeedsValue, name[n+1:], name[:n]
	}
	o.Name = name
	// The page leaves the value of --container out, and calls those of --wrap and --export optional.
	switch name {
	case "container", "container-id", "wrap", "export":
		o.Value = NeedsValue
	}
	return o, name != ""
}
