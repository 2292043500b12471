package main

import "time"

// pytest runs the tests of the Python package in the cached environment.
var pytest = []string{"bash", "-c", `exec "$(ci/python/env.sh dev)" -m pytest -q -rs -p no:cacheprovider libs/python`}

// olderHadoop are the tests that an older Hadoop has to pass, too: submission and its end, output, files, a master that dies, HDFS and its failures.
const olderHadoop = "^Test(Submit|SubmitAndCancel|ContainerIsLost|MasterIsKilled|DriverOutlivesItsMaster|ProgramsUseHDFS|SpillToHDFS|NameNodeFailsOver|DataNodeIsLost)$"

// plan is the list of parts of a suite, and the time after which the watchdog ends it.
func plan(name string) ([]part, time.Duration, bool) {
	check := []part{
		{name: "generated code", argv: []string{"go", "run", "./ci/gen", "-check"}, budget: 10 * time.Second},
		{name: "vet", argv: []string{"go", "vet", "./..."}, budget: time.Minute},
		{name: "vet e2e", argv: []string{"go", "vet", "-tags", "e2e,gpu,soak", "./ci/..."}, budget: time.Minute},
		{name: "staticcheck", argv: []string{"bash", "ci/lint/staticcheck.sh"}, budget: 2 * time.Minute},
		{name: "go", argv: []string{"go", "test", "-json", "-timeout", "10m", "./..."}, count: countGo, budget: 3 * time.Minute},
	}
	python := part{name: "python", argv: pytest, count: countPytest, budget: 3 * time.Minute}
	switch name {
	case "check":
		return append(check, python), 15 * time.Minute, true
	case "test":
		for i := range check {
			if check[i].name == "go" {
				// With the environment's Python first, which has numpy for the demo.
				check[i].argv = []string{"bash", "-c", `PATH=$(dirname "$(ci/python/env.sh dev)"):$PATH exec go test -json -race -timeout 20m ./...`}
				check[i].env = []string{"GORACE=atexit_sleep_ms=0"} // else each process that a test starts from its own binary ends a second late
				check[i].budget = 10 * time.Minute
			}
			if check[i].name == "generated code" {
				check[i].argv = append(check[i].argv, "-flatc")
				check[i].budget = 5 * time.Minute
			}
		}
		check = append([]part{{name: "prepare", argv: []string{"bash", "ci/suite/prepare.sh"}, budget: time.Minute}}, check...)
		return append(check,
			part{name: "fuzz", argv: []string{"bash", "ci/fuzz.sh", "2"}, budget: 4 * time.Minute},
			part{name: "demo", argv: []string{"bash", "ci/demo.sh"}, env: []string{"MANIPLE_DEMO_OUT="}, budget: 5 * time.Minute},
			python, // after the demo, whose environment has torch
			part{name: "end to end", argv: []string{"go", "test", "-json", "-tags", "e2e", "-count", "1", "-timeout", "40m", "./ci/e2e/..."}, count: countGo, budget: 15 * time.Minute},
		), 75 * time.Minute, true
	case "soak":
		return []part{
			{name: "soak", argv: []string{"go", "test", "-json", "-tags", "e2e,soak", "-count", "1", "-timeout", "3h", "./ci/e2e/...", "./rt/sim/..."}, count: countGo},
			{name: "random histories", argv: []string{"go", "test", "-json", "-count", "1", "-timeout", "1h", "-run", "RandomHistories", "./rt/agent/work", "-seeds", "50000"}, count: countGo},
			{name: "random circles", argv: []string{"go", "test", "-json", "-count", "1", "-timeout", "1h", "-run", "RandomCircles", "./rt/agent/work", "-seeds", "50000"}, count: countGo},
			{name: "random clusters", argv: []string{"go", "test", "-json", "-count", "1", "-timeout", "1h", "-run", "RandomWork", "./rt/sim", "-seeds", "50000"}, count: countGo},
			{name: "Hadoop 3.3.6", argv: []string{"go", "test", "-json", "-tags", "e2e,soak", "-count", "1", "-timeout", "40m", "./ci/e2e/yarn", "-run", olderHadoop}, count: countGo, env: []string{"HADOOP_VERSION=3.3.6"}},
			// The rest of soak knows this machine's Slurm and Python alone.
			{name: "other versions", argv: []string{"bash", "ci/e2e/testbed/modern.sh"}, count: countGo},
			{name: "another Python", argv: []string{"bash", "ci/e2e/testbed/wheel.sh"}, count: countPytest},
		}, 5 * time.Hour, true
	}
	return nil, 0, false
}
