package shm_test

import (
	"os"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/transporttest"
)

func TestMain(m *testing.M) { transporttest.Main(m) }

// left gives the descriptors and mappings of arenas that this process has.
func left(t *testing.T) (descriptors, mappings int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "/memfd:maniple") {
			descriptors++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return descriptors, strings.Count(string(maps), "/memfd:maniple")
}

// leaks fails the test if it ends with other arenas than it began with.
func leaks(t *testing.T) {
	t.Helper()
	d, m := left(t)
	t.Cleanup(func() {
		if d2, m2 := left(t); d2 != d || m2 != m {
			t.Errorf("%d descriptors and %d mappings at the end, %d and %d at the beginning", d2, m2, d, m)
		}
	})
}
