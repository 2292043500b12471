package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/objstore"
)

// A process is told apart what no disk has room for.
func TestFullCodes(t *testing.T) {
	for want, err := range map[string]error{
		"DISK_FULL":  errors.Join(errors.New("a"), fmt.Errorf("b: %w", syscall.ENOSPC)),
		"DISK_FULL ": fmt.Errorf("b: %w", objstore.ErrSpillLimit),
		"STORE_FULL": nil, "STORE_FULL ": syscall.EIO,
	} {
		if got := code(&objstore.FullError{Disk: err}); got != strings.TrimSpace(want) {
			t.Errorf("%v is %s", err, got)
		}
	}
}

// Values go to the node's own directory if that is on a disk; nowhere if it is said, or if no directory is one.
func TestWhereToSpill(t *testing.T) {
	var warned []string
	warn := func(what string, args ...any) { warned = append(warned, what+" "+fmt.Sprint(args...)) }
	own := t.TempDir()
	if why := notDisk(own); why != "" {
		t.Skip(why)
	}
	if s := openSpill(&Config{Socket: filepath.Join(own, "agent.sock")}, warn); s.files == nil || s.files.Directories()[0] != own {
		t.Errorf("%+v", s)
	} else {
		s.end()
	}
	if s := openSpill(&Config{Spill: []string{"none"}}, warn); s.files != nil || !strings.Contains(s.off, "switched off") || s.config(objstore.Config{}).Spill != 0 {
		t.Errorf("%+v", s)
	}
	gone := filepath.Join(own, "gone")
	if s := openSpill(&Config{Spill: []string{gone}}, warn); s.files != nil || !strings.Contains(s.off, gone) {
		t.Errorf("%+v", s)
	}
	if s := openSpill(&Config{Spill: []string{gone, own}}, warn); s.files == nil || len(s.files.Directories()) != 1 {
		t.Errorf("%+v", s)
	} else {
		s.end()
	}
	if _, err := os.Stat("/dev/shm"); err == nil && notDisk("/dev/shm") == "" {
		t.Error("/dev/shm is taken for a disk")
	}
	if len(warned) < 2 || !strings.Contains(strings.Join(warned, "\n"), gone) {
		t.Errorf("%q", warned)
	}
}
