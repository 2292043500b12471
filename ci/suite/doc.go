// Command suite runs the project's checks part by part: `suite check`, `suite test`, `suite soak`.
//
// A part is a command with a budget. Its output is read as `go test -json`, as pytest's closing line,
// or as one pass or failure. The last line printed is "N passed, N failed, N skipped" over all parts.
// A skipped test is listed with its reason; under `test` a skip whose test is not in allowed.txt fails,
// since everything that can be skipped elsewhere has to run there.
//
//	SUITE-1: the exit status is zero only if no test failed and at least one ran.
//	SUITE-2: no part outlives the watchdog: it dumps the stacks of what runs and ends it.
package main
