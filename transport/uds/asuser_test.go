package uds_test

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// asUser runs f on a thread that is another user's. The thread is not used again.
func asUser(uid int, f func() error) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	// The raw call changes this thread only.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	return f()
}
