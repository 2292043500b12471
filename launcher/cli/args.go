package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// errHelp means that help was asked for and printed.
var errHelp = errors.New("help")

// order finds the command in args and puts its arguments into the form that urfave reads: flags first,
// each as --name=value, then "--", then the rest. what names the command for messages.
func (a *app) order(commands []*urfave.Command, args []string) (what string, out []string, err error) {
	what = "maniple"
	if len(args) < 2 {
		io.WriteString(a.stderr, topHelp(commands))
		return what, nil, exitOnly(ExitUsage)
	}
	name, rest := args[1], args[2:]
	switch name {
	case "-h", "--help", "help":
		return what, nil, a.help(commands, rest)
	case "-v", "-V", "--version":
		name = "version"
	}
	if strings.HasPrefix(name, "-") {
		do := "write for instance `maniple run " + name + " ...`"
		if word := strings.TrimLeft(name, "-"); slices.ContainsFunc(commands, func(c *urfave.Command) bool { return c.Name == word }) {
			do = "did you mean `maniple " + word + "`?"
		}
		return what, nil, usage(name, "it stands before a command", do)
	}
	var cmd *urfave.Command
	for _, c := range commands {
		if c.Name == name {
			cmd = c
		}
	}
	if cmd == nil {
		var names []string
		for _, c := range commands {
			if !c.Hidden {
				names = append(names, c.Name)
			}
		}
		near := otherVerbs[name]
		if near == "" {
			near = nearest(name, names)
		}
		if near != "" {
			return what, nil, usage(name, "no such command", "did you mean `maniple "+near+"`?")
		}
		return what, nil, usage(name, "no such command", "`maniple help` lists them; to start a program write `maniple run -- "+name+"`")
	}
	if cmd.SkipFlagParsing {
		return name, args, nil
	}
	flags, rest, err := orderFlags(cmd, rest)
	if errors.Is(err, errHelp) {
		io.WriteString(a.stdout, cmd.CustomHelpTemplate)
		return name, nil, errHelp
	}
	if err != nil {
		return name, nil, err
	}
	out = append([]string{args[0], name}, flags...)
	out = append(out, "--")
	return name, append(out, rest...), nil
}

// flagShape is what order needs to know of a flag.
type flagShape struct {
	name    string // the long one
	boolean bool
}

func shapes(cmd *urfave.Command) map[string]flagShape {
	known := map[string]flagShape{}
	for _, f := range cmd.Flags {
		_, boolean := f.(*urfave.BoolFlag)
		names := f.Names()
		for _, n := range names {
			known[n] = flagShape{names[0], boolean}
		}
	}
	return known
}

// orderFlags separates flags from the rest. Flags end at "--", and for a program at its name.
func orderFlags(cmd *urfave.Command, args []string) (flags, rest []string, err error) {
	known := shapes(cmd)
	program := cmd.Category == categoryProgram
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flags, append(rest, args[i+1:]...), nil
		case arg == "-h" || arg == "--help":
			return nil, nil, errHelp
		case strings.HasPrefix(arg, "--"):
			name, value, has := strings.Cut(arg[2:], "=")
			shape, ok := known[name]
			if !ok {
				return nil, nil, unknownFlag(cmd, "--"+name)
			}
			switch {
			case shape.boolean && !has:
				value = "true"
			case shape.boolean && value != "true" && value != "false":
				return nil, nil, usage("--"+name, "it takes no value", "write --"+name+" alone")
			case !shape.boolean && !has:
				i++
				if i == len(args) {
					return nil, nil, needsValue(cmd, "--"+name, shape.name)
				}
				value = args[i]
			}
			flags = append(flags, "--"+shape.name+"="+value)
		case len(arg) > 1 && arg[0] == '-':
			more, used, err := shortFlags(cmd, known, arg[1:], args[i+1:])
			if err != nil {
				return nil, nil, err
			}
			flags = append(flags, more...)
			i += used
		case program:
			return flags, args[i:], nil
		default:
			rest = append(rest, arg)
		}
	}
	return flags, rest, nil
}

// shortFlags reads -N2, -N 2 and -abc. used is how many of the following arguments it took.
func shortFlags(cmd *urfave.Command, known map[string]flagShape, letters string, next []string) (flags []string, used int, err error) {
	if _, ok := known["ntasks"]; ok && letters == "np" {
		return nil, 0, unknownFlag(cmd, "-np") // mpirun's: "p" is no number of tasks
	}
	for i := range len(letters) {
		name := letters[i : i+1]
		shape, ok := known[name]
		if !ok {
			if i == 0 && len(letters) > 1 {
				name = letters // "-nodes": they meant the long one
			}
			return nil, 0, unknownFlag(cmd, "-"+name)
		}
		if shape.boolean {
			flags = append(flags, "--"+shape.name+"=true")
			continue
		}
		value := letters[i+1:]
		if value == "" {
			if len(next) == 0 {
				return nil, 0, needsValue(cmd, "-"+name, shape.name)
			}
			value, used = next[0], 1
		}
		return append(flags, "--"+shape.name+"="+value), used, nil
	}
	return flags, 0, nil
}

func needsValue(cmd *urfave.Command, as, name string) error {
	arg := "VALUE"
	for _, f := range cmd.Flags {
		if s, ok := f.(*urfave.StringFlag); ok && s.Name == name && s.DefaultText != "" {
			arg = s.DefaultText
		}
	}
	return usage(as, "its value is missing", fmt.Sprintf("write %s %s", as, arg))
}

func unknownFlag(cmd *urfave.Command, flag string) error {
	var names []string
	for _, f := range cmd.Flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, n)
			}
		}
	}
	do := "`maniple " + cmd.Name + " --help` lists what there is"
	name := strings.TrimLeft(flag, "-")
	near := meant(cmd, name)
	if near == "" {
		near = nearest(name, names)
	}
	switch {
	case cmd.Name == "run" && slices.Contains(queueFlags, name):
		do = "the queue is `maniple submit`'s; inside a job the job has it already"
	case near != "":
		do = "did you mean --" + near + "?"
	}
	if cmd.Category == categoryProgram {
		do += " (flags of your program go after --)"
	}
	return usage(cmd.Name, "no flag "+flag, do)
}

// nearest is the name within a third of its length in edits, or of which word is a part; "" if none is.
func nearest(word string, names []string) string {
	best, least := "", 1+max(len(word), 3)/3
	slices.Sort(names)
	for _, n := range names {
		if d := edits(word, n); d < least {
			best, least = n, d
		}
	}
	if best == "" && len(word) >= 3 {
		for _, n := range names {
			if strings.HasPrefix(n, word) || strings.HasPrefix(word, n) || strings.Contains(n, "-"+word) {
				return n
			}
		}
	}
	return best
}

// edits counts insertions, deletions, replacements and swaps of neighbours between a and b.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
