package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// watched is a desk whose node has 16 GiB of memory, of which so many KiB are left, as tell says, and whose keeper is process 100.
func watched(t *testing.T) (d *desk, tell func(left int)) {
	now := int64(time.Second)
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/100/task/100/children", "101")
	for pid, pages := range map[int]int{101: 1000, 7: 50} {
		write(fmt.Sprintf("proc/%d/comm", pid), "python")
		write(fmt.Sprintf("proc/%d/statm", pid), fmt.Sprintf("9999 %d 0 0 0 0 0", pages))
	}
	write("proc/vmstat", "oom_kill 3\n")
	d = alone(&now)
	d.memory = &deskMemory{gauge: device.NewGauge(device.Options{Root: root}, &device.Facts{HostMemory: 16 << 30}, 100)}
	return d, func(left int) {
		write("proc/meminfo", fmt.Sprintf("MemTotal: 16777216 kB\nMemAvailable: %d kB\n", left))
	}
}

// While it is counted who has how much memory may come back: then nobody ends for it.
func TestMemoryThatComesBack(t *testing.T) {
	d, tell := watched(t)
	d.conns[3] = &workConn{process: 3, kind: fb.AttachKindDriver, pid: 7}
	count := func() *shortage {
		done := make(chan *shortage)
		go func() { done <- d.countMemory(t.Context()) }() // it waits for a turn of the desk's
		<-d.wake
		d.turn(t.Context())
		return <-done
	}
	tell(100)
	s := count()
	if s == nil || len(s.list) != 1 || s.list[0].PID != 101 || len(s.drivers) != 1 || s.drivers[0].PID != 7 {
		t.Fatalf("with 100 KiB left: %+v", s)
	}
	tell(8 << 20)
	if s := count(); s != nil {
		t.Errorf("with 8 GiB left somebody is to end: %+v", s)
	}
}

// What the kernel has ended is counted once.
func TestKillsOfTheKernel(t *testing.T) {
	d, tell := watched(t)
	tell(100)
	d.memory.read()
	if before, yes := d.memory.kernelEnded(); !yes || before == "" {
		t.Errorf("three that were not known: %v, %q", yes, before)
	}
	if _, yes := d.memory.kernelEnded(); yes {
		t.Error("the same three again")
	}
}

// Where memory counts for each process that has it in its page table, they share three quarters of what nothing else needs, and hear of it as they come and go.
func TestViewsAreShared(t *testing.T) {
	const gib = 1 << 30
	d, _ := watched(t)
	lines := map[id.Process]*heard{}
	come := func(process id.Process, kind fb.AttachKind) {
		lines[process] = &heard{}
		d.conns[process] = &workConn{process: process, kind: kind, conn: lines[process]}
		d.recount()
		d.shareViews()
	}
	come(3, fb.AttachKindDriver)
	if len(lines[3].frames) > 0 {
		t.Error("it is told where nobody counts so")
	}
	reading := device.Reading{Used: 3 * gib, Limit: 8 * gib, Views: gib, Counted: 8 * gib, Beside: 2 * gib}
	if all := forViews(reading); all != 4*gib {
		t.Errorf("of 8 GiB, of which 2 are used otherwise, values have %d", all)
	}
	if all := forViews(device.Reading{Limit: 8 * gib, Counted: 8 * gib, Beside: 9 * gib}); all != viewsLeast {
		t.Errorf("of what is full values have %d", all)
	}
	d.memory.views.Store(forViews(reading))
	d.recount()
	d.shareViews()
	come(4, fb.AttachKindWorker)
	come(5, fb.AttachKindTemplate) // which has none
	delete(d.conns, 4)
	d.recount()
	d.shareViews()
	d.shareViews()
	for process, want := range map[id.Process][]uint64{3: {4 * gib, 2 * gib, 4 * gib}, 4: {2 * gib}, 5: nil} {
		var said []uint64
		for f := range carrier.Frames(lines[process].frames) {
			m, err := f.Message()
			if err != nil {
				t.Fatal(err)
			}
			said = append(said, m.(*fb.ViewFadeT).Most)
		}
		if !slices.Equal(said, want) {
			t.Errorf("process %d: %d, not %d", process, said, want)
		}
	}
}

