package device

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// limit is one that batch systems hand on from the login shell, where it is too small.
type limit struct {
	name     string
	resource int
	need     uint64
	level    Level
	short    string // what happens below need
	do       string
}

var limits = []limit{
	{"nofile", unix.RLIMIT_NOFILE, 16384, Warn, "many ranks or connections on this node run out of file descriptors", "raise the hard limit of nofile (limits.conf, or LimitNOFILE of slurmd)"},
	{"nproc", unix.RLIMIT_NPROC, 4096, Warn, "programs with many threads or data loaders fail to fork", "raise the hard limit of nproc (limits.conf, or LimitNPROC of slurmd)"},
	{"memlock", unix.RLIMIT_MEMLOCK, 64 << 20, Info, "RDMA can't register memory and stays off", "set memlock to unlimited (limits.conf, or LimitMEMLOCK=infinity of slurmd)"},
}

// enoughFiles bounds what nofile is raised to. Where the hard limit is a billion, as in some containers,
// programs that close every descriptor that could be open would take minutes.
const enoughFiles = 1 << 20

// raised is the soft limit for a hard one.
func (l limit) raised(hard uint64) uint64 {
	if l.resource == unix.RLIMIT_NOFILE {
		return min(hard, enoughFiles)
	}
	return hard
}

// RaiseLimits raises this process's soft limits to the hard ones, for itself and for what it starts, and says
// which of them fall short all the same. No other limit is touched: those are somebody's wish.
func RaiseLimits() []Finding {
	for _, l := range limits {
		var r syscall.Rlimit
		if syscall.Getrlimit(l.resource, &r) != nil {
			continue
		}
		// Always: what Go raised for itself when it started, it takes back from its children unless it is set.
		// A failure shows as a shortfall below.
		r.Cur = l.raised(r.Max)
		_ = syscall.Setrlimit(l.resource, &r)
	}
	var out []Finding
	for _, f := range limitFindings(syscall.Getrlimit) {
		if f.Level != OK {
			out = append(out, f)
		}
	}
	return out
}

// limitFindings says which limits fall short; soft ones below their hard one count as raised, since we raise them.
func limitFindings(get func(int, *syscall.Rlimit) error) (out []Finding) {
	for _, l := range limits {
		var r syscall.Rlimit
		if get(l.resource, &r) != nil {
			continue
		}
		code := "ULIMIT_" + strings.ToUpper(l.name)
		if r.Max >= l.need {
			out = append(out, Finding{Code: code, Level: OK, Text: fmt.Sprintf("ulimit %s: %s", l.name, limitText(r.Max))})
			continue
		}
		out = append(out, Finding{Code: code, Level: l.level, Text: fmt.Sprintf("ulimit %s is %s, %s wanted: %s", l.name, limitText(r.Max), limitText(l.need), l.short), Do: l.do})
	}
	return out
}

func limitText(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprint(n)
}
