package cli

import (
	"fmt"
	"io"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

func (a *app) completionCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "completion", summary: "print the completion of a shell", args: "bash|zsh|fish",
		examples: []string{
			"source <(maniple completion bash)\tin ~/.bashrc",
			"maniple completion zsh > ~/.zfunc/_maniple",
			"maniple completion fish > ~/.config/fish/completions/maniple.fish",
		},
		action: (*call).completion,
	})
}

func (c *call) completion() error {
	if len(c.rest()) != 1 {
		return usage("completion", "which shell?", "write bash, zsh or fish")
	}
	var script func([]*urfave.Command) string
	switch shell := c.rest()[0]; shell {
	case "bash":
		script = bashCompletion
	case "zsh":
		script = zshCompletion
	case "fish":
		script = fishCompletion
	default:
		return usage("completion", fmt.Sprintf("no completion for %q", shell), "write bash, zsh or fish")
	}
	_, err := io.WriteString(c.stdout, script(visible(c.commands())))
	return err
}

func visible(all []*urfave.Command) []*urfave.Command {
	var list []*urfave.Command
	for _, c := range all {
		if !c.Hidden {
			list = append(list, c)
		}
	}
	return list
}

func longFlags(cmd *urfave.Command) []string {
	list := []string{"--help"}
	for _, f := range cmd.Flags {
		list = append(list, "--"+f.Names()[0])
	}
	return list
}

// bashCompletion completes commands, then flags, then files; after "--" what the program's own would.
func bashCompletion(commands []*urfave.Command) string {
	var b strings.Builder
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	fmt.Fprintf(&b, `_maniple() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} i
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "%s help" -- "$cur"))
        return
    fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [ "${COMP_WORDS[i]}" = -- ]; then
            if [ "$((i + 1))" -eq "$COMP_CWORD" ]; then COMPREPLY=($(compgen -c -- "$cur")); else compopt -o default; fi
            return
        fi
    done
    case $cur in -*) ;; *) compopt -o default; [ "$verb" = completion ] && COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;; esac
    case $verb in
`, strings.Join(names, " "))
	for _, c := range commands {
		fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")) ;;\n", c.Name, strings.Join(longFlags(c), " "))
	}
	b.WriteString("    esac\n}\ncomplete -F _maniple maniple\n")
	return b.String()
}

func zshCompletion(commands []*urfave.Command) string {
	var b strings.Builder
	b.WriteString("#compdef maniple\n_maniple() {\n    local -a verbs\n    verbs=(\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "        '%s:%s'\n", c.Name, zshText(c.Usage))
	}
	b.WriteString("    )\n    if (( CURRENT == 2 )); then _describe command verbs; return; fi\n")
	b.WriteString("    case $words[2] in\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "    %s) _arguments \\\n", c.Name)
		for _, f := range c.Flags {
			long, help, arg := f.Names()[0], "", ""
			switch f := f.(type) {
			case *urfave.StringFlag:
				help, arg = f.Usage, "="
			case *urfave.BoolFlag:
				help = f.Usage
			}
			value := ""
			if arg != "" {
				value = ":value:_files"
			}
			fmt.Fprintf(&b, "        '--%s%s[%s]%s' \\\n", long, arg, zshText(help), value)
		}
		b.WriteString("        '*:file:_files' ;;\n")
	}
	b.WriteString("    esac\n}\n_maniple \"$@\"\n")
	return b.String()
}

// zshText keeps quotes, brackets and colons out of a description.
func zshText(s string) string {
	return strings.NewReplacer("'", "", "[", "(", "]", ")", ":", ",").Replace(s)
}

func fishCompletion(commands []*urfave.Command) string {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "complete -c maniple -n __fish_use_subcommand -f -a %s -d %q\n", c.Name, c.Usage)
		for _, f := range c.Flags {
			names, help, value := f.Names(), "", ""
			switch f := f.(type) {
			case *urfave.StringFlag:
				help, value = f.Usage, " -r"
			case *urfave.BoolFlag:
				help = f.Usage
			}
			short := ""
			if len(names) > 1 && len(names[1]) == 1 {
				short = " -s " + names[1]
			}
			fmt.Fprintf(&b, "complete -c maniple -n '__fish_seen_subcommand_from %s' -l %s%s%s -d %q\n", c.Name, names[0], short, value, help)
		}
	}
	b.WriteString("complete -c maniple -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n")
	return b.String()
}