// Where memory counts for each process that has it in its page table, views fade before anybody ends for them.
func TestViewsFade(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		used, views  uint64
		fades, waits bool
	}{
		{6 * gib, 4 * gib, false, false},
		{15 * gib / 2, gib / 2, false, false},
		{15 * gib / 2, 2 * gib, true, false},
		{9 * gib, 3 * gib, true, true},
		{9 * gib, 2 * gib, true, true},
		{78 * gib / 10, gib / 2, false, false},
		{9 * gib, 5 * gib / 4, true, false}, // they would not be enough
	} {
		m := &deskMemory{}
		r := device.Reading{Used: c.used, Limit: 8 * gib, Views: c.views}
		now := time.Unix(1000, 0)
		if fades(r) != c.fades || m.waits(r, now) != c.waits {
			t.Errorf("%+v: fades %v, waits %v", c, fades(r), m.waits(r, now))
		}
		if m.waits(r, now.Add(fadeTime-1)) != c.waits || m.waits(r, now.Add(fadeTime)) {
			t.Errorf("%+v: it is waited for other than %v", c, fadeTime)
		}
	}
}

// A spare arena under way is given up before anybody is ended for want of memory, and no other one is begun.
func TestSpareIsGivenUp(t *testing.T) {
	d, tell := watched(t)
	tell(8 << 20)
	d.store = newDeskStore(d, 4<<30)
	d.store.growStore(objstore.Grow{Arena: 9, Size: 1 << 30, Spare: true})
	tell(100)
	s := &shortage{reading: d.memory.read()}
	d.memoryShort(t.Context(), s)
	if len(d.store.spares) > 0 || !d.memory.bounded.Load() {
		t.Errorf("%d spare arenas are made, bounded %v", len(d.store.spares), d.memory.bounded.Load())
	}
	d.l.wait.Wait()
	d.turn(t.Context())
	if n, bytes := d.store.memory.Used(); n != 0 {
		t.Errorf("%d arenas with %d bytes", n, bytes)
	}
	if d.store.giveUpSpares() {
		t.Error("it is given up twice")
	}
	if err := d.store.memory.Close(); err != nil {
		t.Error(err)
	}
}

// What values give back is enough only if it is as much as there is too little; slabs that are on their way get one look.
func TestShedIsEnough(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.memory = &deskMemory{}
	d.store = newDeskStore(d, 1<<30)
	defer d.store.memory.Close()
	const limit, mib = 16 << 30, int64(1 << 20)
	short := func(by int64) *shortage {
		return &shortage{reading: device.Reading{Limit: limit, Used: limit - memoryKept(limit) + uint64(by)}}
	}
	lend := func(p id.Process) (slab uint64) {
		t.Helper()
		out, err := d.store.store.Lend(now, p, 4*mib, nil)
		for i := 0; i < len(out) && err == nil; i++ {
			switch e := out[i].(type) {
			case objstore.Grow:
				if err = d.store.memory.Make(e.Arena, e.Size); err == nil {
					out, err = d.store.store.Grown(now, e.Arena, out)
				}
			case objstore.Lent:
				slab = e.Slab
			}
		}
		if err != nil || slab == 0 {
			t.Fatal(out, err)
		}
		return slab
	}
	seal := func(p id.Process, slab, n uint64, offset int64, copied bool) {
		t.Helper()
		o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: n}}
		if err := d.store.store.Seal(now, p, objstore.Sealed{Object: o, Slab: slab, Offset: offset, Size: mib, Secondary: copied}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.store.store.Undeliver(now, p, o, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	for p := range id.Process(2) {
		if err := d.store.store.Attach(7 + p); err != nil {
			t.Fatal(err)
		}
	}
	for n, enough := range []bool{true, false} {
		slab := lend(7)
		seal(7, slab, uint64(n+1), 0, false)
		if _, err := d.store.store.Return(now, 7, slab, nil); err != nil {
			t.Fatal(err)
		}
		free := d.store.store.Explain().Free
		if got := d.shed(short(free + int64(n))); free == 0 || got != enough {
			t.Errorf("%d bytes are enough for %d: %v", free, free+int64(n), got)
		}
		if d.shed(short(1)) {
			t.Error("nothing is enough")
		}
	}
	for i, want := range []bool{true, false, true} {
		slab := lend(8)
		seal(8, slab, uint64(10+i), 0, true)
		if got := d.shed(short(1 << 30)); got != want {
			t.Errorf("slab %d, which is recalled, is waited for: %v", i, got)
		}
		if d.shed(short(1 << 30)) {
			t.Errorf("slab %d is waited for twice", i)
		}
		now += int64(time.Second) * int64(i)
	}
}
