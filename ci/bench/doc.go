// Command bench measures the product beside its peers and checks the bars of an issue.
//
//	bench all                 every experiment; results go to docs/perf
//	bench bars first-light    the bars of one issue: name, figure, limit, pass or fail
//	bench NAME...             single experiments
//
// Where a peer is named the two run in pairs, in an order drawn by lot for each pair, and the figure is
// the median of the pairs' ratios, given with its range. Nothing here is an assertion of a test: these
// are measurements of one machine on one day, which the result names.
//
// Limits: times are wall clock of whole commands unless an experiment says otherwise.
package main
