package cli

import (
	"bytes"
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"
)

func newApp(env map[string]string) (*app, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	return &app{stdout: &out, stderr: &errs, getenv: func(k string) string { return env[k] }}, &out, &errs
}

// CLI-3, CLI-5: what order makes of a command line.
func TestOrder(t *testing.T) {
	for _, c := range []struct{ args, want, err string }{
		{args: "run -n2 true", want: "run --ntasks=2 -- true"},
		{args: "run -n 2 -- true", want: "run --ntasks=2 -- true"},
		{args: "run --ntasks 2 true", want: "run --ntasks=2 -- true"},
		{args: "run --ntasks=2 true -n 3 --json -- x", want: "run --ntasks=2 -- true -n 3 --json -- x"},
		{args: "run -N1-2 -Qn4 -- -odd --flags", want: "run --nodes=1-2 --quiet=true --ntasks=4 -- -odd --flags"},
		{args: "run -- -- true", want: "run -- -- true"},
		{args: "run --json true", want: "run --json=true -- true"},
		{args: "run --output= true", want: "run --output= -- true"},
		{args: "cancel 1.2.3 --now 1.2.4", want: "cancel --now=true -- 1.2.3 1.2.4"},
		{args: "--version", want: "version --"},
		{args: "run --ntask 2 true", err: "run: no flag --ntask; did you mean --ntasks? (flags of your program go after --)"},
		{args: "run --gpu 2 true", err: "run: no flag --gpu; did you mean --gpus? (flags of your program go after --)"},
		{args: "run --zzz true", err: "run: no flag --zzz; `maniple run --help` lists what there is (flags of your program go after --)"},
		{args: "run -Z true", err: "run: no flag -Z; `maniple run --help` lists what there is (flags of your program go after --)"},
		{args: "down --noww", err: "down: no flag --noww; did you mean --now?"},
		{args: "run --ntasks", err: "--ntasks: its value is missing; write --ntasks N"},
		{args: "run -n", err: "-n: its value is missing; write -n N"},
		{args: "run --json=7 true", err: "--json: it takes no value; write --json alone"},
		{args: "runn", err: "runn: no such command; did you mean `maniple run`?"},
		{args: "./train.py", err: "./train.py: no such command; `maniple help` lists them; to start a program write `maniple run -- ./train.py`"},
		{args: "ps", err: "ps: no such command; did you mean `maniple status`?"},
		{args: "kill 1.2.3", err: "kill: no such command; did you mean `maniple cancel`?"},
		{args: "run -np 2 true", err: "run: no flag -np; did you mean --ntasks? (flags of your program go after --)"},
		{args: "logs --tail 3", err: "logs: no flag --tail; did you mean --lines?"},
		{args: "up -N 2", err: "up: no flag -N; did you mean --fake-nodes?"},
		{args: "run -p gpu true", err: "run: no flag -p; the queue is `maniple submit`'s; inside a job the job has it already (flags of your program go after --)"},
		{args: "--demo", err: "--demo: it stands before a command; did you mean `maniple demo`?"},
		{args: "-n 2 run", err: "-n: it stands before a command; write for instance `maniple run -n ...`"},
	} {
		a, _, _ := newApp(nil)
		_, out, err := a.order(a.commands(), append([]string{"maniple"}, strings.Fields(c.args)...))
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: error %v\nwant %s", c.args, err, c.err)
			}
			continue
		}
		if err != nil || strings.Join(out[1:], " ") != c.want {
			t.Errorf("%s: %q %v\nwant %q", c.args, strings.Join(out, " "), err, c.want)
		}
	}
}

// Every help fits a screen, starts with examples, and shows no command that does not exist.
func TestHelpFitsAScreen(t *testing.T) {
	a, _, _ := newApp(nil)
	for _, cmd := range a.commands() {
		for name, text := range map[string]string{"--help": cmd.CustomHelpTemplate, "help": cmd.UsageText} {
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			if name == "--help" && len(lines) > 28 {
				t.Errorf("%s --help: %d lines", cmd.Name, len(lines))
			}
			if len(lines) < 3 || !strings.Contains(lines[2], "maniple") {
				t.Errorf("%s %s does not begin with examples:\n%s", cmd.Name, name, text)
			}
			for _, l := range lines {
				if len(l) > 118 {
					t.Errorf("%s %s: %d columns: %s", cmd.Name, name, len(l), l)
				}
			}
		}
	}
	if n := strings.Count(topHelp(a.commands()), "\n"); n > 30 {
		t.Errorf("maniple help: %d lines", n)
	}
}

// Examples in the help are command lines that work: their flags exist.
func TestExamplesParse(t *testing.T) {
	a, _, _ := newApp(nil)
	for _, cmd := range a.commands() {
		for _, e := range strings.Split(cmd.Description, "\n") {
			line, _, _ := strings.Cut(e, "\t")
			_, line, found := strings.Cut(line, "maniple ")
			if !found {
				t.Errorf("%s: example %q", cmd.Name, e)
				continue
			}
			line = strings.TrimRight(strings.Split(line, ">")[0], ") ")
			if _, _, err := a.order(a.commands(), append([]string{"maniple"}, strings.Fields(line)...)); err != nil {
				t.Errorf("%s: %q: %v", cmd.Name, e, err)
			}
		}
	}
}

// CLI-6: a flag wins over its variable, which wins over nothing; messages name which it was.
func TestFlagOrigin(t *testing.T) {
	for _, c := range []struct {
		args   string
		env    map[string]string
		origin string
		value  string
	}{
		{"version --cluster a", map[string]string{"MANIPLE_CLUSTER": "b"}, "--cluster", "a"},
		{"version", map[string]string{"MANIPLE_CLUSTER": "b"}, "MANIPLE_CLUSTER", "b"},
		{"version", nil, "", ""},
	} {
		a, _, _ := newApp(c.env)
		var value, origin string
		cmd := a.newCommand(&page{name: "version", summary: "x", flags: []urfave.Flag{clusterFlag()}, action: func(c *call) error {
			value, origin, _ = c.flag("cluster")
			return nil
		}})
		_, args, err := a.order([]*urfave.Command{cmd}, append([]string{"maniple"}, strings.Fields(c.args)...))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.urfave([]*urfave.Command{cmd}).Run(args); err != nil {
			t.Fatal(err)
		}
		if value != c.value || origin != c.origin {
			t.Errorf("%s: %q from %q, want %q from %q", c.args, value, origin, c.value, c.origin)
		}
	}
}

func TestCompletionNamesAllCommandsAndFlags(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		a, out, errs := newApp(nil)
		if code := a.main([]string{"maniple", "completion", shell}); code != 0 {
			t.Fatalf("%s: exit code %d: %s", shell, code, errs)
		}
		for _, cmd := range a.commands() {
			if cmd.Hidden {
				continue
			}
			if !strings.Contains(out.String(), cmd.Name) {
				t.Errorf("%s does not know %s", shell, cmd.Name)
			}
			for _, f := range cmd.Flags {
				if !strings.Contains(out.String(), f.Names()[0]) {
					t.Errorf("%s does not know %s --%s", shell, cmd.Name, f.Names()[0])
				}
			}
		}
	}
}
