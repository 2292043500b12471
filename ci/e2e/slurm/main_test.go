//go:build e2e

// Package slurm tests maniple on a real Slurm: the same programs in every form, exit codes and states,
// failures, and what is left afterwards.
package slurm

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

func TestMain(m *testing.M) { os.Exit(e2e.Main(m)) }

// short is the limit of a job that does next to nothing, long of one that imports torch on every rank.
// Both are far above what they take: two cores carry all nodes, and others' tests.
const (
	short = 60 * time.Second
	long  = 4 * time.Minute
)

// programs copies the users' programs to where all nodes see them, and returns their folder.
func programs(t *testing.T, c *e2e.Cluster) string {
	t.Helper()
	dir := filepath.Join(c.Folder(t), "programs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range programTexts(t, c) {
		c.Write(t, filepath.Join(dir, name), text, 0o755)
	}
	return dir
}

func programTexts(t *testing.T, c *e2e.Cluster) map[string]string {
	t.Helper()
	texts := map[string]string{}
	entries, err := os.ReadDir(filepath.Join(c.Top, "ci/e2e/programs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() { // of a program in Go, which is built
			continue
		}
		data, err := os.ReadFile(filepath.Join(c.Top, "ci/e2e/programs", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		texts[e.Name()] = string(data)
	}
	return texts
}

// hashes are those of the files of a folder.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() { // __pycache__
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		sums[e.Name()] = hex.EncodeToString(sum[:])
	}
	return sums
}

// variables reads a file of NAME=VALUE lines.
func variables(text string) map[string]string {
	vars := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			vars[name] = value
		}
	}
	return vars
}
