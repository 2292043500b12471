package bootdoc

import (
	"strings"
	"time"
)

// Clock gives a node's wall time in nanoseconds since the Unix epoch: read once and counted on from
// there, so that it does not jump when somebody sets the clock of a running node. For tests of nodes
// whose clocks disagree, $MANIPLE_DEBUG_CLOCK (as "n2=1h,n3=-10s") shifts the clocks of nodes by name.
func Clock(node string, getenv func(string) string) func() int64 {
	began := time.Now()
	at := began.UnixNano() + int64(shift(node, getenv("MANIPLE_DEBUG_CLOCK")))
	return func() int64 { return at + int64(time.Since(began)) }
}

func shift(node, spec string) time.Duration {
	for part := range strings.SplitSeq(spec, ",") {
		if name, by, _ := strings.Cut(part, "="); name == node {
			d, _ := time.ParseDuration(by)
			return d
		}
	}
	return 0
}
