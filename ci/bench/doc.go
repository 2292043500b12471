// Command bench measures the product beside its peers and checks the bars of an issue.
//
//	bench all                 every experiment; results go to docs/perf
//	bench bars first-light    the bars of one issue: name, figure, limit, pass or fail
//	bench bars NAME --only P  those of its experiments that the pattern P names; nothing is kept
//	bench NAME...             single experiments
//
// Where a peer is named the two run in pairs, in an order drawn by lot for each pair, and the figure is the median
// of the pairs' ratios, given with its range. Nothing here is an assertion of a test: these are measurements of one
// machine on one day, which the result names.
//
// Of the runtime a Python program of programs/ runs on both systems, with the same Python and the same number of
// CPUs, each time on a new cluster (race.go); the CPU of its work is that of all processes (clock.go). A program
// that fails or is late makes its bars fail, with its last words. BARS_QUICK=1 tries the bench itself: one pair of
// small sizes, which is no measurement and is not kept. BARS_RESUME=1 goes on with a run of `bench bars NAME` of the same commit that was cut off: rows
// of experiments that were over are taken as they are.
//
// Of the bars of data-plane the 20 minutes of faults are left to `make soak`; `bench faults` measures them here.
//
// Limits: times are wall clock of whole commands unless an experiment says otherwise.
package main
