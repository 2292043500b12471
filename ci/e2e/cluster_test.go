package e2e

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// verdict is a test that notes how it ended.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (v *verdict) Helper()          {}
func (v *verdict) Skip(args ...any) { v.skipped = fmt.Sprint(args...); runtime.Goexit() }
func (v *verdict) Fatalf(format string, args ...any) {
	v.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// E2E-3: as root a testbed that does not come up fails the test; for others the test is skipped with the
// reason.
func TestNoTestbedIsNoSkip(t *testing.T) {
	once.Do(func() {})
	upText, upErr = "no subnet is free", errors.New("exit status 1")
	defer func() { upText, upErr = "", nil }()
	v := &verdict{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Slurm(v)
	}()
	<-done
	if os.Geteuid() != 0 {
		if v.failed != "" || !strings.Contains(v.skipped, "needs root") {
			t.Errorf("%+v", v)
		}
		return
	}
	if v.skipped != "" || !strings.Contains(v.failed, "no subnet is free") {
		t.Errorf("%+v", v)
	}
}
