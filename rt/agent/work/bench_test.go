package work

import (
	"encoding/binary"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// mill is a driver and workers that do nothing but go through the motions: it measures the core alone,
// with batches as a socket would give them.
type mill struct {
	core    *Core
	now     int64
	effects []Effect
	driver  []byte // frames of the driver for the next turn
	workers [][]byte
	batch   Frames
	submit  []byte
	result  []byte
	release []byte
	next    uint64
	needs   []uint64
	done    int
	keep    bool // results are not released
}

const millWorkers = 2

func newMill(tb testing.TB, calls bool) *mill {
	w := newWorld(tb, Config{})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", millWorkers * one}}})
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, []byte("code"))
	w.send("d", &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 3, Bundle: -1}, nil)
	m := &mill{core: w.core, now: w.now, workers: make([][]byte, 16)}
	args := make([]byte, 40)
	m.submit = frameOf(tb, &fb.SubmitT{Task: &fb.TaskIDT{Agent: agentNumber, Process: 1}, Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, args)
	m.result = frameOf(tb, &fb.ResultT{Task: &fb.TaskIDT{Agent: agentNumber, Process: 1}, Flags: 1}, args)
	m.release = frameOf(tb, &fb.ReleaseT{Object: &fb.ObjectIDT{Task: &fb.TaskIDT{Agent: agentNumber, Process: 1}}}, nil)
	if calls {
		w.send("d", &fb.FunctionT{Hash: hashOf("C"), Name: "C", Language: "python", Class_: true}, []byte("code"))
		w.send("d", &fb.ShapeT{Number: 2, Bundle: -1}, nil)
		a := w.mint("d", "a")
		w.send("d", &fb.CreateT{Actor: taskT(a), Parent: &fb.TaskIDT{}, Function: numberOf("C"), Job: 1, Shape: 2, MaxPending: -1}, nil)
		w.send("w1", &fb.ResultT{Task: taskT(a), Flags: 1}, nil)
		m.submit = frameOf(tb, &fb.CallT{Task: &fb.TaskIDT{Agent: agentNumber, Process: 1}, Parent: &fb.TaskIDT{}, Actor: taskT(a), Job: 1, Shape: 2, Returns: 1}, args)
		m.next, m.now = w.next[1], w.now
	}
	// The workers come up, and the function is known to be short.
	for range 200 {
		m.add(64)
		m.turn()
		for _, key := range m.needs {
			w.last++
			m.step(ProcessUp{Process: w.last, Kind: Worker, Key: key})
		}
		m.needs = m.needs[:0]
	}
	return m
}

// add has the driver submit so many tasks with the next turn.
func (m *mill) add(n int) {
	for range n {
		m.next++
		at := len(m.driver)
		m.driver = append(m.driver, m.submit...)
		binary.LittleEndian.PutUint64(m.driver[at+wire.HeaderSize+8:], m.next)
	}
}

func (m *mill) step(ev Event) {
	m.now += 1000
	m.effects = m.core.Step(m.now, ev, m.effects[:0])
	for _, e := range m.effects {
		if e.Do == NeedWorker {
			m.needs = append(m.needs, e.Key)
		}
		for b := e.Bytes; e.Do == Append && len(b) > 0; {
			f, rest, _ := cut(b)
			b = rest
			switch {
			case f.kind == fb.FrameTypeSubmit, f.kind == fb.FrameTypeCall:
				m.workers[e.Process] = m.reply(m.workers[e.Process], m.result, f)
			case f.kind == fb.FrameTypeResult && e.Process == 1:
				if !m.keep {
					m.driver = m.reply(m.driver, m.release, f)
				}
				m.done++
			}
		}
	}
}

// reply appends a frame about the task of f.
func (m *mill) reply(to, frame []byte, f frame) []byte {
	at := len(to)
	to = append(to, frame...)
	copy(to[at+wire.HeaderSize:at+wire.HeaderSize+wire.TaskIDSize], f.body)
	return to
}

// turn lets everybody send what it has.
func (m *mill) turn() {
	send := func(p int, b []byte) []byte {
		m.batch.Process, m.batch.Bytes = 1, b
		if p > 0 {
			m.batch.Process = m.core.processes[p].id
		}
		m.step(&m.batch)
		return b[:0]
	}
	if len(m.driver) > 0 {
		b := m.driver
		m.driver = spare
		spare = send(0, b)
	}
	for p := 1; p < len(m.core.processes); p++ {
		i := m.core.processes[p].id
		if b := m.workers[i]; len(b) > 0 {
			m.workers[i] = spare
			spare = send(p, b)
		}
	}
}

var spare []byte

// BenchmarkTask is one task through all turns of the core: submit, give to a worker, result, release.
func BenchmarkTask(b *testing.B) { grind(b, newMill(b, false)) }

// BenchmarkCall is one call of an actor, likewise.
func BenchmarkCall(b *testing.B) { grind(b, newMill(b, true)) }

func grind(b *testing.B, m *mill) {
	b.ReportAllocs()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	begin := m.done
	for m.done-begin < b.N {
		m.add(64)
		m.turn()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(m.done-begin), "cpu-ns/task") // what counts where others run, too
}

// A core at work allocates nothing.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, calls := range []bool{false, true} {
		m := newMill(t, calls)
		before := m.done
		const turns = 2000
		allocs := testing.AllocsPerRun(turns, func() {
			m.add(64)
			m.turn()
		})
		tasks := float64(m.done-before) / turns
		if tasks < 60 {
			t.Fatalf("%v tasks a turn: the mill stands still", tasks)
		}
		if allocs/tasks > 0.01 {
			t.Errorf("%v allocations a task (calls: %v), want none", allocs/tasks, calls)
		}
		if err := check(m.core); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkFetches has 10,000 large values come from another node, all of which are on their way at once.
func BenchmarkFetches(b *testing.B) {
	const values = 10_000
	for b.Loop() {
		c := New(Config{Agent: 1, Node: "n1", Store: newLedger(b)})
		c.Step(1, ProcessUp{Process: 1, Kind: Owner, Job: 9, Agent: 2, Node: "n2"}, nil)
		var frames []byte
		for i := range values {
			frames = append(frames, frameOf(b, &fb.ResultT{Task: &fb.TaskIDT{Agent: 2, Process: 1, Counter: uint64(i + 1)}, Flags: uint32(fb.ResultFlagLocated), Size: 1 << 20}, nil)...)
		}
		n := 0
		for _, e := range c.Step(2, &Frames{Process: 1, Bytes: frames}, nil) {
			if e.Do == Fetch {
				c.Step(3, Fetched{Process: 1, Object: e.Object, Why: "it is only counted"}, nil)
				n++
			}
		}
		if n != values {
			b.Fatalf("%d values are fetched", n)
		}
	}
}
