package device

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLimitFindings(t *testing.T) {
	get := func(resource int, r *syscall.Rlimit) error {
		switch resource {
		case unix.RLIMIT_NOFILE:
			*r = syscall.Rlimit{Cur: 1024, Max: 4096}
		case unix.RLIMIT_NPROC:
			*r = syscall.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		case unix.RLIMIT_MEMLOCK:
			*r = syscall.Rlimit{Cur: 65536, Max: 65536}
		}
		return nil
	}
	want := []struct {
		code  string
		level Level
	}{{"ULIMIT_NOFILE", Warn}, {"ULIMIT_NPROC", OK}, {"ULIMIT_MEMLOCK", Info}}
	got := limitFindings(get)
	if len(got) != len(want) {
		t.Fatalf("%d findings: %v", len(got), got)
	}
	for i, w := range want {
		if f := got[i]; f.Code != w.code || f.Level != w.level || (f.Level != OK) != (f.Do != "") {
			t.Errorf("finding %d is %+v, want %v", i, f, w)
		}
	}
}

func TestRaiseLimits(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: min(256, before.Max), Max: before.Max}
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	RaiseLimits()
	var after syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &after); err != nil || after.Cur != before.Max {
		t.Errorf("nofile is %d after raising it to %d: %v", after.Cur, before.Max, err)
	}
}

func TestRaisedStaysReasonable(t *testing.T) {
	for _, l := range limits {
		want := uint64(unix.RLIM_INFINITY)
		if l.name == "nofile" {
			want = 1 << 20
		}
		if got := l.raised(unix.RLIM_INFINITY); got != want || l.raised(4096) != 4096 {
			t.Errorf("%s: unlimited becomes %d, 4096 becomes %d", l.name, got, l.raised(4096))
		}
	}
}

func TestList(t *testing.T) {
	for in, want := range map[string]string{"": "", "0": "0", "0-3,8": "0-3,8", "3,1,2": "1-3", " 0-1 ": "0-1"} {
		list, ok := parseList(in)
		if got := formatList(list); !ok || got != want {
			t.Errorf("parseList(%q) = %v, written %q, want %q", in, list, got, want)
		}
	}
	for _, in := range []string{"a", "1-", "-1", "3-1", "1,,2", "0-99999999"} {
		if list, ok := parseList(in); ok {
			t.Errorf("parseList(%q) = %v", in, list)
		}
	}
}
