package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/rt/keeper"
)

// app is one invocation.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer
	getenv         func(string) string
	environ        []string
	settings       []*settings // of files, the strongest first
	asJSON         bool        // the command was understood, and answers in JSON
}

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	_ = keeper.CloseOnExec() // fails only on a kernel before 5.11 that hides /proc
	a := &app{stdin: os.Stdin, stdout: &output{File: os.Stdout}, stderr: os.Stderr, getenv: os.Getenv, environ: os.Environ()}
	return a.main(args)
}

func (a *app) main(args []string) (code int) {
	what := "maniple"
	defer func() {
		if bug := recover(); bug != nil { // the last line of defence: say it and give 70, not a dump and 2
			fmt.Fprintf(a.stderr, "maniple: %s: internal error: %v; please report it with the lines below\n%s", what, bug, debug.Stack())
			code = ExitBug
		}
	}()
	commands := a.commands()
	what, args, err := a.order(commands, args)
	if err == nil {
		err = a.urfave(commands).RunContext(context.Background(), args)
	}
	if errors.Is(err, errHelp) {
		err = nil
	}
	if err == nil {
		err = a.unwritten(what)
	}
	if err == nil {
		return 0
	}
	f := faultOf(what, err)
	if !f.silent {
		io.WriteString(a.stderr, f.line())
		if a.asJSON {
			a.json(f.record()) // a standard output that takes nothing was the error, or hides none
		}
	}
	return f.exitCode()
}

// urfave is the application as the library sees it; help, completion and errors are ours.
func (a *app) urfave(commands []*urfave.Command) *urfave.App {
	return &urfave.App{
		Name: "maniple", HelpName: "maniple", Usage: "launch and run programs on clusters", Commands: commands,
		HideHelp: true, HideVersion: true, HideHelpCommand: true,
		Writer: a.stdout, ErrWriter: a.stderr, Reader: a.stdin,
		ExitErrHandler: func(*urfave.Context, error) {},
		OnUsageError: func(_ *urfave.Context, err error, _ bool) error {
			return usage("maniple", err.Error(), "`maniple help` lists the commands")
		},
	}
}

// commands is the list, in the order of the help.
func (a *app) commands() []*urfave.Command {
	return []*urfave.Command{
		a.runCommand(),
		a.submitCommand(),
		a.upCommand(),
		a.downCommand(),
		a.execCommand(),
		a.demoCommand(),
		a.statusCommand(),
		a.nodesCommand(),
		a.drainCommand(),
		a.logsCommand(),
		a.cancelCommand(),
		a.explainCommand(),
		a.doctorCommand(),
		a.configCommand(),
		a.versionCommand(),
		a.completionCommand(),
		a.bridgeCommand(),
		a.masterCommand(),
		a.completeCommand(),
	}
}

// page is what a command tells about itself.
type page struct {
	name     string
	summary  string   // one line
	args     string   // of the usage line: "-- PROGRAM [ARG...]"
	examples []string // "command\twhat it does"
	notes    []string // below the flags
	flags    []urfave.Flag
	program  bool // what follows the flags is the user's program
	hidden   bool
	alone    bool // configuration files say nothing to it, and it works if they are broken
	more     bool // flags are left out of the short help
	action   func(*call) error
}

// call is one run of a command.
type call struct {
	*app
	*urfave.Context
	ctx  context.Context
	page *page

	manyNodes bool                // logs of several nodes are shown
	site      *slurmEnd           // of the Slurm job that a run is in
	master    *yarnbackend.Master // of the YARN application that a run is in
	watched   watched             // zero: a run takes signals by itself
	here      []string            // with a master outside of YARN: this machine's environment, which is not the ranks'
}

func (a *app) newCommand(p *page) *urfave.Command {
	return &urfave.Command{
		Name: p.name, Usage: p.summary, ArgsUsage: p.args, Flags: p.flags, Hidden: p.hidden, HideHelp: true,
		Description: strings.Join(p.examples, "\n"), CustomHelpTemplate: p.help(false), UsageText: p.help(true),
		Category: map[bool]string{true: categoryProgram}[p.program],
		Action: func(c *urfave.Context) error {
			if !p.alone && !p.hidden {
				if err := a.readSettings(); err != nil {
					return err
				}
			}
			call := &call{app: a, Context: c, ctx: c.Context, page: p}
			a.asJSON = call.on("json")
			return p.action(call)
		},
	}
}

// categoryProgram marks commands after whose flags the user's program follows.
const categoryProgram = "program"

// flag gives a flag's value, as given or from a file, and where it is from.
func (c *call) flag(name string) (value, origin string, ok bool) {
	if v, origin, ok := c.given(name); ok {
		return v, origin, ok
	}
	return c.setting(name)
}

// given is a flag's value from the command line or from MANIPLE_<FLAG>.
func (c *call) given(name string) (value, origin string, ok bool) {
	if c.IsSet(name) {
		return fmt.Sprint(c.Value(name)), "--" + name, true
	}
	env := envName(name)
	if v := c.getenv(env); v != "" {
		return v, env, true
	}
	return "", "", false
}

func envName(flag string) string {
	return "MANIPLE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// str is flag without its origin; "" if it is not given.
func (c *call) str(name string) string {
	v, _, _ := c.flag(name)
	return v
}

// on is a switch.
func (c *call) on(name string) bool {
	v, _, ok := c.flag(name)
	return ok && v != "false" && v != "0"
}

// rest is the user's program, or the command's arguments.
func (c *call) rest() []string { return c.Args().Slice() }

// noArgs refuses arguments.
func (c *call) noArgs() error {
	if len(c.rest()) > 0 {
		return usage(c.page.name, fmt.Sprintf("%q is one argument too many", c.rest()[0]), "see `maniple "+c.page.name+" --help`")
	}
	return nil
}

// say prints a message.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, "maniple: "+format+"\n", args...)
}

// terminal tells whether w is one.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	if o, is := w.(*output); is {
		f, ok = o.File, true
	}
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
