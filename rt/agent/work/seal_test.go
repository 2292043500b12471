package work

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// ledger is a Store that counts: slab 1 is open to everybody, slab 2 to nobody.
type ledger struct {
	t         testing.TB
	views     map[id.Object]map[id.Process]int
	discarded int
	filed     map[id.Object]bool  // those that lie in no memory
	moved     map[id.Object]int64 // how often they came back to another place
	brought   []id.Object
	bringing  map[id.Object]int
	told      map[view]int       // places, ever
	lost      map[id.Object]bool // what could not be read from a file, ever
	resting   []id.Object        // in the order in which they came to rest
	copies    []id.Object        // that may be dropped, in that order
	dropped   map[id.Object]bool // of those, until the core is told
}

type view struct {
	p id.Process
	o id.Object
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, views: map[id.Object]map[id.Process]int{}, filed: map[id.Object]bool{}, bringing: map[id.Object]int{}, moved: map[id.Object]int64{}, told: map[view]int{}, lost: map[id.Object]bool{}, dropped: map[id.Object]bool{}}
}

func (l *ledger) Seal(p id.Process, o id.Object, m *fb.SealT) (uint64, int64, error) {
	if m.Slab != 1 {
		return 0, 0, errors.New("slab 2: not its right")
	}
	if l.views[o] != nil || l.bringing[o] > 0 {
		l.t.Errorf("%v was sealed twice, or is on its way from a file: %s", o, debug.Stack())
	}
	delete(l.dropped, o)
	l.views[o] = map[id.Process]int{p: 1}
	return 9, int64(m.Offset) + 4096, nil
}

func (l *ledger) Discard(id.Process, *fb.SealT) { l.discarded++ }
func (l *ledger) View(p id.Process, o id.Object) (uint64, int64, bool) {
	if l.filed[o] || l.dropped[o] {
		return 0, 0, false
	}
	l.count(p, o, 1)
	l.told[view{p, o}]++
	return 9, 4096 + 64 + 64*l.moved[o], true
}
func (l *ledger) Seen(p id.Process, o id.Object, places uint32) error {
	l.count(p, o, -int(places))
	return nil
}
func (l *ledger) Unview(p id.Process, o id.Object) { l.count(p, o, -1) }
func (l *ledger) Leave(p id.Process, o id.Object) {
	if !l.dropped[o] {
		l.count(p, o, -l.views[o][p])
	}
}
func (l *ledger) Bring(o id.Object) {
	l.brought = append(l.brought, o)
	l.bringing[o]++
}

func (l *ledger) Done(o id.Object) {
	if l.bringing[o]--; l.bringing[o] < 0 {
		l.t.Errorf("%v is done with more often than it was brought: %s", o, debug.Stack())
	}
}

func (l *ledger) count(p id.Process, o id.Object, n int) {
	v := l.views[o]
	if v == nil || v[p]+n < 0 {
		l.t.Errorf("process %d: %+d views of %v, of which there are %v", p, n, o, v)
		return
	}
	if v[p] += n; v[p] == 0 {
		delete(v, p)
	}
}

func (l *ledger) Free(o id.Object) {
	if l.dropped[o] {
		return
	}
	l.copies = slices.DeleteFunc(l.copies, func(x id.Object) bool { return x == o })
	if l.views[o] == nil || len(l.views[o]) > 0 {
		l.t.Errorf("%v is freed, and viewed by %v: %s", o, l.views[o], debug.Stack())
	}
	delete(l.views, o)
	delete(l.filed, o)
}

func (l *ledger) Rest(o id.Object) bool {
	if l.filed[o] {
		return false
	}
	if l.views[o] == nil || len(l.views[o]) > 0 || slices.Contains(l.resting, o) {
		l.t.Errorf("%v rests, and is viewed by %v: %s", o, l.views[o], debug.Stack())
	}
	l.resting = append(l.resting, o)
	return true
}

func (l *ledger) Reuse(o id.Object) bool {
	if i := slices.Index(l.copies, o); i >= 0 {
		l.copies = slices.Delete(l.copies, i, i+1)
		return true
	}
	i := slices.Index(l.resting, o)
	if i >= 0 {
		l.resting = slices.Delete(l.resting, i, i+1)
	}
	return i >= 0 || l.views[o] != nil
}

