package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// experiment measures and adds results.
type experiment struct {
	name string
	run  func(*lab) error
}

var experiments = []experiment{
	{"start", startHead},
	{"idle", idle},
	{"second-node", secondNode},
	{"gang-64", gang64},
	{"failure", firstFailure},
	{"run-true", runTrue},
	{"submit", submit},
	{"forms", forms},
	{"simulation", simulation},
	{"demo", demo},
	{"kills", soak("random kills", "TestHundredRandomKills", "TestRandomKills")},
	{"clusters", soak("100 starts of two users", "TestHundredStartsOfTwoUsers")},
	{"suite", suite},
}

// issues name the experiments whose bars they set.
var issues = map[string][]string{
	"first-light": {"start", "idle", "second-node", "gang-64", "failure", "run-true", "submit", "forms", "simulation", "demo", "kills", "clusters", "suite"},
}

func main() {
	ok, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run measures what the arguments name, and tells whether every bar holds.
func run(args []string) (ok bool, err error) {
	title, keep := everything, false
	switch {
	case len(args) == 0:
		return false, fmt.Errorf("usage: bench all | bars NAME | EXPERIMENT [EXPERIMENT ...]")
	case args[0] == "all":
		args, keep = args[:0], true
		for _, e := range experiments {
			args = append(args, e.name)
		}
	case args[0] == "bars" && len(args) == 2:
		names, known := issues[args[1]]
		if !known {
			return false, fmt.Errorf("no bars are called %q", args[1])
		}
		title, args, keep = args[1], names, true
	}
	var list []experiment
	for _, name := range args {
		i := slices.IndexFunc(experiments, func(e experiment) bool { return e.name == name })
		if i < 0 {
			return false, fmt.Errorf("no experiment is called %q", name)
		}
		list = append(list, experiments[i])
	}
	if err := adopt(); err != nil {
		return false, err
	}
	l, err := newLab(title)
	if err != nil {
		return false, err
	}
	defer l.close()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() { // until the process ends
		<-interrupted
		l.close()
		os.Exit(130)
	}()

	start := time.Now()
	for _, e := range list {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "measuring %s\n", e.name)
		l.measure(e)
		l.sweep()
		fmt.Fprintf(os.Stderr, "  %s took %.0f s\n", e.name, time.Since(began).Seconds())
	}
	l.report.Took = time.Since(start).Seconds()
	l.report.print(os.Stdout)
	if keep {
		if err := l.report.save(l.top); err != nil {
			return false, err
		}
	}
	return l.report.holds(), nil
}
