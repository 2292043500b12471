package slurm

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// STEP-3: srun's input ends with the launcher, however it ends: nobody else holds it open.
func TestKeepersEndWithTheirLauncher(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers + `echo > "$SLURMTEST_DIR/over"`})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	launcher := exec.Command(exe)
	launcher.Env = f.Environ(append(slices.Clone(job), ownerVariable+"=1")...)
	out, err := launcher.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launcher.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != backend.KindHead+"\n" {
		t.Errorf("%q, %v", line, err)
	}
	launcher.Process.Kill()
	launcher.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(filepath.Join(envOf(f), "over")); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the keepers' input goes on without their launcher")
		}
	}
}
