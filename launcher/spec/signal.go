package spec

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ParseSignal reads [R:][B:]SIG[@SECONDS]; without a time it is 60 s before the end, as in sbatch.
func ParseSignal(v string) (sig syscall.Signal, before time.Duration, ok bool) {
	before = 60 * time.Second
	name, at, timed := strings.Cut(v, "@")
	if timed {
		n, err := strconv.ParseUint(at, 10, 16)
		if err != nil {
			return 0, 0, false
		}
		before = time.Duration(n) * time.Second
	}
	for _, prefix := range []string{"R:", "B:", "RB:", "BR:"} {
		name = strings.TrimPrefix(name, prefix)
	}
	if n, err := strconv.Atoi(name); err == nil {
		return syscall.Signal(n), before, n >= 1 && n <= 64
	}
	name = strings.ToUpper(name)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	sig = unix.SignalNum(name)
	return sig, before, sig != 0
}
