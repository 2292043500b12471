package keeper_test

import (
	"os"
	"os/exec"
	"testing"
)

// ignoreInterrupt starts the keeper as a shell does a background job, and leaks it a descriptor.
func ignoreInterrupt(t *testing.T, leak *os.File) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		args := append([]string{"sh", "-c", `trap "" INT QUIT TSTP HUP; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		path, err := exec.LookPath("sh")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Args = path, args
		cmd.ExtraFiles = []*os.File{leak}
	}
}
