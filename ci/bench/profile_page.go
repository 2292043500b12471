package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// way is how the calls of a scene go: many at once, or one by one, through the agent or by the direct line to an actor (ADR 0035).
type way int

const (
	atOnce way = iota
	byAgent
	byLine
)

func wayOf(scene string) way {
	switch {
	case !oneByOne(scene):
		return atOnce
	case strings.HasPrefix(scene, "actor"):
		return byLine
	}
	return byAgent
}

// floor is what prototypes took for a no-op call on a machine like this one: a thin C extension in driver and
// worker, and, but for a line, an agent in Go between them, without scheduling, ownership and retries.
type floor struct {
	wall, cpu float64 // microseconds
	what      string
}

func floorOf(scene string) floor {
	switch wayOf(scene) {
	case byLine:
		return floor{4.4, 4.4, "C extension, a unix socket between the two, both on one CPU: p50 of a round trip; 64 where each hop wakes another CPU"}
	case byAgent:
		return floor{13.3, 13.3, "C extension, unix sockets, through a Go agent, all on one CPU: p50 of a round trip; 98 where each hop wakes another CPU"}
	}
	return floor{0.77, 0.77, "C extension with remote(), ObjectRef and get, pipelined: 0.60 driver, 0.13 worker, 0.04 agent"}
}

// idleLoad is the load average up to which a machine counts as having nothing else to do.
const idleLoad = 0.5

// Who a share belongs to, in the order of the page.
const (
	oursInPython = "ours, in Python"
	pythonsOwn   = "Python's own"
	oursInC      = "ours, in C"
	oursInGo     = "ours, in Go"
	goRuntime    = "Go's runtime"
	kernels      = "the kernel"
	restOfUser   = "not told apart"
)

var owners = []string{oursInPython, pythonsOwn, oursInC, oursInGo, goRuntime, kernels, restOfUser}

// why says of each owner what its time is spent on, and what would change it.
var why = map[way]map[string]string{
	byLine: {
		oursInPython: "the package's own code, which takes several times what it takes when many calls come together (below): between two calls the other process had the processor, and its caches are cold. " +
			"Its largest part is the worker's, from the inbox to the result. All of that in the C extension, as frames, references and the line are, would be a fifth.",
		pythonsOwn: "the interpreter and its library on our behalf and the program's.",
		oursInC:    "the C extension: frames, references, the line.",
		oursInGo:   "the agent's part of calls that did not go by the line: the first ones, and each behind something else that was said to it.",
		goRuntime:  "the agent's poller, beside that.",
		kernels:    "two switches between processes with the poll, send and receive of each, and the calls that keep both on one processor. Rings in shared memory would spare the copies and not the switches.",
		restOfUser: "time outside of the kernel that no tool here could tell apart.",
	},
	byAgent: {
		oursInPython: "the package's own code, which takes several times what it takes when many calls come together (below): between two calls other processes had the processor, and its caches are cold. " +
			"Its largest part is the worker's, from the inbox to the result (Executor.run, context, target, result). All of that in the C extension, as frames, references and the inbox are, would be a fifth.",
		pythonsOwn: "the interpreter and its library on our behalf and the program's.",
		oursInC:    "the C extension: frames, references, the inbox.",
		oursInGo:   "the agent's core and its connections: admission, leases, results, for a batch of one.",
		goRuntime:  "the poller, and the system calls' entry and exit. It would go with the agent's part.",
		kernels:    "four switches between processes with the poll, send and receive of each, and the calls that keep the three on one processor (ADR 0018). Rings in shared memory would spare the copies and not the switches; a line straight from caller to worker, as calls of actors have, spares half.",
		restOfUser: "time outside of the kernel that no tool here could tell apart.",
	},
	atOnce: {
		oursInPython: "mostly the worker: for each call a context, the look for its function or method, the clock, and the sending of its result, in a dozen Python functions of a half to one microsecond. The floor does all of that in C.",
		pythonsOwn:   "the interpreter and its library on our behalf and the program's.",
		oursInC:      "the C extension: frames, the table of awaited results, references. Part of it is memory that is met for the first time: a reference and an entry for each of 10,000 calls.",
		oursInGo:     "the agent's core: a record for each call with its retries, holders and times, of which the floor's agent has none; it hands on bytes.",
		goRuntime:    "look-ups by ID, copies of frames and the garbage collector. Numbers in place of IDs within a connection would shrink it.",
		kernels:      "sends and receives of some dozens of frames each, and the switches between five processes on few processors. Larger batches would shrink it at the price of the first result's time.",
		restOfUser:   "time outside of the kernel that no tool here could tell apart.",
	},
}

// shares are the microseconds of each call that a role's time divides into, by owner.
func (s *scene) shares(name string) map[string]float64 {
	each := s.cpu[name] / s.count * 1e6
	out := map[string]float64{}
	samples := s.samples[name]
	all := 0
	for _, n := range samples {
		all += n
	}
	python := 0.0
	switch {
	case all > 0:
		part := func(k kind) float64 { return each * float64(samples[k]) / float64(all) }
		out[kernels], out[oursInGo], out[goRuntime], out[oursInC] = part(inKernel), part(inOurGo), part(inGo), part(inOurC)
		python = part(inPython)
		if !isPython(name) { // what perf has no file for, as the kernel's own page
			out[goRuntime], python = out[goRuntime]+python, 0
		}
	case s.cpu[name] > 0:
		out[kernels] = min(each, s.system[name]/s.count*1e6)
		python = each - out[kernels]
		if !isPython(name) {
			out[oursInGo], python = python, 0
		}
	}
	ours, own := 0, 0
	for frame, n := range s.frames[name] {
		if ourFrame(frame) {
			ours += n
		} else {
			own += n
		}
	}
	if n := ours + own; n > 0 {
		out[oursInPython], out[pythonsOwn] = python*float64(ours)/float64(n), python*float64(own)/float64(n)
	} else {
		out[restOfUser] = python
	}
	return out
}

