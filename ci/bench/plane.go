package main

import "time"

// The bars of the data plane.

var spilling = race{program: "spilling.py", args: []string{"1024", "4096", "64"}, quick: []string{"128", "512", "8"}, limit: 5 * time.Minute, bars: []bar{
	atLeast("spilling: share of a plain writer and reader", "share", "", figure("share"), 0.7).
		noted("bytes spilled and restored over the time in which any were, over those of pwrite and pread of 1 MiB in the same directory before and after; void if these differ by over 25%"),
	told("sort of 4 GiB with a store of 1 GiB", "spilling", "s", figure("seconds"), true),
	told("spilling: written", "spilling", "GB", figure("spilled"), false),
	told("spilling: read", "spilling", "GB", figure("restored"), false),
	told("spilling: rate", "spilling", "MB/s", figure("rate"), false),
	told("a plain writer and reader", "share", "MB/s", figure("plain"), false),
}}

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
