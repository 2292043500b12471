package hdfs

import (
	"os/signal"
	"runtime/debug"
	"syscall"
)

// ignoreSignals lets a program that was told to end write its last checkpoint: what its session or process group is sent is not meant for what serves it.
func ignoreSignals() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
}

// thrift keeps the process small: there may be one beside each program.
func thrift() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)
}
