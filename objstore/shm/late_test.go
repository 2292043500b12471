package shm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// Who makes an arena ahead may be overtaken, and go on when a client has written there: that stays.
func TestLateWorkLeavesWhatIsThere(t *testing.T) {
	const size = 16 << 20
	var m Memory
	defer m.Close()
	if err := m.Make(1, size); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(1, 0, bytes.Repeat([]byte{1}, size)); err != nil {
		t.Fatal(err)
	}
	a := m.arenas[1]
	if err := allocate(int(a.rw.Fd()), a.bytes, 0, size, hasty(mostStep)); err != nil {
		t.Fatal(err)
	}
	clearPages(a.bytes, hasty(mostStep))
	for i, b := range a.bytes {
		if b != 1 {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
}

// What was given back while such a one was at work goes back for good when it ends.
func TestLateWorkKeepsNothingThatWasPunched(t *testing.T) {
	const size, hole = 8 << 20, 4 << 20
	var m Memory
	defer m.Close()
	if err := m.Make(1, size); err != nil {
		t.Fatal(err)
	}
	a := m.arenas[1]
	fd := int(a.rw.Fd())
	a.late.begin()
	if err := m.Punch(1, 0, hole); err != nil {
		t.Fatal(err)
	}
	if err := allocate(fd, a.bytes, 0, size, hasty(mostStep)); err != nil {
		t.Fatal(err)
	}
	a.late.end(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Blocks*512 != size-hole {
		t.Errorf("%d bytes are allocated (%v)", st.Blocks*512, err)
	}
}
