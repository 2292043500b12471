package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The bars of the data plane.

var sorting = race{program: "spilling.py", args: []string{"1024", "4096", "64"}, quick: []string{"128", "512", "8"}, limit: 5 * time.Minute, bars: []bar{
	atLeast("spilling: share of fio", "share", "", figure("share"), 0.7).
		noted("bytes spilled and restored, but for those that the kernel's cache gave or took, over the time in which the disk was busy (/proc/diskstats); of fio's with blocks of 1 MiB in the same directory before and after, as many " +
			"written and read; void if these differ by over 25%"),
	told("sort of 4 GiB with a store of 1 GiB", "spilling", "s", figure("seconds"), true),
	told("spilling: written", "spilling", "GB", figure("spilled"), false),
	told("spilling: read", "spilling", "GB", figure("restored"), false),
	told("spilling: of that the disk wrote", "spilling", "GB", figure("wrote"), false),
	told("spilling: of that the disk read", "spilling", "GB", figure("read"), false),
	told("spilling: the disk was busy", "spilling", "s", figure("busy"), false),
	told("spilling: rate", "spilling", "MB/s", figure("rate"), false),
	told("fio", "share", "MB/s", figure("plain"), false),
}}

// spilling sorts what memory has no room for, with fio beside it.
func spilling(l *lab) error {
	fio, err := l.debian("fio")
	if err != nil {
		return err
	}
	return sorting.with(fio).experiment(l)
}

// with is the race with more arguments.
func (r race) with(more ...string) race {
	r.args, r.quick = slices.Concat(r.args, more), slices.Concat(r.quick, more)
	return r
}

// debian is a program that runs one of Debian's.
func (l *lab) debian(program string) (string, error) {
	cmd := exec.Command("bash", filepath.Join(l.top, "ci/bench/debian.sh"), program)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s can't be had: %w", program, err)
	}
	return strings.TrimSpace(string(out)), nil
}

const fastest = "of the fastest of six ways to copy as much in the same process: one thread or two, numpy's, or the extension's through the caches and past them; each after 0.3 s of rest, as each put"

var store = race{program: "store.py", args: []string{"1024", "5"}, quick: []string{"100", "1"}, limit: 2 * time.Minute, bars: []bar{
	atLeast("put 1 GiB into a store never used: share of a copy", "cold", "", quotient("put", "copy", 1), 0.8).noted("of a copy by two threads into memory that is new, shared or not; before each as much was used, so that the machine's own host had given the memory"),
	atLeast("put 1 GiB, 2 s after the first: share of a copy", "spare", "", quotient("put", "copy", 1), 0.8).noted(fastest),
	atLeast("put 100 MiB: share of the fastest copy", "small", "", quotient("put", "copy", 1), 0.8).noted(fastest),
	atLeast("put 1 GiB: share of the fastest copy", "large", "", quotient("put", "copy", 1), 0.8).noted(fastest),
	told("put 1 GiB into a store never used, beside Ray", "cold", "GB/s", figure("put"), true),
	told("put 100 MiB, warm, beside Ray", "small", "GB/s", figure("put"), true),
	told("put 1 GiB, warm, beside Ray", "large", "GB/s", figure("put"), true),
	faster("put 1 MiB", "1 MiB", "1/s", 15),
}}

var mapped = race{program: "mapped.py", args: []string{"1024", "16"}, quick: []string{"64", "2"}, limit: 2 * time.Minute, bars: []bar{
	told("16 processes look at 1 GiB: resident, added up", "mapped", "GiB", figure("looking"), true),
	told("16 processes have let go of 1 GiB: resident, added up", "mapped", "GiB", figure("after"), true),
}}

// faults: agents killed, connections torn and garbled, bits of spilled values flipped, disks full, for 20 minutes; each value right, or an error that says why not.
func faults(l *lab) error {
	seconds := "" // as the test has it
	if quick {
		seconds = "60"
	}
	return l.tests("20 minutes of faults: each value right, or a typed error", []string{"TestFaultsOfTheDataPlane"}, []string{"MANIPLE_SOAK_SECONDS=" + seconds}, "./ci/e2e/local")
}
