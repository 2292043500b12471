package journal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"syscall"

	"golang.org/x/sys/unix"
)

// TestDiskFull runs on a file system of 256 KiB of its own: in a child in a mount namespace, as nobody
// else can see it there.
func TestDiskFull(t *testing.T) {
	const inside = "MANIPLE_TEST_SMALL_DISK"
	if dir := os.Getenv(inside); dir != "" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
			t.Fatalf("mount: %v", err)
		}
		fullDisk(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("no user namespaces here, so no small disk: %v", err)
	}
	if strings.Contains(string(out), "mount: operation not permitted") {
		t.Skipf("no mounts in user namespaces here, so no small disk")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, dir string) {
	path := filepath.Join(dir, "j")
	j, err := Open(path, Options{Reserve: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Replay(nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Low(); err != nil {
		t.Fatalf("low on an empty disk: %v", err)
	}
	ballast := filepath.Join(dir, "ballast")
	fill := func() {
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := f.Write(make([]byte, 4096)); err != nil {
				break
			}
		}
		_ = f.Close()
	}
	fill()
	// Somebody else has filled the disk: the reserve still takes a lot, and says that it shrinks.
	var want []rec
	commit := func() error {
		r := rec{166, fmt.Sprintf("%0200d", len(want))}
		if err := j.Add(r.typ, []byte(r.body)); err != nil {
			t.Fatal(err)
		}
		err := j.Commit()
		if err == nil {
			want = append(want, r)
		}
		return err
	}
	lowAt := -1
	for lowAt < 0 {
		if err := commit(); err != nil {
			t.Fatalf("record %d: %v before the reserve was said to be low", len(want), err)
		}
		if err := j.Low(); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Errorf("low: %v, want ErrFull", err)
			}
			var left, need, free int
			says := err.Error()[strings.LastIndex(err.Error(), ": ")+2:]
			if n, _ := fmt.Sscanf(says, "%d KiB are left of the %d that it needs; free %d KiB there, or set TMPDIR", &left, &need, &free); n != 3 || need != 64 || left >= need || left+free < need || left+free > need+1 {
				t.Errorf("it does not say what is needed: %v", err)
			}
			lowAt = len(want)
		}
		if len(want) > 10000 {
			t.Fatal("the disk does not fill")
		}
	}
	for range 100 { // what runs can still end
		if err := commit(); err != nil {
			t.Fatalf("record %d, %d after low: %v", len(want), len(want)-lowAt, err)
		}
	}
	// Room again: it notices.
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := j.Low(); err != nil {
		t.Errorf("low with an empty disk: %v", err)
	}
	fill()
	// To the last byte: JRN-3.
	for err = nil; err == nil; {
		err = commit()
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("full: %v, want ErrFull", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := commit(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	_ = j.Close()
	j, got, cut, err := tryOpen(path)
	if err != nil || cut.Bytes != 0 || !equal(got, want) {
		t.Fatalf("%d records were committed, %d are there; %v, %v", len(want), len(got), cut, err)
	}
	fill()
	// A compaction without room leaves the old file.
	err = j.Compact(func(add func(uint16, []byte) error) error { return add(1, make([]byte, 128<<10)) })
	if !errors.Is(err, ErrFull) {
		t.Errorf("compact on a full disk: %v, want ErrFull", err)
	}
	_ = j.Close()
	if _, got, _, err := tryOpen(path); err != nil || !equal(got, want) {
		t.Errorf("after a compaction that failed: %d records, want %d; %v", len(got), len(want), err)
	}
}