func (l *ledger) Loosen(o id.Object) {
	if l.views[o] == nil && !l.dropped[o] || slices.Contains(l.copies, o) {
		l.t.Errorf("%v is a copy already, or not here: %s", o, debug.Stack())
	}
	if l.views[o] != nil && !l.filed[o] {
		l.copies = append(l.copies, o)
	}
}

// loose gives the copies that may be dropped now.
func (l *ledger) loose() (list []id.Object) {
	for _, o := range l.copies {
		if len(l.views[o]) == 0 && l.bringing[o] == 0 {
			list = append(list, o)
		}
	}
	return list
}

// drop drops a copy.
func (l *ledger) drop(o id.Object) Evicted {
	l.copies = slices.DeleteFunc(l.copies, func(x id.Object) bool { return x == o })
	delete(l.views, o)
	l.dropped[o] = true
	return Evicted{o}
}

// evict drops what has rested for longest.
func (l *ledger) evict() Evicted {
	o := l.resting[0]
	l.resting = l.resting[1:]
	delete(l.views, o)
	return Evicted{o}
}

// stored is a world with a store, a driver d and a worker w1 that has the task t.
func stored(t *testing.T) (*world, *ledger) {
	l := newLedger(t)
	w := newWorld(t, Config{Store: l})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", 20_000}}})
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Bundle: -1, Retries: 1}, nil)
	return w, l
}

func (w *world) seal(process, name string, index uint32, slab uint64, in ...string) {
	var refs []id.Object
	for _, r := range in {
		refs = append(refs, w.object(r))
	}
	w.send(process, &fb.SealT{Object: &fb.ObjectIDT{Task: taskT(w.task(name)), Index: index}, Slab: slab, Offset: 64, Size: 1 << 20, Format: fb.FormatPickle5, Refs: uint32(len(in))}, objectBytes(refs...))
}

func (w *world) submit(name string, deps ...string) {
	var list []id.Object
	for _, d := range deps {
		list = append(list, w.object(d))
	}
	w.send("d", &fb.SubmitT{Task: taskT(w.mint("d", name)), Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1, Deps: uint32(len(deps)), Parent: &fb.TaskIDT{}}, objectBytes(list...))
}

func (w *world) told(process, name string, flags fb.ResultFlag, payload string) {
	w.send(process, &fb.ResultT{Task: taskT(w.task(name)), Flags: uint32(flags)}, []byte(payload))
}

func (w *world) release(process, name string, deliveries uint32) {
	w.send(process, &fb.ReleaseT{Object: objectT(w.object(name)), Deliveries: deliveries}, nil)
}

// takeLog gives the effects since the last time.
func (w *world) takeLog() string {
	log := strings.Join(w.log, "\n")
	w.log = nil
	return log
}

// REF-1, REF-2: whoever is told a place holds what lies there until it says otherwise.
func TestSealedValues(t *testing.T) {
	w, l := stored(t)
	d := w.procs["d"]
	w.mint("d", "x")
	w.seal("d", "x", 0, 1)
	w.submit("t", "x")
	worker := w.procs["w1"]
	log := w.takeLog()
	hello, meets, told := strings.Index(log, "w1 <- Attached"), strings.Index(log, "w1 meets arena 9"), strings.Index(log, "w1 <- Result x[0] last elsewhere put")
	if hello < 0 || meets < hello || told < meets {
		t.Errorf("the argument's place did not come:\n%s", log)
	}
	if got := fmt.Sprint(l.views[w.object("x")]); got != fmt.Sprint(map[id.Process]int{d: 1, worker: 1}) {
		t.Errorf("x is viewed by %s", got)
	}
	w.release("d", "x", 0)
	w.seal("w1", "t", 0, 1, "x")
	w.told("w1", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "")
	if log := w.takeLog(); !strings.Contains(log, "d <- Result t[0] last elsewhere with x[0]") {
		t.Errorf("the result's place did not come:\n%s", log)
	}
	w.release("w1", "x", 1)
	if got := fmt.Sprint(l.views[w.object("t")], l.views[w.object("x")]); got != fmt.Sprint(map[id.Process]int{d: 1}, map[id.Process]int{}) {
		t.Errorf("t and x are viewed by %s", got)
	}
	w.release("d", "t", 0) // its place was on the way
	if len(l.views) != 2 {
		t.Error("t went while its place was on the way")
	}
	w.release("d", "t", 1)
	w.release("d", "x", 1)
	if len(l.views) != 0 {
		t.Errorf("left: %v", l.views)
	}
}

