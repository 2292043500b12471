package main

import "time"

// The bars of the data plane.

var spilling = race{program: "spilling.py", args: []string{"1024", "4096", "64"}, quick: []string{"128", "512", "8"}, limit: 5 * time.Minute, bars: []bar{
	atLeast("spilling: share of a plain writer and reader", "spilling", "", figure("share"), 0.7).
		noted("bytes spilled and restored over the time in which any were, over those of pwrite and pread of 1 MiB in the same directory before and after; void if these differ by over 25%"),
	told("sort of 4 GiB with a store of 1 GiB", "spilling", "s", figure("seconds"), true),
	told("spilling: written", "spilling", "GB", figure("spilled"), false),
	told("spilling: read", "spilling", "GB", figure("restored"), false),
	told("spilling: rate", "spilling", "MB/s", figure("rate"), false),
}}
