package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/objstore/spill"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
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
	if s := openSpill(&Config{Socket: filepath.Join(own, "agent.sock")}, 1, nil, warn); s.files == nil || s.files.Directories()[0] != own {
		t.Errorf("%+v", s)
	} else {
		s.end(false)
	}
	one, two := t.TempDir(), t.TempDir()
	if s := openSpill(&Config{Socket: filepath.Join(own, "agent.sock"), Disks: []string{one, "/proc", two}}, 1, nil, warn); s.files == nil || !slices.Equal(s.files.Directories(), []string{one, two}) {
		t.Errorf("%+v", s)
	} else {
		s.end(false)
	}
	if s := openSpill(&Config{Spill: []string{"none"}}, 1, nil, warn); s.files != nil || !strings.Contains(s.off, "switched off") || s.config(objstore.Config{}).Spill != 0 {
		t.Errorf("%+v", s)
	}
	gone := filepath.Join(own, "gone")
	if s := openSpill(&Config{Spill: []string{gone}}, 1, nil, warn); s.files != nil || !strings.Contains(s.off, gone) {
		t.Errorf("%+v", s)
	}
	if s := openSpill(&Config{Spill: []string{gone, own}}, 1, nil, warn); s.files == nil || len(s.files.Directories()) != 1 {
		t.Errorf("%+v", s)
	} else {
		s.end(false)
	}
	if _, err := os.Stat("/dev/shm"); err == nil && notDisk("/dev/shm") == "" {
		t.Error("/dev/shm is taken for a disk")
	}
	if len(warned) < 2 || !strings.Contains(strings.Join(warned, "\n"), gone) {
		t.Errorf("%q", warned)
	}
}

// When another agent wants a value that lies on disk damaged, both it and the core here are told.
func TestDamagedValueIsWantedElsewhere(t *testing.T) {
	dir := t.TempDir()
	now := int64(time.Second)
	d := alone(&now)
	d.l.core.cfg.Spill = []string{dir}
	d.store = newDeskStore(d, 16<<20)
	const size = 4 << 20
	d.gets(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	d.errands = append(d.errands, &errand{number: 3, peer: 2, process: 9})
	var first id.Object
	for i := range uint64(5) {
		o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: i + 1}}
		if i == 0 {
			first = o
		}
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: size})
		d.until(t, func() bool {
			d.store.spill.done.Wait()
			now += int64(time.Second) / 100
			d.settleStore()
			return len(d.events) > 0
		})
		d.events = nil
	}
	if info, _ := d.store.store.Lookup(first); info.Location.Kind != objstore.InFile {
		t.Fatalf("the first lies at %+v", info.Location)
	}
	var sent []bulk.Piece // that who asked has not taken yet
	const wanted = givenMost/size + 9
	for range wanted {
		d.piece(t.Context(), 1, bulk.Range{Object: first, Size: size}, func(p bulk.Piece) { sent = append(sent, p) })
	}
	for n := 0; n < wanted; {
		for before := -1; before < len(sent); {
			before = len(sent)
			d.store.spill.done.Wait()
			d.settled(t)
		}
		if len(sent) == 0 || len(sent) > givenMost/size {
			t.Fatalf("%d pieces of %d bytes are in memory", len(sent), size)
		}
		for n += len(sent); len(sent) > 0; sent = sent[1:] {
			sent[0].Done()
		}
		d.settled(t)
	}
	for _, fd := range ownSegments(dir) {
		f, err := os.OpenFile(fd, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{1}, 12345); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	var told []bulk.Piece
	d.piece(t.Context(), 1, bulk.Range{Object: first, Size: size}, func(p bulk.Piece) { told = append(told, p) })
	d.store.spill.done.Wait()
	d.settled(t)
	if len(told) != 1 || !strings.HasPrefix(told[0].Why, "node n1: ") {
		t.Errorf("the other agent is told %+v", told)
	}
	if len(d.events) != 1 {
		t.Fatalf("the core is told %+v", d.events)
	}
	if ev, ok := d.events[0].(work.Damaged); !ok || ev.Object != first || !strings.Contains(ev.Why, "not those that were written") {
		t.Errorf("the core is told %+v", d.events)
	}
}