// What a process says of what it looks at is taken in before what it says next: a release, after which it may be told of the object anew.
func TestViewEndsInOrder(t *testing.T) {
	w, l := stored(t)
	w.mint("d", "x")
	w.seal("d", "x", 0, 1)
	w.submit("t", "x") // so that somebody holds it
	x := w.object("x")
	end := frameOf(t, &fb.ViewEndT{Task: taskT(x.Task), Index: x.Index, Seen: 1}, nil)
	release := frameOf(t, &fb.ReleaseT{Object: objectT(x)}, nil)
	w.step(&Frames{Process: w.procs["d"], Bytes: append(end, release...)})
	if got := fmt.Sprint(l.views[x]); got != fmt.Sprint(map[id.Process]int{w.procs["w1"]: 1}) {
		t.Errorf("x is viewed by %s", got)
	}
	if log := w.takeLog(); strings.Contains(log, "close") {
		t.Error(log)
	}
}

// A worker that dies between Seal and Result leaves nothing; nor does one whose result nobody wants.
func TestSealsOfNoUse(t *testing.T) {
	w, l := stored(t)
	w.submit("t")
	w.seal("w1", "t", 0, 1)
	w.step(ProcessGone{Process: w.procs["w1"], Why: "killed"})
	if len(l.views) != 0 {
		t.Errorf("left: %v", l.views)
	}
	w.release("d", "t", 0) // the second attempt runs
	w.seal("w2", "t", 0, 1)
	w.told("w2", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "")
	if len(l.views) != 0 || l.discarded != 1 {
		t.Errorf("left: %v; %d discarded", l.views, l.discarded)
	}
}

// WORK-8
func TestSealsThatNoneMaySend(t *testing.T) {
	for name, bad := range map[string]func(*world){
		"not lent":     func(w *world) { w.mint("w1", "y"); w.seal("w1", "y", 0, 2) },
		"another's ID": func(w *world) { w.mint("d", "y"); w.seal("w1", "y", 0, 1) },
		"used":         func(w *world) { w.mint("w1", "y"); w.seal("w1", "y", 0, 1); w.seal("w1", "y", 0, 1) },
		"a reference it lacks": func(w *world) {
			w.mint("w1", "y")
			w.mint("d", "z")
			w.seal("d", "z", 0, 1)
			w.seal("w1", "y", 0, 1, "z")
		},
		"no Result after it": func(w *world) { w.seal("w1", "t", 0, 1); w.mint("w1", "y"); w.seal("w1", "y", 0, 1) },
		"another Result":     func(w *world) { w.seal("w1", "t", 1, 1); w.told("w1", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "") },
		"a value beside it": func(w *world) {
			w.seal("w1", "t", 0, 1)
			w.told("w1", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "v")
		},
		"a value in its place":   func(w *world) { w.seal("w1", "t", 0, 1); w.told("w1", "t", fb.ResultFlagLast, "v") },
		"a place without a Seal": func(w *world) { w.told("w1", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "") },
	} {
		t.Run(name, func(t *testing.T) {
			w, l := stored(t)
			w.submit("t")
			w.takeLog()
			bad(w)
			if log := w.takeLog(); !strings.Contains(log, "close w1") {
				t.Errorf("it goes on:\n%s", log)
			}
			w.step(ProcessGone{Process: w.procs["w1"], Why: "refused"})
			w.step(ProcessGone{Process: w.procs["d"], Why: "over"})
			if len(l.views) > 0 {
				t.Errorf("left: %v", l.views)
			}
		})
	}
}
