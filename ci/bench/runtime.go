package main

import (
	"fmt"
	"os"
	"time"
)

// The bars of the runtime: programs/*.py, each on both systems.

var tasks = race{program: "tasks.py", args: []string{"10000"}, quick: []string{"500"}, limit: time.Minute, bars: []bar{
	faster("10,000 no-op tasks", "tasks", "1/s", 20),
	atLeast("10,000 no-op tasks a second", "tasks", "1/s", perSecond, 40_000),
	atMost("10,000 no-op tasks: CPU of each", "tasks", "us", cpuEach, 30),
}}

var actorCalls = race{program: "calls.py", args: []string{"10000"}, quick: []string{"400"}, limit: time.Minute, bars: []bar{
	faster("actor calls 1:1", "1:1", "1/s", 10),
	atLeast("actor calls 1:1 a second", "1:1", "1/s", perSecond, 55_000),
	faster("actor calls 1:4", "1:4", "1/s", 10),
	atLeast("actor calls 1:4 a second", "1:4", "1/s", perSecond, 55_000),
	faster("actor calls 4:4", "4:4", "1/s", 10),
	atLeast("actor calls 4:4 a second", "4:4", "1/s", perSecond, 55_000),
	told("actor calls 1:1: CPU of each", "1:1", "us", cpuEach, false),
}}

var roundTrips = race{program: "round_trips.py", args: []string{"1000"}, quick: []string{"50"}, limit: time.Minute, bars: []bar{
	share("task round trip: p50", "task", "us", scaled("p50", 1e6), 0.1),
	share("task round trip: p90", "task", "us", scaled("p90", 1e6), 0.1),
	told("task round trip: CPU", "task", "us", cpuEach, false),
	share("actor round trip: p50", "actor", "us", scaled("p50", 1e6), 0.2),
	share("actor round trip: p90", "actor", "us", scaled("p90", 1e6), 0.2),
	atMost("actor round trip: CPU", "actor", "us", cpuEach, 60).noted("one Python thread that waits without a timeout, so that calls go past the agent (docs/limits.md); else about 105"),
}}

const sameRun = "of numpy.copyto into memory that was written before, in the same process"

var puts = race{program: "puts.py", args: []string{"10"}, quick: []string{"1"}, limit: 2 * time.Minute, bars: []bar{
	faster("put 1 KiB", "1 KiB", "1/s", 50),
	faster("put 1 MiB", "1 MiB", "1/s", 8),
	atLeast("put 100 MiB: share of a warm copy", "100 MiB", "", quotient("put", "copy", 1), 0.6).noted(sameRun),
	atLeast("put 1 GiB: share of a warm copy", "1 GiB", "", quotient("put", "copy", 1), 0.6).noted(sameRun),
	told("put 100 MiB, beside Ray", "100 MiB", "GB/s", figure("put"), true),
	told("put 1 GiB, beside Ray", "1 GiB", "GB/s", figure("put"), true),
}}

var gets = race{program: "gets.py", args: []string{"1000"}, quick: []string{"50"}, limit: time.Minute, bars: []bar{
	told("get in the same process: p50", "own", "us", scaled("p50", 1e6), true),
	told("get from another process: p50", "another's", "us", scaled("p50", 1e6), true),
}}

var messages = race{program: "messages.py", args: []string{"1000"}, quick: []string{"50"}, limit: time.Minute, alone: true, bars: []bar{
	exactly("get in the same process: messages", "own", 0).noted("frames both ways on the driver's connection, for each get"),
	exactly("get from another process: messages", "another's", 2).noted("one there, one back"),
}}

// exactly is the bar that no run has more frames for each get.
func exactly(name, part string, most float64) bar {
	return everyAtMost(name, part, sum("out", "back"), most)
}

var groups = race{program: "groups.py", args: []string{"10"}, quick: []string{"2"}, limit: time.Minute, bars: []bar{
	faster("groups of 1 bundle, one by one", "one by one", "1/s", 8),
	faster("groups of 1 bundle, 50 in flight", "50 in flight", "1/s", 15),
}}

var groupsOnNodes = race{program: "groups_nodes.py", args: []string{"10"}, quick: []string{"1"}, limit: 2 * time.Minute, bars: []bar{
	share("group of 64 bundles over 8 nodes", "64 bundles", "ms", scaled("there", 1e3), 0.1).noted("from the request until all are reserved; SPREAD"),
	told("group of 64 bundles over 8 nodes, and its removal", "64 bundles", "ms", scaled("whole", 1e3), true),
}}

var actors = race{program: "actors.py", args: []string{"100"}, quick: []string{"5"}, limit: 90 * time.Second, bars: []bar{
	atLeast("100 actors created and called", "actors", "1/s", perSecond, 300),
}}

