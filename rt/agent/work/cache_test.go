package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// wantsCached has a process ask, and gives the object and whether it is to make it.
func (w *world) wantsCached(process, key string, task id.Task) (o id.Object, mine bool) {
	w.t.Helper()
	w.log = nil
	found := false
	for _, e := range w.core.Step(w.now, &Frames{Process: w.procs[process], Bytes: frameOf(w.t, &fb.CacheWantedT{Key: []byte(key), Task: taskT(task)}, nil)}, nil) {
		w.effect(e)
		if e.Do == Append && e.Process == w.procs[process] {
			for b := e.Bytes; len(b) > 0; {
				f, rest, _ := cut(b)
				if b = rest; f.kind == fb.FrameTypeCached {
					m, err := wire.Unmarshal(f.kind, f.body)
					if err != nil {
						w.t.Fatal(err)
					}
					o, mine, found = id.Object{Task: taskOf(m.(*fb.CachedT).Object)}, m.(*fb.CachedT).Make, true
				}
			}
		}
	}
	if err := check(w.core); err != nil || !found {
		w.t.Fatalf("%s asks for %s: %v\n%s", process, key, err, w.takeLog())
	}
	return o, mine
}

func (w *world) makesCached(process string, o id.Object) {
	w.send(process, &fb.SealT{Object: objectT(o), Slab: 1, Offset: 64, Size: 1 << 20, Format: fb.FormatPickle5}, nil)
}

func (w *world) letsGo(process string, o id.Object, deliveries uint32) {
	w.send(process, &fb.ReleaseT{Object: objectT(o), Deliveries: deliveries}, nil)
}

// caching is a world with three drivers of three jobs.
func caching(t *testing.T, cfg Config) (*world, *ledger) {
	l := newLedger(t)
	cfg.Store = l
	w := newWorld(t, cfg)
	for i, name := range []string{"a", "b", "c"} {
		w.attach(name, Driver, uint32(i+1), 0)
	}
	return w, l
}

