package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/cli.md and docs/spec/errors.md from the tables, and what scripts print into testdata; read the diff")

// The docs are made of the same tables as the help and the errors.
func TestDocsAreCurrent(t *testing.T) {
	for file, want := range map[string]string{"../../docs/cli.md": cliDoc(), "../../docs/spec/errors.md": errorsDoc()} {
		if *rewrite {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil || string(have) != want {
			t.Errorf("%s is not what the tables say (%v): go test ./launcher/cli -run Docs -rewrite", file, err)
		}
	}
}

// Help fits a window of a hundred columns.
func TestHelpIsNarrow(t *testing.T) {
	a, _, _ := newApp(nil)
	for _, cmd := range a.commands() {
		for line := range strings.Lines(cmd.UsageText) {
			if n := len(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%s: %d columns: %s", cmd.Name, n, line)
			}
		}
	}
}

// Every command has --json, but for those whose output is for another program.
func TestEveryCommandHasJSON(t *testing.T) {
	reasons := map[string]string{"completion": "it prints a shell's script"}
	a, _, _ := newApp(nil)
	for _, cmd := range visible(a.commands()) {
		if has := shapes(cmd)["json"].boolean; has == (reasons[cmd.Name] != "") {
			t.Errorf("%s: --json %v, but the exceptions say %q", cmd.Name, has, reasons[cmd.Name])
		}
	}
}

// Every error name has its exit code in the other table.
func TestErrorTable(t *testing.T) {
	for _, e := range ErrorCodes {
		found := e.Exit == 0
		for _, x := range ExitCodes {
			found = found || x.Code == fmt.Sprint(e.Exit)
		}
		if !found {
			t.Errorf("%s: exit code %d has no meaning", e.Name, e.Exit)
		}
	}
	if f := (&Fault{Name: "NO_SUCH_NAME"}); f.exitCode() != ExitBug {
		t.Errorf("an unknown name gives %d", f.exitCode())
	}
}

func errorsDoc() string {
	var b strings.Builder
	b.WriteString("# Errors and exit codes\n\nMade from `launcher/cli/codes.go` by `go test ./launcher/cli -run Docs -rewrite`.\n\n")
	b.WriteString("Messages are one line on stderr, `maniple: what: why; what to do`. Names are stable. With `--json` a command that was understood and failed says so in the last line of stdout too:\n`{\"version\":1,\"event\":\"error\",\"code\":NAME,\"exit_code\",\"what\",\"why\",\"do\"}`.\n\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n")
	for _, x := range ExitCodes {
		fmt.Fprintf(&b, "| %s | %s |\n", x.Code, x.Meaning)
	}
	b.WriteString("\nWith several failing ranks the code is that of the rank which failed first; ranks that we ended do not count.\n")
	b.WriteString("\n## Errors\n\n| name | exit code | meaning | what to do |\n| --- | --- | --- | --- |\n")
	for _, e := range ErrorCodes {
		code := fmt.Sprint(e.Exit)
		if e.Exit == 0 {
			code = "(notice)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", e.Name, code, e.Meaning, e.Do)
	}
	b.WriteString("\n## Errors of a node\n\nThe `code` of an `error` event of a keeper, and its exit code. 71: the system refused something that must work. Commands show the text, with an exit code of the table above.\n")
	b.WriteString("\n| name | exit code | meaning | what to do |\n| --- | --- | --- | --- |\n")
	for _, c := range NodeCodes {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name, c.Exit, c.Meaning, c.Do)
	}
	b.WriteString("\n## Notices\n\nWhat the head says while a cluster runs: on stderr of commands, in `maniple logs` and with `--json`.\n\n| name | meaning | what to do |\n| --- | --- | --- |\n")
	for _, c := range NoticeCodes {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, c.Meaning, c.Do)
	}
	b.WriteString("\n## Errors of tasks and actors\n\nWhat the runtime itself says of a task or a call that it could not do (`Failure.code`), and the class of `maniple.exceptions` that Python gets. USER is an exception of the user's own code.\n\n| name | Python | meaning | what to do |\n| --- | --- | --- | --- |\n")
	for _, c := range TaskCodes {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name, c.Exit, c.Meaning, c.Do)
	}
	b.WriteString("\n## Findings\n\nThe `code` of a finding of `maniple doctor --json`. A finding says itself how bad it is and what to do.\n\n| name | about |\n| --- | --- |\n")
	for _, c := range DoctorCodes {
		fmt.Fprintf(&b, "| %s | %s |\n", c.Name, c.Meaning)
	}
	return b.String()
}

func cliDoc() string {
	a, _, _ := newApp(nil)
	var b strings.Builder
	b.WriteString("# Commands\n\nMade from the commands' own help by `go test ./launcher/cli -run Docs -rewrite`.\n\n")
	b.WriteString("A flag wins over the variable `MANIPLE_<FLAG>`, which wins over what a Slurm job says of itself, which wins over configuration files (`maniple config`). stdout is data, stderr is messages.\n")
	b.WriteString("After `--` everything is the user's program. Exit codes and errors: [spec/errors.md](spec/errors.md).\n\n")
	b.WriteString("```\n" + topHelp(a.commands()) + "```\n")
	for _, cmd := range a.commands() {
		if cmd.Hidden {
			continue
		}
		fmt.Fprintf(&b, "\n## maniple %s\n\n```\n%s```\n", cmd.Name, cmd.UsageText)
	}
	return b.String()
}
