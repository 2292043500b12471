package work

import (
	"encoding/binary"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// FuzzFrames gives a core that is in the middle of things whatever bytes, from a driver and from a worker
// (WORK-8): it must stay consistent, what it sends must be frames, and another job's must go on.
func FuzzFrames(f *testing.F) {
	task := func(p uint32, n uint64) *fb.TaskIDT {
		return &fb.TaskIDT{Agent: agentNumber, Process: p, Counter: n}
	}
	object := func(p uint32, n uint64) *fb.ObjectIDT { return &fb.ObjectIDT{Task: task(p, n)} }
	own := id.Object{Task: id.Task{Agent: agentNumber, Process: 1, Counter: 1}}
	for _, p := range []byte{1, 3} {
		n := uint32(p)
		seed := func(m wire.Message, payload []byte) { f.Add(p, frameOf(f, m, payload)) }
		seed(&fb.SubmitT{Task: task(n, 50), Parent: task(1, 2), Function: numberOf("f"), Job: 1, Shape: 1, Returns: 2, Deps: 1, Refs: 1}, objectBytes(own, own))
		seed(&fb.SubmitT{Task: task(n, 51), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: stream | 3}, nil)
		seed(&fb.CallT{Task: task(n, 52), Parent: &fb.TaskIDT{}, Actor: task(1, 4), Job: 1, Shape: 1, Returns: 1}, nil)
		seed(&fb.CreateT{Actor: task(n, 53), Function: numberOf("f"), Job: 1, Shape: 1, Name: "x", Detached: true}, nil)
		seed(&fb.ResultT{Task: task(1, 2), Flags: 1, Refs: 1}, objectBytes(own))
		seed(&fb.ResultT{Task: task(1, 3), Index: 1 << 30, Flags: 3}, nil)
		seed(&fb.PutT{Object: object(n, 54), Refs: 1}, objectBytes(own))
		seed(&fb.GetT{Object: object(1, 1), Want: fb.WantValue, Deadline: 1}, nil)
		seed(&fb.ReleaseT{Object: object(1, 1), Deliveries: 1}, nil)
		seed(&fb.CancelT{Task: task(1, 2), Force: 1, Recursive: 1}, nil)
		seed(&fb.CancelT{Task: task(1, 4), Force: 2}, nil)
		seed(&fb.BlockedT{Task: task(1, 2)}, nil)
		seed(&fb.UnblockedT{Task: task(1, 2)}, nil)
		seed(&fb.RecalledT{Task: task(1, 2)}, nil)
		seed(&fb.ShapeT{Number: 9, Resources: []*fb.ResourceT{{Name: "GPU", Amount: 1 << 62}, {Name: "GPU", Amount: 1 << 62}}}, nil)
		seed(&fb.FunctionT{Hash: hashOf("g"), Name: "g", Language: "go"}, []byte("x"))
		seed(&fb.MethodsT{Function: numberOf("f"), Names: []string{"a", ""}}, nil)
		seed(&fb.StateQueryT{What: "explain", Id: "7.1.2[99999999999]"}, nil)
		seed(&fb.StateQueryT{What: "tasks"}, nil)
		seed(&fb.GoodbyeT{}, nil)
		seed(&fb.SlabWantedT{Size: 1}, nil)
		seed(&fb.SealT{Object: object(n, 55), Slab: 1, Offset: 64, Size: 100, Refs: 1}, objectBytes(own))
		seed(&fb.CacheWantedT{Key: []byte("k"), Task: task(1, 2)}, nil)
		made := frameOf(f, &fb.CacheWantedT{Key: []byte("k")}, nil)
		made = append(made, frameOf(f, &fb.SealT{Object: object(0, 1), Slab: 1, Offset: 64, Size: 100}, nil)...)
		f.Add(p, append(made, frameOf(f, &fb.ReleaseT{Object: object(0, 1), Deliveries: 1}, nil)...))
		f.Add(p, append(frameOf(f, &fb.CacheWantedT{Key: []byte("j")}, nil), frameOf(f, &fb.CacheUnmadeT{Object: task(0, 1)}, nil)...))
		sealed := frameOf(f, &fb.SealT{Object: object(1, 2), Slab: 1, Size: 100}, nil)
		f.Add(p, append(sealed, frameOf(f, &fb.ResultT{Task: task(1, 2), Flags: uint32(fb.ResultFlagLast | fb.ResultFlagLocated)}, nil)...))
	}
	f.Fuzz(func(t *testing.T, who byte, b []byte) {
		store := newLedger(t)
		w := newWorld(t, Config{Processes: 8, Store: store})
		w.auto = true
		w.step(Grant{Resources: []Amount{{"CPU", 3 * one}, {"GPU", one}}, Devices: []string{"g0"}})
		w.attach("d", Driver, 1, 0) // 1
		w.attach("other", Driver, 2, 0)
		for _, p := range []string{"d", "other"} {
			w.send(p, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
			w.send(p, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 1, Bundle: -1}, nil)
		}
		submit := func(p string, n uint64, returns uint32) {
			w.send(p, &fb.SubmitT{Task: task(uint32(w.procs[p]), n), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: w.jobs[p], Shape: 1, Returns: returns}, nil)
		}
		w.send("d", &fb.PutT{Object: object(1, 1)}, []byte("own"))
		submit("d", 2, 2) // in worker 3
		submit("d", 3, stream)
		w.send("d", &fb.CreateT{Actor: task(1, 4), Function: numberOf("f"), Job: 1, Shape: 1, MaxPending: -1}, nil)
		submit("other", 1, 1)

		p := id.Process(1)
		if who != 1 {
			p = 3
		}
		// As whole frames, so that more than the cutting is tried; then as they are.
		for rest := b; len(rest) >= wire.HeaderSize; {
			body, n := binary.LittleEndian.Uint32(rest[4:]), min(binary.LittleEndian.Uint32(rest[0:]), uint32(len(rest)-wire.HeaderSize))
			one := append([]byte{}, rest[:wire.HeaderSize+int(n)]...)
			binary.LittleEndian.PutUint32(one[0:], n)
			binary.LittleEndian.PutUint32(one[4:], min(body, n))
			one[11] = 0
			w.step(&Frames{Process: p, Bytes: one})
			rest = rest[wire.HeaderSize+int(n):]
		}
		w.step(&Frames{Process: p, Bytes: append([]byte{}, b...)})
		w.now += 1e9
		w.step(Tick{})
		for _, q := range []id.Process{p, 1, 3} {
			w.step(ProcessGone{Process: q, Why: "fuzz"})
		}
		for i := len(w.core.processes) - 1; i >= 0; i-- {
			if q := w.core.processes[i]; q.worker != nil && q.worker.job.number == 1 {
				w.step(ProcessGone{Process: q.id, Why: "fuzz"})
			}
		}
		e := w.core.entries[id.Task{Agent: agentNumber, Process: 2, Counter: 1}]
		if e == nil || e.task == nil || e.first == nil {
			t.Fatal("WORK-8: another job's task is gone")
		}
		if err := checkViews(&site{core: w.core, store: store}); err != nil {
			t.Fatal(err)
		}
		if len(w.core.jobs) > 2 {
			t.Fatalf("%d jobs", len(w.core.jobs))
		}
	})
}
