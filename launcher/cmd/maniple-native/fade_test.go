//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/native"
)

// resident gives the KiB of shared memory that each process has in its page table which this one has started.
func resident(t *testing.T) (out []int) {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
			continue
		}
		_, after, found := strings.Cut(string(status), "\nRssShmem:")
		kib := 0
		if _, err := fmt.Sscan(after, &kib); found && err == nil {
			out = append(out, kib)
		}
	}
	return out
}

// What was read and written leaves the page table when it is asked, but for what others may read just then; it is as it was.
func TestFade(t *testing.T) {
	here, there := newSide(t, "tcp"), newSide(t, "tcp")
	a, b := here.open(t), there.open(t)
	for i := range there.memory {
		there.memory[i] = byte(i >> 12)
	}
	const size = 32 << 20
	number, place, err := b.Expose(t.Context(), native.FabricRange{Arena: 1, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(t.Context(), native.FabricRange{Arena: 1, Size: size}, place); err != nil {
		t.Fatal(err)
	}
	many := func(what string, want int) {
		t.Helper()
		got, n := resident(t), 0
		for _, kib := range got {
			if kib >= size>>10 {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: of %d KiB in page tables %d processes have %d KiB", what, got, n, size>>10)
		}
	}
	fade := func() {
		t.Helper()
		if err := a.Fade(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.Fade(t.Context()); err != nil {
			t.Error(err)
		}
	}
	many("before", 2)
	fade()
	many("while one is exposed", 1)
	b.Conceal(t.Context(), number)
	fade()
	many("afterwards", 0)
	if !bytes.Equal(here.memory[:size], there.memory[:size]) {
		t.Error("it is not what it was")
	}
}
