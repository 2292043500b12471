package cli

import (
	"fmt"
	"io"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/spec"
)

// flags of a page. DefaultText holds the placeholder of the value.
func value(name, short, arg, help string) urfave.Flag {
	f := &urfave.StringFlag{Name: name, Usage: help, DefaultText: arg}
	if short != "" {
		f.Aliases = []string{short}
	}
	return f
}

func toggle(name, short, help string) urfave.Flag {
	f := &urfave.BoolFlag{Name: name, Usage: help}
	if short != "" {
		f.Aliases = []string{short}
	}
	return f
}

// rare keeps a flag out of the one-screen help; it is in `maniple help COMMAND` and the docs.
func rare(f urfave.Flag) urfave.Flag {
	switch f := f.(type) {
	case *urfave.StringFlag:
		f.Hidden = true
	case *urfave.BoolFlag:
		f.Hidden = true
	}
	return f
}

// specFlags are the flags of the request, but for those named.
func specFlags(without ...string) []urfave.Flag {
	var list []urfave.Flag
	for i := range spec.Flags {
		f := &spec.Flags[i]
		if contains(without, f.Name) {
			continue
		}
		flag := value(f.Name, f.Short, f.Arg, f.Help)
		if f.Arg == "" {
			flag = toggle(f.Name, f.Short, f.Help)
		}
		if f.Rare {
			flag = rare(flag)
		}
		list = append(list, flag)
	}
	return list
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// help is the page as text: examples, then flags. all: with the rare flags.
func (p *page) help(all bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", sentence(p.summary))
	for _, e := range p.examples {
		cmd, what, _ := strings.Cut(e, "\t")
		if what != "" {
			what = "  # " + what
		}
		fmt.Fprintf(&b, "  %-46s%s\n", cmd, what)
	}
	fmt.Fprintf(&b, "\nUsage: maniple %s", p.name)
	if len(p.flags) > 0 {
		b.WriteString(" [flags]")
	}
	if p.args != "" {
		b.WriteString(" " + p.args)
	}
	b.WriteString("\n")
	for _, f := range p.flags {
		if line, isRare := flagLine(f); all || !isRare {
			b.WriteString(line)
		}
	}
	for _, n := range p.notes {
		b.WriteString(wrap(n))
	}
	if p.more && !all {
		fmt.Fprintf(&b, "All flags: maniple help %s\n", p.name)
	}
	return b.String()
}

func flagLine(f urfave.Flag) (line string, isRare bool) {
	long, arg, help := f.Names()[0], "", ""
	switch f := f.(type) {
	case *urfave.StringFlag:
		arg, help, isRare = " "+f.DefaultText, f.Usage, f.Hidden
	case *urfave.BoolFlag:
		help, isRare = f.Usage, f.Hidden
	}
	left := "    --" + long + arg
	if names := f.Names(); len(names) > 1 && len(names[1]) == 1 {
		left = "-" + names[1] + ", --" + long + arg
	}
	return fmt.Sprintf("  %-32s %s\n", left, help), isRare
}

// width is that of help.
const width = 100

// wrap breaks a paragraph into lines.
func wrap(text string) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(text) {
		switch {
		case n+1+len(word) > width:
			b.WriteByte('\n')
			n = 0
		case i > 0:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String() + "\n"
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

// topHelp is the help of maniple itself.
func topHelp(commands []*urfave.Command) string {
	var b strings.Builder
	b.WriteString("Launch and run programs on clusters.\n\n")
	for _, e := range []string{
		"maniple run -n 4 -- python train.py\tfour ranks on this machine",
		"maniple up --fake-nodes 2; maniple run ...; maniple down\ta cluster that stays",
		"maniple demo\ttrain a small network",
	} {
		cmd, what, _ := strings.Cut(e, "\t")
		fmt.Fprintf(&b, "  %-57s # %s\n", cmd, what)
	}
	b.WriteString("\nCommands:\n")
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintf(&b, "  %-12s %s\n", c.Name, c.Usage)
		}
	}
	b.WriteString("\nmaniple COMMAND --help shows examples and flags, maniple help COMMAND all flags.\n")
	return b.String()
}

// help is `maniple help [COMMAND]`.
func (a *app) help(commands []*urfave.Command, args []string) error {
	if len(args) == 0 {
		io.WriteString(a.stdout, topHelp(commands))
		return errHelp
	}
	for _, c := range commands {
		if c.Name == args[0] {
			io.WriteString(a.stdout, c.UsageText)
			return errHelp
		}
	}
	return usage("help", fmt.Sprintf("no command %q", args[0]), "`maniple help` lists them")
}
