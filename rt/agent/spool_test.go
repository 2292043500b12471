package agent

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
)

// reader is a pump on a pipe whose other end the test writes to.
func reader(t *testing.T, s *spool, dir string) (d *stdio, w *os.File, events chan Event) {
	t.Helper()
	r, w := pipe(t)
	e, ew := pipe(t)
	_ = ew.Close()
	events = make(chan Event, 100)
	d = newStdio(key(0), s, dir, false, false, []*os.File{r, e}, func(ev Event) bool { events <- ev; return true })
	t.Cleanup(func() {
		for i := range d.out {
			d.out[i].close()
		}
		d.wait.Wait()
	})
	return d, w, events
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { _ = w.Close() })
	return r, w
}

func take(t *testing.T, events chan Event) Event {
	t.Helper()
	select {
	case ev := <-events:
		return ev
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was read")
		return nil
	}
}

func permit(offset uint64, max int) ReadMore {
	return ReadMore{Key: key(0), Stream: Stdout, Offset: OffsetBase(1) + offset, Max: max, Window: 64 << 10}
}

func TestPumpReadsOnlyWithPermission(t *testing.T) {
	d, w, events := reader(t, nil, t.TempDir())
	defer d.spool.close(true)
	if _, err := w.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-events:
		t.Fatalf("read %+v without permission", ev)
	case <-time.After(20 * time.Millisecond):
	}
	post := func(ev Event) bool { events <- ev; return true }
	d.permit(permit(0, 3), post)
	if o := take(t, events).(Output); string(o.Data) != "hel" {
		t.Errorf("%q", o.Data)
	}
	d.permit(permit(3, 100), post)
	if o := take(t, events).(Output); string(o.Data) != "lo" {
		t.Errorf("%q", o.Data)
	}
	d.permit(permit(5, 100), post)
	_ = w.Close()
	if _, ok := take(t, events).(OutputEOF); !ok {
		t.Error("no end")
	}
}

// The next agent finds everything that was read and not acknowledged, and the tail before it; also after
// more than the ring holds.
func TestSpoolOutlivesItsAgent(t *testing.T) {
	dir := t.TempDir()
	d, w, events := reader(t, nil, dir)
	post := func(ev Event) bool { events <- ev; return true }
	var all []byte
	at := uint64(0)
	for i := range 300 {
		chunk := bytes.Repeat([]byte{byte('a' + i%26)}, 997)
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
		all = append(all, chunk...)
		for got := 0; got < len(chunk); {
			d.permit(permit(at, 1000), post)
			n := len(take(t, events).(Output).Data)
			got, at = got+n, at+uint64(n)
		}
		if i < 250 {
			d.spool.acked(0, OffsetBase(1)+at)
		}
	}
	d.spool.input(77)
	d.spool.remember(Remember{Agent: 9, Process: 4, World: 8})
	s, err := openSpool(dir, key(0)) // as after kill -9: the first one was never closed
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(true)
	r := s.restored(key(0), 0)
	acked := 250 * 997
	if r.Offset != OffsetBase(1)+uint64(acked) || !bytes.Equal(r.Data, all[acked:]) || !bytes.Equal(r.Tail, all[acked-tailBytes:acked]) {
		t.Errorf("restored %d bytes from %d, tail of %d", len(r.Data), r.Offset-OffsetBase(1), len(r.Tail))
	}
	if r.Input != 77 || !r.Known || r.Sink.Agent != 9 || r.Sink.Process != 4 || r.Sink.World != 8 {
		t.Errorf("%+v", r)
	}
	if r := s.restored(key(0), 1); len(r.Data) != 0 || r.Offset != OffsetBase(1) {
		t.Errorf("stderr: %+v", r)
	}
	d.spool.close(false)
}

// Killed between the read and its entry: the intent tells.
func TestSpoolKnowsWhetherTheReadWasDone(t *testing.T) {
	dir := t.TempDir()
	s, err := makeSpool(dir, key(0), 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	base := OffsetBase(1)
	s.keep(0, base, []byte("before"))
	place := s.place(0, base+6, 5)
	s.begin(0, place)
	crashed := func() Restored {
		n, err := openSpool(dir, key(0))
		if err != nil {
			t.Fatal(err)
		}
		defer n.close(false)
		return n.restored(key(0), 0)
	}
	copy(place, "after")
	if got := crashed(); string(got.Data) != "beforeafter" {
		t.Errorf("%q: a read that was done is lost", got.Data)
	}
	s.begin(0, s.place(0, base+11, 5))
	if got := crashed(); string(got.Data) != "beforeafter" {
		t.Errorf("%q: a read that was not done is there", got.Data)
	}
	s.close(true)
}

func TestSpoolThatIsNoneIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, data := range []string{"", "short", string(make([]byte, 100)), "MNSPOOL1" + string(bytes.Repeat([]byte{0xff}, 8))} {
		if err := os.WriteFile(spoolPath(dir, key(0)), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openSpool(dir, key(0)); err == nil {
			t.Errorf("%q is a spool", data)
		}
	}
}

// Without a file (a full disk) output flows all the same.
func TestWithoutASpool(t *testing.T) {
	d, w, events := reader(t, nil, "/proc/nowhere")
	if _, err := w.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	d.permit(permit(0, 100), func(ev Event) bool { events <- ev; return true })
	if o := take(t, events).(Output); string(o.Data) != "hello" {
		t.Errorf("%q", o.Data)
	}
}

// A file that somebody cuts short while it is in use costs what would outlive this agent, and neither the agent nor what the program prints.
func TestSpoolThatIsCut(t *testing.T) {
	dir := t.TempDir()
	d, w, events := reader(t, nil, dir)
	defer func() { d.spool.close(true) }()
	var lost []error
	d.lost = func(err error) { lost = append(lost, err) }
	post := func(ev Event) bool { events <- ev; return true }
	read := func(at int, text string) {
		t.Helper()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		d.permit(permit(uint64(at), 100), post)
		if o := take(t, events).(Output); string(o.Data) != text {
			t.Errorf("%q is read as %q", text, o.Data)
		}
	}
	read(0, "before")
	for _, size := range []int64{spoolPage, 0} { // the rings, then the words
		if err := os.Truncate(d.spool.path, size); err != nil {
			t.Fatal(err)
		}
		read(6, "after")
		d.spool.acked(0, OffsetBase(1)+6)
		d.spool.input(7)
		d.spool.remember(Remember{})
	}
	if len(lost) != 1 || !errors.Is(lost[0], mapped.ErrCut) || !strings.Contains(lost[0].Error(), d.spool.path) {
		t.Errorf("told %v", lost)
	}
}