// CACHE-1, CACHE-2: a value is made once, waited for meanwhile, outlives who made it, and is made again once the store has dropped it.
func TestCachedIsMadeOnce(t *testing.T) {
	w, l := caching(t, Config{})
	o, mine := w.wantsCached("a", "k", id.Task{})
	if same, again := w.wantsCached("b", "k", id.Task{}); !mine || again || same != o {
		t.Fatalf("a makes %v: %v; b: %v: %v", o, mine, same, again)
	}
	w.send("b", &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
	if other, mine := w.wantsCached("b", "another", id.Task{}); !mine || other == o {
		t.Error("keys are not told apart")
	}
	w.makesCached("a", o)
	if log := w.takeLog(); !strings.Contains(log, "b <- Result 7.0.1[0] last elsewhere put") {
		t.Errorf("who waits was not told:\n%s", log)
	}
	w.step(ProcessGone{Process: w.procs["a"], Why: "it ended"})
	w.letsGo("b", o, 2)
	if w.core.lookup(o) != nil || len(l.resting) != 1 {
		t.Fatalf("nobody needs it, and %d rest", len(l.resting))
	}
	w.send("c", &fb.StateQueryT{What: "objects"}, nil)
	if log := w.takeLog(); !strings.Contains(log, `{"id":"7.0.1[0]","state":"there","size":1048576,"process":0,"pid":0,"shared":true,"cached":"\"k\""}`) {
		t.Errorf("what rests is not listed:\n%s", log)
	}
	if same, mine := w.wantsCached("c", "k", id.Task{}); mine || same != o || len(l.resting) > 0 || !strings.Contains(w.takeLog(), "c <- Result 7.0.1[0] last elsewhere put") {
		t.Errorf("c gets %v, to make: %v", same, mine)
	}
	w.letsGo("c", o, 2)
	ev := l.evict()
	made, mine := w.wantsCached("b", "k", id.Task{})
	if !mine || made == o {
		t.Error("what the store has dropped was not to be made again")
	}
	w.step(ev) // which it says late
	w.makesCached("b", made)
	w.letsGo("b", made, 1)
	w.step(l.evict())
	if _, mine := w.wantsCached("c", "k", id.Task{}); !mine {
		t.Error("what the store said to have dropped was not to be made again")
	}
}

// CACHE-1: who was to make a value and does not has the others told; the next one makes it.
func TestCachedIsNotMade(t *testing.T) {
	for how, end := range map[string]func(w *world, o id.Object){
		"which was to make cached value \"k\", gave up": func(w *world, o id.Object) {
			w.send("a", &fb.CacheUnmadeT{Object: taskT(o.Task)}, nil)
			w.letsGo("a", o, 1)
		},
		"which was to make cached value \"k\", did not":  func(w *world, o id.Object) { w.letsGo("a", o, 1) },
		"which was to make cached value \"k\", did not ": func(w *world, o id.Object) { w.step(ProcessGone{Process: w.procs["a"], Why: "killed"}) },
	} {
		w, _ := caching(t, Config{})
		o, _ := w.wantsCached("a", "k", id.Task{})
		w.wantsCached("b", "k", id.Task{})
		w.send("b", &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
		w.log = nil
		end(w, o)
		if log := w.takeLog(); !strings.Contains(log, "b <- Result 7.0.1[0] last error put CACHE_NOT_MADE: ") || !strings.Contains(log, strings.TrimSpace(how)) {
			t.Errorf("who waits was told\n%s", log)
		}
		if next, mine := w.wantsCached("b", "k", id.Task{}); !mine || next == o {
			t.Error("who asks next does not make it")
		}
		if _, mine := w.wantsCached("c", "k", id.Task{}); mine {
			t.Error("two make it")
		}
		w.letsGo("b", o, 1)
	}
}

// WORK-8: what nobody may say of the cache ends a connection, and leaves it as it was.
func TestHostileCache(t *testing.T) {
	seal := func(o id.Object, refs uint32) *fb.SealT {
		return &fb.SealT{Object: objectT(o), Slab: 1, Offset: 64, Size: 64, Refs: refs}
	}
	for name, say := range map[string]func(w *world, o id.Object){
		"a key of 0 bytes":   func(w *world, o id.Object) { w.send("b", &fb.CacheWantedT{}, nil) },
		"a key of 257 bytes": func(w *world, o id.Object) { w.send("b", &fb.CacheWantedT{Key: make([]byte, 257)}, nil) },
		"under an ID that is not its own": func(w *world, o id.Object) {
			w.wantsCached("b", "k", id.Task{})
			w.send("b", seal(o, 0), nil)
		},
		"references in it": func(w *world, o id.Object) {
			mine, _ := w.wantsCached("b", "other", id.Task{})
			w.send("b", seal(mine, 1), objectBytes(mine))
		},
		"is to make 1024": func(w *world, o id.Object) {
			for i := range maxMaking {
				w.wantsCached("b", fmt.Sprint("k", i), id.Task{})
			}
			w.send("b", &fb.CacheWantedT{Key: []byte("k")}, nil) // it may ask for what there is
			w.send("b", &fb.CacheWantedT{Key: []byte("more")}, nil)
		},
	} {
		w, _ := caching(t, Config{})
		o, _ := w.wantsCached("a", "k", id.Task{})
		say(w, o)
		if log := w.takeLog(); !strings.Contains(log, "close b: ") || !strings.Contains(log, name) {
			t.Errorf("%s: %s", name, log)
		}
		w.step(ProcessGone{Process: w.procs["b"], Why: "closed"})
		w.send("c", &fb.CacheUnmadeT{Object: taskT(o.Task)}, nil) // a stray
		w.makesCached("a", o)
		if _, mine := w.wantsCached("c", "k", id.Task{}); mine {
			t.Errorf("%s: a's value is gone", name)
		}
		if len(w.core.cache.byKey) != 1 {
			t.Errorf("%s: %d keys", name, len(w.core.cache.byKey))
		}
	}
}

// CACHE-2: of values that rest there are so many, and those that were used last stay; what lies in a file does not rest.
func TestCachedRests(t *testing.T) {
	w, l := caching(t, Config{Resting: 2})
	var made []id.Object
	for _, key := range []string{"1", "2", "3", "4"} {
		o, _ := w.wantsCached("a", key, id.Task{})
		w.makesCached("a", o)
		made = append(made, o)
	}
	w.letsGo("a", made[1], 1)
	w.letsGo("a", made[0], 1)
	w.wantsCached("b", "2", id.Task{})
	w.letsGo("b", made[1], 2)
	w.letsGo("a", made[2], 1)
	if fmt.Sprint(l.resting) != fmt.Sprint(made[1:3]) || len(l.views) != 3 {
		t.Errorf("%v rest of %v; %d are kept", l.resting, made, len(l.views))
	}
	delete(l.views[made[3]], w.procs["a"])
	l.filed[made[3]] = true
	w.letsGo("a", made[3], 1)
	if _, mine := w.wantsCached("c", "4", id.Task{}); !mine || l.filed[made[3]] {
		t.Error("what lies in a file was kept")
	}
}

// WORK-13: a circle through the cache is one, and what waits for a value is told who makes it.
func TestCircleThroughTheCache(t *testing.T) {
	w, _ := stored(t)
	w.step(Grant{Resources: []Amount{{"CPU", 2 * one}, {"lic", one}}})
	w.send("d", &fb.ShapeT{Number: 2, Resources: []*fb.ResourceT{{Name: "lic", Amount: one}}, Bundle: -1}, nil)
	w.submit("maker")
	w.send("d", &fb.SubmitT{Task: taskT(w.mint("d", "waits")), Function: numberOf("f"), Job: 1, Shape: 2, Returns: 1, Parent: &fb.TaskIDT{}}, nil)
	awaits := func(process, task string, o id.Object) {
		w.send(process, &fb.AwaitsT{Task: taskT(w.task(task)), Objects: 1, Need: 1}, objectBytes(o))
	}
	o, mine := w.wantsCached("w1", "k", w.task("maker"))
	if _, again := w.wantsCached("w2", "k", w.task("waits")); !mine || again {
		t.Fatal("the first one does not make it")
	}
	awaits("w2", "waits", o)
	if got, want := w.core.Explain(w.task("waits")), fmt.Sprintf("cached value \"k\", which process %d (pid %d) makes", w.procs["w1"], 1000+w.procs["w1"]); !strings.HasSuffix(got, want) {
		t.Errorf("%s\nis not %s", got, want)
	}
	if e, err := w.core.explain("7.0.1[0]"); err != nil || !strings.Contains(e.Text, "is not there: it is to be cached value") {
		t.Errorf("%+v, %v", e, err)
	}
	w.send("w1", &fb.ShapeT{Number: 2, Resources: []*fb.ResourceT{{Name: "lic", Amount: one}}, Bundle: -1}, nil)
	needs := w.mint("w1", "needs")
	w.send("w1", &fb.SubmitT{Task: taskT(needs), Function: numberOf("f"), Job: 1, Shape: 2, Returns: 1, Parent: taskT(w.task("maker"))}, nil)
	awaits("w1", "maker", id.Object{Task: needs})
	w.log = nil
	for range 4 {
		w.now += circleAfter
		w.step(Tick{})
	}
	if log := w.takeLog(); !strings.Contains(log, "w1 <- Result needs[0] last error put DEADLOCK: ") && !strings.Contains(log, "DEADLOCK") || !strings.Contains(log, "cached value \"k\"") {
		t.Errorf("the circle goes on:\n%s", log)
	}
}