func oneByOne(scene string) bool { return strings.Contains(scene, "one by one") }

func isPython(role string) bool { return role == "driver" || role == "worker" || role == "template" }

// profilePage is the document.
func (l *lab) profilePage(p *profiler) string {
	var b strings.Builder
	r := l.report
	fmt.Fprintf(&b, "# A task and an actor call, followed\n\nWritten by `go run ./ci/bench profile`, and by `make bars-runtime`.\n\n")
	fmt.Fprintf(&b, "* When: %s\n* Commit: %s\n* Machine: %s\n* Load average in the minute before: %.2f\n* With: %s\n\n", r.When.Format(time.RFC3339), r.Commit, r.Machine, r.Load, strings.Join(p.tools, ", "))
	b.WriteString("No-op calls without arguments; one driver, one cluster of this machine. Microseconds of CPU for each call: the clocks of the processes give the sums,\nperf divides them between the kernel, Go, C and Python, and a sampler of the innermost frame of the\nthread that has the interpreter's lock divides Python between the package, with the builtins that it calls, and the rest.\n")
	if r.Load > idleLoad {
		b.WriteString("\nThe machine had other work: a switch between processes finds cold caches more often, so that CPU times are larger than alone, and p50 and p90 say nothing.\n")
	}
	names := slices.Sorted(maps.Keys(p.scenes))
	for _, name := range names {
		p.scenes[name].write(&b)
	}
	text := b.String()
	return anonymousLines(text, l)
}

// anonymousLines keeps the lines, unlike anonymous.
func anonymousLines(text string, l *lab) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = anonymous(lines[i], l.folders()...)
	}
	return strings.Join(lines, "\n")
}

func (s *scene) write(b *strings.Builder) {
	fl, single := floorOf(s.name), oneByOne(s.name)
	fmt.Fprintf(b, "\n## %s\n\n%.0f calls. ", strings.ToUpper(s.name[:1])+s.name[1:], s.count)
	if single {
		fmt.Fprintf(b, "From the call to its result: p50 %.1f us, p90 %.1f us; floor %.1f us, %.1f times that.\n\n", s.p50*1e6, s.p90*1e6, fl.wall, s.p50*1e6/fl.wall)
	} else {
		fmt.Fprintf(b, "Time of all by their number: %.2f us, that is %.0f a second; floor %.2f us, %.0f times that.\n\n", s.p50*1e6, 1/s.p50, fl.wall, s.p50*1e6/fl.wall)
	}
	roles := []string{"driver", "agent", "worker", "keeper", "head", "template"}
	head, total := "| |", map[string]float64{}
	columns, by := []string{}, map[string]map[string]float64{}
	for _, name := range roles {
		if s.cpu[name] > 0 {
			columns, by[name] = append(columns, name), s.shares(name)
			head += " " + name + " |"
		}
	}
	b.WriteString(head + " all | share |\n|" + strings.Repeat("---|", len(columns)+3) + "\n")
	sum := 0.0
	for _, name := range columns {
		sum += s.cpu[name] / s.count * 1e6
	}
	for _, owner := range owners {
		line := "| " + owner + " |"
		for _, name := range columns {
			line += fmt.Sprintf(" %.2f |", by[name][owner])
			total[owner] += by[name][owner]
		}
		if total[owner] > 0.005 {
			fmt.Fprintf(b, "%s %.2f | %.0f%% |\n", line, total[owner], math.Round(total[owner]/sum*100))
		}
	}
	line := "| all |"
	for _, name := range columns {
		line += fmt.Sprintf(" %.2f |", s.cpu[name]/s.count*1e6)
	}
	fmt.Fprintf(b, "%s %.2f | |\n\nFloor: %.2f us of CPU (%s). Distance: %.1f times.\n", line, sum, fl.cpu, fl.what, sum/fl.cpu)
	if sum > 2*fl.cpu {
		b.WriteString("\nMore than twice the floor is lost here, on:\n\n")
		for _, owner := range owners {
			if total[owner] > max(fl.cpu/2, sum/20) {
				fmt.Fprintf(b, "* %s, %.2f us: %s\n", owner, total[owner], why[wayOf(s.name)][owner])
			}
		}
	}
	for _, name := range columns {
		list("Python's innermost frames, "+name, s.frames[name], shorten, b)
		list("Where perf met "+name, s.symbols[name], func(x string) string { return x }, b)
	}
}

// list names the most frequent of some counts.
func list(title string, counts map[string]int, short func(string) string, b *strings.Builder) {
	all := 0
	merged := map[string]int{}
	for name, n := range counts {
		all += n
		merged[short(name)] += n
	}
	if all < 50 {
		return
	}
	fmt.Fprintf(b, "\n%s (%d samples): ", title, all)
	for i, name := range most(merged, 10) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(b, "`%s` %.0f%%", strings.ReplaceAll(name, "`", "'"), 100*float64(merged[name])/float64(all))
	}
	b.WriteString(".\n")
}

// shorten makes NAME (FILE:LINE) of a frame one of its function, without the folders before the package.
func shorten(frame string) string {
	name, place, _ := strings.Cut(frame, " (")
	if at := strings.LastIndexByte(place, ':'); at > 0 {
		place = place[:at]
	}
	place = strings.TrimSuffix(place, ")")
	parts := strings.Split(place, "/")
	return name + " in " + strings.Join(parts[max(0, len(parts)-2):], "/")
}

// most are the largest n of counts, largest first.
func most(counts map[string]int, n int) []string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	return names[:min(n, len(names))]
}
