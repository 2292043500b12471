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
		notes:  []string{"It prints a script for the shell, and nothing as JSON."},
		alone:  true,
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
	if cmd.Name == "submit" {
		for _, o := range basicOptions() {
			list = append(list, "--"+o.Name)
		}
	}
	return list
}

// Words that are not known before the key is pressed: `maniple complete KIND` lists them.

// valueKind is what completes the value of a flag, "" for files.
func valueKind(cmd, flag string) string {
	switch {
	case flag == "cluster":
		return "clusters"
	case cmd == "submit" && flag == "partition":
		return "partitions"
	case cmd == "submit" && flag == "account":
		return "accounts"
	}
	return ""
}

// argKind is what completes a command's arguments.
var argKind = map[string]string{"cancel": "running", "status": "groups", "explain": "groups nodes", "logs": "nodes groups"}

// bashCompletion completes commands, then flags, then files; after "--" what the program's own would.
func bashCompletion(commands []*urfave.Command) string {
	var b strings.Builder
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	var kinds strings.Builder
	for _, verb := range sortedKeys(argKind) {
		fmt.Fprintf(&kinds, "        %s) kind=%q ;;\n", verb, argKind[verb])
	}
	fmt.Fprintf(&b, `_maniple() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} me=${COMP_WORDS[0]} i kind= more=
    COMPREPLY=()
    if [ "$cur" = = ]; then cur=; elif [ "$prev" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [ "${COMP_WORDS[i]}" = --cluster ]; then more="--cluster ${COMP_WORDS[i+1]}"; [ "${COMP_WORDS[i+1]}" = = ] && more="--cluster ${COMP_WORDS[i+2]}"; fi
    done
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
    case $verb:$prev in
    *:--cluster) kind=clusters more= ;;
    submit:--partition | submit:-p) kind=partitions ;;
    submit:--account | submit:-A) kind=accounts ;;
    *) case $cur in -*) ;; *) case $verb in
%s        esac ;; esac ;;
    esac
    if [ -n "$kind" ]; then COMPREPLY=($(compgen -W "$("$me" complete $more $kind 2>/dev/null)" -- "$cur")); return; fi
    case $cur in -*) ;; *) compopt -o default; [ "$verb" = completion ] && COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;; esac
    case $verb in
`, strings.Join(names, " "), kinds.String())
	for _, c := range commands {
		fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")) ;;\n", c.Name, strings.Join(longFlags(c), " "))
	}
	b.WriteString("    esac\n}\ncomplete -F _maniple maniple\n")
	return b.String()
}

func zshCompletion(commands []*urfave.Command) string {
	var b strings.Builder
	b.WriteString("#compdef maniple\n_maniple_words() {\n    local -a list more\n    (( $words[(I)--cluster] )) && [[ $1 != clusters ]] && more=(--cluster $words[$(( $words[(I)--cluster] + 1 ))])\n")
	b.WriteString("    list=(${(f)\"$(_call_program words maniple complete $more $@ 2>/dev/null)\"})\n    compadd -a list\n}\n")
	b.WriteString("_maniple() {\n    local -a verbs\n    verbs=(\n")
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
				if kind := valueKind(c.Name, long); kind != "" {
					value = ":value: _maniple_words " + kind
				}
			}
			fmt.Fprintf(&b, "        '--%s%s[%s]%s' \\\n", long, arg, zshText(help), value)
		}
		if c.Name == "submit" {
			for _, o := range basicOptions() {
				value := ":value:_files"
				if kind := valueKind("submit", o.Name); kind != "" {
					value = ":value: _maniple_words " + kind
				}
				short := ""
				if o.Short != "" {
					short = fmt.Sprintf("        '-%s+[of sbatch]%s' \\\n", o.Short, value)
				}
				fmt.Fprintf(&b, "        '--%s=[of sbatch]%s' \\\n%s", o.Name, value, short)
			}
		}
		args := "_files"
		if kind := argKind[c.Name]; kind != "" {
			args = " _maniple_words " + kind
		}
		fmt.Fprintf(&b, "        '*:argument:%s' ;;\n", args)
	}
	// As a file of $fpath it is the function's body; read by source it only registers.
	b.WriteString("    esac\n}\nif [ \"$funcstack[1]\" = _maniple ]; then _maniple \"$@\"; else compdef _maniple maniple; fi\n")
	return b.String()
}

// zshText keeps quotes, brackets and colons out of a description.
func zshText(s string) string {
	return strings.NewReplacer("'", "", "[", "(", "]", ")", ":", ",").Replace(s)
}

func fishCompletion(commands []*urfave.Command) string {
	var b strings.Builder
	b.WriteString(`function __maniple_words
    set -l words (commandline -opc)
    set -l more
    set -l at (contains -i -- --cluster $words); and test "$argv" != clusters; and set more --cluster $words[(math $at + 1)]
    maniple complete $more $argv 2>/dev/null
end
`)
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
			if kind := valueKind(c.Name, names[0]); kind != "" {
				value = " -x -a '(__maniple_words " + kind + ")'"
			}
			fmt.Fprintf(&b, "complete -c maniple -n '__fish_seen_subcommand_from %s' -l %s%s%s -d %q\n", c.Name, names[0], short, value, help)
		}
		if kind := argKind[c.Name]; kind != "" {
			fmt.Fprintf(&b, "complete -c maniple -n '__fish_seen_subcommand_from %s' -f -a '(__maniple_words %s)'\n", c.Name, kind)
		}
		if c.Name == "submit" {
			for _, o := range basicOptions() {
				value := " -r"
				if kind := valueKind("submit", o.Name); kind != "" {
					value = " -x -a '(__maniple_words " + kind + ")'"
				}
				if o.Short != "" {
					value = " -s " + o.Short + value
				}
				fmt.Fprintf(&b, "complete -c maniple -n '__fish_seen_subcommand_from submit' -l %s%s -d 'of sbatch'\n", o.Name, value)
			}
		}
	}
	b.WriteString("complete -c maniple -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n")
	return b.String()
}
