package e2e

import (
	"os"
	"syscall"
)

// uid is a file's owner.
func uid(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
