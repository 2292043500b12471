package yarn

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/maniple-hpc/maniple/yarn"
)

// exitOfMaster is how YARN tells of a master's end, which no master ever hears of.
var exitOfMaster = regexp.MustCompile(`AM Container for \S+ exited with\s+exitCode: (-?[0-9]+)`)

// TooSmall says, of YARN's words on the end of a master, that it needed more memory than its container has, and what to do; "": it did not.
func TooSmall(diagnostics string) string {
	m := exitOfMaster.FindStringSubmatch(diagnostics)
	if m == nil {
		return ""
	}
	code, _ := strconv.Atoi(m[1]) // the pattern says so
	what := "memory"
	switch yarn.ExitCode(code) {
	case yarn.ExitPhysicalMemory:
	case yarn.ExitVirtualMemory:
		what = "address space"
	default:
		return ""
	}
	return fmt.Sprintf("its master needed more %s than its container has (%d): submit with a larger --am-memory", what, code)
}

// MasterBefore says what is to be done about the end of the master before an application's present one; "": nothing, or nobody knows.
func MasterBefore(ctx context.Context, c *yarn.Client, r yarn.Report) string {
	before := r.Attempt
	if before.Number--; before.Number < 1 {
		return ""
	}
	a, err := c.Attempt(ctx, before)
	if err != nil { // it is not worth more questions
		return ""
	}
	return TooSmall(a.Diagnostics)
}