// away is a file system that nodes share, and that is out of reach for a while.
type away struct {
	spill.FS
	times *atomic.Int32
}

func (a away) Open(name string) (spill.Reader, error) {
	if a.times.Add(-1) >= 0 {
		return nil, syscall.ECONNREFUSED
	}
	return a.FS.Open(name)
}

// A value that lies on a file system which can't be reached is not lost: it is read as soon as that is there again, here and by other nodes.
func TestAwayIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := new(atomic.Int32)
		s := &deskStore{d: &desk{}, spill: &deskSpill{over: make(chan struct{})}}
		s.d.l = &loop{log: slog.New(slog.DiscardHandler)}
		var err error
		if s.spill.files, err = spill.Open([]spill.Directory{{FS: away{spill.Dir(t.TempDir()), times}, Path: "own"}}); err != nil {
			t.Fatal(err)
		}
		defer s.spill.files.Close(false)
		want := []byte("a value that was put")
		if err := s.spill.files.Write(1, []spill.Part{{Bytes: want}}); err != nil {
			t.Fatal(err)
		}
		times.Store(100)
		var got []byte
		read := func() error {
			return s.read(1, 0, 0, int64(len(want)), func(at int64, b []byte) error { got = append(got[:at], b...); return nil })
		}
		if err := read(); err != nil || string(got) != string(want) || times.Load() >= 0 {
			t.Errorf("%q, %v, %d times more", got, err, times.Load())
		}
		times.Store(1 << 30)
		time.AfterFunc(time.Hour, func() { close(s.spill.over) })
		if err := read(); !errors.Is(err, spill.ErrAway) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("as the agent ends: %v", err)
		}
	})
}

// SPL-6: a value that is refused for long is read for no longer: it counts as lost, as one does that is missing.
func TestRefusedIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &deskStore{d: &desk{l: &loop{log: slog.New(slog.DiscardHandler)}}, spill: &deskSpill{over: make(chan struct{})}}
		fs := denied{spill.Dir(t.TempDir())}
		var err error
		if s.spill.files, err = spill.Open([]spill.Directory{{FS: fs, Path: "own"}}); err != nil {
			t.Fatal(err)
		}
		defer s.spill.files.Close(false)
		if err := s.spill.files.Write(1, []spill.Part{{Bytes: []byte("a value that was put")}}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = s.read(1, 0, 0, 20, func(int64, []byte) error { return nil })
		if took := time.Since(began); errors.Is(err, spill.ErrAway) || !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "own/1 of "+fs.String()) || took < 4*time.Minute || took > 6*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// denied is a file system that nodes share, and that takes files and gives none.
type denied struct{ spill.Dir }

// Open is spill.FS's.
func (denied) Open(string) (spill.Reader, error) { return nil, os.ErrPermission }

// heard is a driver's connection.
type heard struct {
	line
	frames []byte
}

// Append is line's.
func (h *heard) Append(parts ...[]byte) error {
	h.frames = append(h.frames, slices.Concat(parts...)...)
	return nil
}

// notices are the texts of those in frames.
func notices(t *testing.T, frames []byte) (texts []string) {
	t.Helper()
	for f := range carrier.Frames(frames) {
		m, err := f.Message()
		if err != nil {
			t.Fatal(err)
		}
		if n, is := m.(*fb.NoticeT); is {
			texts = append(texts, n.Code+" "+n.Text)
		}
	}
	return texts
}

