package main

import (
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
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
	{"tasks", tasks.experiment},
	{"actor-calls", actorCalls.experiment},
	{"round-trips", roundTrips.experiment},
	{"puts", puts.experiment},
	{"gets", gets.experiment},
	{"messages", messages.experiment},
	{"groups", groups.experiment},
	{"groups-on-nodes", groupsOnNodes.experiment},
	{"actors", actors.experiment},
	{"actors-with-torch", actorsWithTorch.experiment},
	{"first-result", firstResult.experiment},
	{"worker-killed", workerKilled.experiment},
	{"idle-runtime", idleRuntime.experiment},
	{"queued", queued.experiment},
	{"many", many.experiment},
	{"operations", operations},
	{"profile", profile},
	{"spilling", spilling},
	{"thousand-nodes", thousandNodes},
	{"store", store.experiment},
	{"mapped", mapped.experiment},
	{"transfer", transfer},
	{"fabric", fabricBars},
	{"broadcast", broadcast.experiment},
	{"faults", faults},
	{"yarn-submit", yarnSubmit},
	{"yarn-kills", yarnKills},
	{"yarn-hurt", yarnHurt},
	{"yarn-gangs", yarnGangs},
	{"yarn-kerberos", yarnKerberos},
	{"yarn-privacy", yarnPrivacy},
	{"yarn-demo", yarnDemo},
	{"yarn-views", yarnViews},
}

// issues name the experiments whose bars they set.
var issues = map[string][]string{
	"first-light": {"start", "idle", "second-node", "gang-64", "failure", "run-true", "submit", "forms", "simulation", "demo", "kills", "clusters", "suite"},
	"runtime": {"tasks", "actor-calls", "round-trips", "puts", "gets", "messages", "groups", "groups-on-nodes", "actors", "actors-with-torch", "first-result",
		"worker-killed", "idle-runtime", "queued", "many", "operations", "profile"},
	// The 20 minutes of faults are a test of `make soak`.
	"data-plane": {"store", "mapped", "spilling", "transfer", "fabric", "broadcast", "thousand-nodes"},
	"yarn":       {"yarn-submit", "yarn-kills", "yarn-hurt", "yarn-gangs", "yarn-kerberos", "yarn-demo", "yarn-views", "yarn-privacy"},
}

func main() {
	if is, err := isCopy(os.Args[1:]); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: copy:", err)
			os.Exit(1)
		}
		return
	}
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
	title, keep, only := everything, !quick, ""
	if n := len(args); n > 2 && args[n-2] == "--only" {
		args, only, keep = args[:n-2], args[n-1], false
	}
	switch {
	case len(args) == 0:
		return false, fmt.Errorf("usage: bench all | bars NAME [--only PATTERN] | EXPERIMENT [EXPERIMENT ...]")
	case args[0] == "all":
		args = args[:0]
		for _, e := range experiments {
			args = append(args, e.name)
		}
	case args[0] == "bars" && len(args) == 2:
		names, known := issues[args[1]]
		if !known {
			return false, fmt.Errorf("no bars are called %q", args[1])
		}
		title, args = args[1], names
	default:
		keep = false
	}
	pattern, err := regexp.Compile(only)
	if err != nil {
		return false, fmt.Errorf("--only %s: %w", only, err)
	}
	if args = slices.DeleteFunc(slices.Clone(args), func(name string) bool { return !pattern.MatchString(name) }); len(args) == 0 {
		return false, fmt.Errorf("--only %s leaves nothing to measure", only)
	}
	if quick {
		title, pairs = title+": "+trial, 1
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
	var left *kept
	if keep {
		if left, err = keeps(l.report, resume); err != nil {
			return false, err
		}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	var sofar atomic.Pointer[Report]
	go func() { // until the process ends
		<-interrupted
		l.ending.Store(true)
		l.close()
		if r := sofar.Load(); r != nil {
			r.print(os.Stdout)
		}
		os.Exit(130)
	}()

	start := time.Now()
	for _, e := range list {
		began, before := time.Now(), len(l.report.Results)
		if left != nil {
			if d, ok := left.of(e.name); ok {
				fmt.Fprintf(os.Stderr, "%s was measured before this run\n", e.name)
				l.report.Results = append(l.report.Results, d.Results...)
				l.report.Resumed = append(l.report.Resumed, e.name)
				start = start.Add(-time.Duration(d.Took * float64(time.Second)))
				continue
			}
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", e.name)
		l.measure(e)
		if l.ending.Load() {
			select {} // the process is about to end, and what was cut off says nothing
		}
		l.sweep()
		for _, r := range l.report.Results[before:] { // who waits for an hour sees what there is
			row := r.row()
			if r.Error != "" {
				row[5] += ", " + r.Error
			}
			fmt.Fprintf(os.Stderr, "    %s: %s\n", row[0], strings.TrimSpace(row[1]+" "+row[5]))
		}
		fmt.Fprintf(os.Stderr, "  %s took %.0f s\n", e.name, time.Since(began).Seconds())
		if left != nil {
			if err := left.add(keptOf{e.name, time.Since(began).Seconds(), l.report.Results[before:]}); err != nil {
				return false, err
			}
		}
		sofar.Store(l.report.interrupted(time.Since(start)))
	}
	l.report.Took = time.Since(start).Seconds()
	l.report.print(os.Stdout)
	if keep {
		if err := l.report.save(l.top); err != nil {
			return false, err
		}
		if err := left.remove(); err != nil {
			return false, err
		}
	}
	return l.report.holds(), nil
}
