package head

import "strconv"

// Signals that the core itself speaks of, by their numbers on Linux.
const (
	sigKILL = 9
	sigTERM = 15
)

var signalNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
	12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP",
	24: "XCPU", 25: "XFSZ", 31: "SYS",
}

// signalName is what kill -l calls it.
func signalName(n int32) string {
	if n > 0 && int(n) < len(signalNames) && signalNames[n] != "" {
		return signalNames[n]
	}
	return strconv.Itoa(int(n))
}