var actorsWithTorch = race{program: "actors.py", args: []string{"100", "torch"}, quick: []string{"2", "torch"}, limit: 4 * time.Minute, alone: true, python: "demo", bars: []bar{
	atLeast("100 actors that import torch, created and called", "actors", "1/s", perSecond, 80).noted("once there are workers that have imported it; without Ray, whose workers take seconds each"),
	told("an actor that imported torch: memory of its own", "actors", "MiB", figure("own"), false),
}}

var firstResult = race{program: "first_result.py", limit: time.Minute, bars: []bar{
	share("init() with nothing running, to the first result", "first result", "s", figure("seconds"), 0.1).noted("without the import; Ray without its dashboard"),
	told("the import", "first result", "s", figure("imports"), true),
}}

var workerKilled = race{program: "killed.py", args: []string{"3"}, quick: []string{"1"}, limit: 2 * time.Minute, bars: []bar{
	atMost("worker killed, its task's result arrives", "killed", "ms", scaled("seconds", 1e3), 100),
}}

var idleRuntime = race{program: "idle.py", limit: time.Minute, looks: resident, bars: []bar{
	atMost("idle: keeper, head, agent, template", "idle", "MiB", figure("cluster"), 80).noted("proportional set size, 3 s after a task, without driver and workers; Ray: all but the driver"),
}}

// resident is what the processes of a cluster take, in MiB.
func resident(string) (map[string]float64, error) {
	got := map[string]float64{}
	for _, s := range family() {
		pss := proportional([]int{s.pid})
		switch name := role(s); {
		case name != "":
			got[name] += pss
		case s.parent != os.Getpid(): // Ray's are below the driver
			got["others"] += pss
		}
	}
	if _, found := got["keeper"]; !found {
		got["cluster"] = got["others"]
		return got, nil
	}
	for _, name := range []string{"keeper", "head", "agent", "template"} {
		if got[name] == 0 {
			return nil, fmt.Errorf("no %s was found", name)
		}
		got["cluster"] += got[name]
	}
	return got, nil
}

var queued = race{program: "queued.py", args: []string{"1000000"}, quick: []string{"20000"}, limit: 9 * time.Minute, alone: true, looks: ofAgent, bars: []bar{
	atMost("1,000,000 queued tasks: peak of the agent", "queued", "MiB", figure("finished: peak"), 400),
	whole("1,000,000 queued tasks: queued at once", "count"),
	whole("1,000,000 queued tasks: finished", "finished"),
	told("1,000,000 queued tasks: until all are got", "queued", "s", figure("seconds"), false),
}}

// whole is the bar that all of the tasks did something.
func whole(name, what string) bar {
	least := 1_000_000.0
	if quick {
		least = 20_000
	}
	b := atLeast(name, "queued", "", figure(what), least)
	b.hold = func(r Result) Result { return r.least(least) }
	return b
}

// ofAgent is the memory of the one agent, in MiB.
func ofAgent(what string) (map[string]float64, error) {
	for _, s := range family() {
		if role(s) == "agent" {
			return map[string]float64{what + ": peak": memoryOf(s.pid, "VmHWM"), what + ": now": memoryOf(s.pid, "VmRSS")}, nil
		}
	}
	return nil, fmt.Errorf("there is no agent")
}

var many = race{program: "many.py", args: []string{"1000"}, quick: []string{"50"}, limit: 2 * time.Minute, bars: []bar{
	share("10,000 object arguments of a task", "arguments", "ms", scaled("seconds", 1e3), 0.1),
	share("3,000 results of a task", "results", "ms", scaled("seconds", 1e3), 0.1),
	share("get of 10,000 objects", "get", "ms", scaled("seconds", 1e3), 0.1),
	share("wait over 1,000 objects", "wait", "ms", scaled("seconds", 1e3), 0.1),
	share("get of one object with 10,000 references", "references", "ms", scaled("seconds", 1e3), 0.2),
}}

// operations: a million of all sorts, after which nothing may have grown.
func operations(l *lab) error {
	number := "" // what the test takes itself
	if quick {
		number = "5000"
	}
	return l.tests("1,000,000 mixed operations leak nothing", []string{"TestMillionOperations"}, []string{"MANIPLE_SOAK_OPERATIONS=" + number}, "./ci/e2e/local")
}

// scaled is a figure in another unit.
func scaled(name string, unit float64) func(part) (float64, error) {
	return func(p part) (float64, error) {
		value, err := p.figure(name)
		return value * unit, err
	}
}

func sum(names ...string) func(part) (float64, error) {
	return func(p part) (total float64, err error) {
		for _, name := range names {
			value, err := p.figure(name)
			if err != nil {
				return 0, err
			}
			total += value
		}
		return total, nil
	}
}