// That a value can't be had hear, once a minute, the drivers of its node, and those of other nodes that have tasks or values there.
func TestAwayIsToldElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := int64(time.Second)
		at, owner := alone(&now), alone(&now)
		here, there := &heard{}, &heard{}
		at.conns[3] = &workConn{process: 3, kind: fb.AttachKindDriver, job: 3, conn: here}
		owner.conns[3] = &workConn{process: 3, kind: fb.AttachKindDriver, job: 3, conn: there}
		e, over := &errand{number: 3, peer: 2, back: true}, &errand{number: 4, peer: 2, back: true}
		at.jobs = []*job{{number: 3}, {number: 8, errand: e}, {number: 9, errand: over, over: true}}
		s := &deskStore{d: at, spill: &deskSpill{}}
		s.sayAway(syscall.EACCES)
		s.sayAway(syscall.EACCES)
		owner.nodes = map[uint32]string{2: "n1"}
		for f := range carrier.Frames(e.out) {
			owner.passErrand(t.Context(), &errand{number: 3, peer: 2, job: &job{number: 3}}, f)
		}
		want := []string{"SPILLED_AWAY node n1: waits for a value that it wrote away, and tries again: permission denied"}
		if got := notices(t, here.frames); !slices.Equal(got, want) {
			t.Errorf("the driver there hears %q", got)
		}
		if got := notices(t, there.frames); !slices.Equal(got, want) {
			t.Errorf("the owner's driver hears %q", got)
		}
		if len(over.out) > 0 {
			t.Error("so does one that is gone")
		}
		time.Sleep(spillAway)
		if s.sayAway(syscall.EACCES); len(notices(t, here.frames)) != 2 {
			t.Error("it is not said again")
		}
	})
}

// A piece that can't be had for a while holds up no other one of its directory, and comes when it can.
func TestAwayHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times, now := new(atomic.Int32), int64(time.Second)
		d := alone(&now)
		s := &deskStore{d: d, store: objstore.New(objstore.Config{Budget: 16 << 20, Spill: 16 << 20}), spill: &deskSpill{over: make(chan struct{}), reading: map[string]bool{}}}
		var err error
		if s.spill.files, err = spill.Open([]spill.Directory{{FS: away{spill.Dir(t.TempDir()), times}, Path: "own"}}); err != nil {
			t.Fatal(err)
		}
		defer s.spill.files.Close(false)
		var got []string
		ask := func(text string) {
			s.part(id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: uint64(len(text))}}, 0, int64(len(text)), func(p bulk.Piece, err error) {
				if got = append(got, string(p.Bytes)); err != nil {
					got = append(got, err.Error())
				}
			})
		}
		for _, text := range []string{"bad", "good", "better"} {
			o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: uint64(len(text))}}
			file, err := s.store.Inherit(o, int64(len(text)), 0, 1)
			if err == nil {
				err = s.spill.files.Write(file, []spill.Part{{Object: o, Bytes: []byte(text)}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		turns := func() {
			for more := true; more; {
				synctest.Wait()
				d.mu.Lock()
				box := d.box
				d.box = nil
				d.mu.Unlock()
				for more = len(box) > 0; len(box) > 0; box = box[1:] {
					box[0].do()
				}
			}
		}
		times.Store(1)
		ask("bad")
		ask("good")
		ask("better")
		if turns(); !slices.Equal(got, []string{"good", "better"}) {
			t.Errorf("while one can't be had %q are", got)
		}
		<-time.After(spillAgain)
		if turns(); !slices.Equal(got, []string{"good", "better", "bad"}) {
			t.Errorf("then %q are", got)
		}
		times.Store(1)
		ask("bad")
		turns()
		close(s.spill.over)
		if turns(); len(got) != 5 || !strings.Contains(got[4], syscall.ECONNREFUSED.Error()) {
			t.Errorf("as the agent ends: %q", got)
		}
	})
}

// ownSegments are the files of spilled values that this process has.
func ownSegments(dir string) (paths []string) {
	list, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range list {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, dir+"/") {
			paths = append(paths, fd)
		}
	}
	return paths
}
