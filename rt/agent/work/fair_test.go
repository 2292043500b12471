package work

import (
	"container/heap"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// fair is a core whose workers do nothing but take a task's time, so long as its function says.
type fair struct {
	t       *testing.T
	core    *Core
	now     int64
	last    id.Process
	jobs    map[id.Process]uint32 // of processes
	next    map[id.Process]uint64
	length  map[uint64]int64 // of functions' tasks
	ends    ends
	inbox   map[id.Process][]*fb.SubmitT // of workers; the first one runs
	running map[uint32]int               // by job
	done    map[uint32]int
	worked  map[uint32]int64
	needs   []uint64
}

// ends is a heap of what happens at workers.
type ends []struct {
	at     int64
	worker id.Process
}

func (e ends) Len() int { return len(e) }
func (e ends) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].worker < e[j].worker
}
func (e ends) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any) {
	*e = append(*e, x.(struct {
		at     int64
		worker id.Process
	}))
}
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newFair(t *testing.T, cpus int64) *fair {
	f := &fair{t: t, core: New(Config{Agent: agentNumber, Node: "n1"}), now: 1e9, jobs: map[id.Process]uint32{}, next: map[id.Process]uint64{}, length: map[uint64]int64{},
		inbox: map[id.Process][]*fb.SubmitT{}, running: map[uint32]int{}, done: map[uint32]int{}, worked: map[uint32]int64{}}
	f.step(Grant{Resources: []Amount{{"CPU", cpus * one}}})
	return f
}

func (f *fair) step(ev Event) {
	f.t.Helper()
	for _, e := range f.core.Step(f.now, ev, nil) {
		switch e.Do {
		case NeedWorker:
			f.needs = append(f.needs, e.Key)
		case Append:
			for b := e.Bytes; len(b) > 0; {
				x, rest, _ := cut(b)
				b = rest
				if x.kind == fb.FrameTypeSubmit {
					m, _ := wire.Unmarshal(x.kind, x.body)
					f.give(e.Process, m.(*fb.SubmitT))
				}
			}
		}
	}
	for len(f.needs) > 0 {
		key := f.needs[0]
		f.needs = f.needs[1:]
		f.last++
		f.jobs[f.last] = f.core.workerOf(key).job.number
		f.step(ProcessUp{Process: f.last, Kind: Worker, Key: key})
	}
}

func (f *fair) give(worker id.Process, m *fb.SubmitT) {
	f.inbox[worker] = append(f.inbox[worker], m)
	if len(f.inbox[worker]) == 1 {
		f.begin(worker)
	}
}

func (f *fair) begin(worker id.Process) {
	f.running[f.jobs[worker]]++
	heap.Push(&f.ends, struct {
		at     int64
		worker id.Process
	}{f.now + f.length[f.inbox[worker][0].Function], worker})
}

// pass lets time go by.
func (f *fair) pass(d time.Duration) {
	f.t.Helper()
	defer func() {
		if err := check(f.core); err != nil {
			f.t.Fatal(err)
		}
	}()
	for end := f.now + int64(d); ; {
		at := min(f.core.NextDeadline(), end)
		if len(f.ends) > 0 {
			at = min(at, f.ends[0].at)
		}
		f.now = max(f.now, at)
		switch {
		case len(f.ends) > 0 && f.ends[0].at <= f.now:
			w := f.ends[0].worker
			heap.Pop(&f.ends)
			m, job := f.inbox[w][0], f.jobs[w]
			f.inbox[w] = f.inbox[w][1:]
			f.running[job]--
			f.done[job]++
			f.worked[job] += f.length[m.Function]
			if len(f.inbox[w]) > 0 {
				f.begin(w)
			}
			f.say(w, &fb.ResultT{Task: m.Task, Flags: uint32(fb.ResultFlagLast), CpuTime: uint64(f.length[m.Function])}, nil)
		case f.now >= end:
			return
		default:
			f.step(Tick{})
		}
	}
}

func (f *fair) say(p id.Process, m wire.Message, payload []byte) {
	f.t.Helper()
	f.step(&Frames{Process: p, Bytes: frameOf(f.t, m, payload)})
}

// driver comes, with functions of these lengths.
func (f *fair) driver(lengths ...time.Duration) id.Process {
	f.last++
	p := f.last
	f.jobs[p] = uint32(p)
	f.step(ProcessUp{Process: p, Kind: Driver, Job: uint32(p)})
	for _, d := range lengths {
		f.length[numberOf(d.String())] = int64(d)
		f.say(p, &fb.FunctionT{Hash: hashOf(d.String()), Name: d.String(), Language: "python"}, nil)
	}
	return p
}

// submit sends n tasks of a length, each of which needs so many CPUs.
func (f *fair) submit(p id.Process, n int, d time.Duration, shape uint32, cpus int64) {
	f.t.Helper()
	if x := f.core.byProcess[p]; x.shape(shape) == nil {
		f.say(p, &fb.ShapeT{Number: shape, Bundle: -1, Retries: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: cpus * one}}}, nil)
	}
	for range n {
		f.next[p]++
		f.say(p, &fb.SubmitT{Task: taskT(id.Task{Agent: agentNumber, Process: p, Counter: f.next[p]}), Parent: &fb.TaskIDT{}, Function: numberOf(d.String()), Job: f.jobs[p], Shape: shape, Returns: 1}, nil)
	}
}

// WORK-6: who comes later has its share at once, be ever so much before it.
func TestALateDriver(t *testing.T) {
	f := newFair(t, 4)
	first := f.driver(20 * time.Millisecond)
	f.submit(first, 5000, 20*time.Millisecond, 1, 1)
	f.pass(100 * time.Millisecond)
	second := f.driver(20 * time.Millisecond)
	f.submit(second, 10, 20*time.Millisecond, 1, 1)
	f.pass(25 * time.Millisecond)
	if n := f.running[uint32(second)]; n != 2 {
		t.Errorf("of four CPUs it has %d a task's time after it came", n)
	}
	f.pass(105 * time.Millisecond)
	if n := f.done[uint32(second)]; n != 10 {
		t.Errorf("%d of its 10 tasks are done", n)
	}
}

// Shares are those of CPUs, not of turns: long tasks get no more than short ones, nor tasks of many kinds than those of one.
func TestSharesOfJobs(t *testing.T) {
	f := newFair(t, 8)
	long, short := f.driver(time.Second), f.driver(20*time.Millisecond)
	f.submit(long, 200, time.Second, 1, 1)
	f.submit(short, 3000, 20*time.Millisecond, 1, 1)
	f.pass(10 * time.Second)
	a, b := f.worked[uint32(long)], f.worked[uint32(short)]
	if a < 30e9 || b < 30e9 {
		t.Errorf("of 80 s long tasks had %v, short ones %v", time.Duration(a), time.Duration(b))
	}
	f = newFair(t, 8)
	many, one := f.driver(400*time.Millisecond), f.driver(400*time.Millisecond)
	for k := range 60 {
		f.submit(many, 10, 400*time.Millisecond, uint32(1+k), int64(1+k%3))
	}
	f.submit(one, 600, 400*time.Millisecond, 1, 1)
	f.pass(20 * time.Second)
	held := int64(0)
	for _, j := range f.core.jobs {
		if j.number == uint32(many) {
			held = j.held[resCPU] / 10_000
		}
	}
	if n := f.worked[uint32(one)]; n < 50e9 || n > 110e9 || held < 2 {
		t.Errorf("of 160 s the job of one kind had %v; the other has %d CPUs now", time.Duration(n), held)
	}
}

// What needs much is not kept from starting for ever by a job of small tasks, nor by its own.
func TestALargeTaskAmongSmallOnes(t *testing.T) {
	f := newFair(t, 4)
	small, large := f.driver(30*time.Millisecond), f.driver(30*time.Millisecond, 500*time.Millisecond)
	f.submit(small, 3000, 30*time.Millisecond, 1, 1)
	f.submit(large, 3000, 30*time.Millisecond, 1, 1)
	f.submit(large, 3, 500*time.Millisecond, 2, 4)
	f.pass(10 * time.Second)
	for _, j := range f.core.jobs {
		for _, cl := range j.active {
			if j.number == uint32(large) && cl.need.cpu == 4*10_000 {
				t.Errorf("%d of 3 large tasks have not begun; %s", cl.queue.n, f.core.explainTask(cl.queue.head))
			}
		}
	}
	if n := f.done[uint32(small)]; n < 300 {
		t.Errorf("of small ones %d are done", n)
	}
}

// On what was recalled nothing starts any more; what runs there ends as ever. So much less of the node is lent out again.
func TestWhatWasRecalled(t *testing.T) {
	p, lent := newNodes(t)
	end := func(task id.Task) {
		p.now += int64(time.Second)
		p.say(0, p.cores[0].entries[task].task.worker.process.id, &fb.ResultT{Task: taskT(task), Flags: uint32(fb.ResultFlagLast)}, nil)
	}
	shape := &fb.ShapeT{Number: 3}
	here, there, next := p.shaped(shape), p.shaped(shape), p.shaped(shape)
	p.step(0, Place{Group: lent, Recalled: true})
	if u := p.cores[0].Uses(lent); len(u) != 1 || u[0].Stays || !strings.HasPrefix(u[0].Name, "f (") {
		t.Errorf("the lent place is used by %+v", u)
	}
	p.result(there, nil, "done")
	if why := p.at(next); !strings.Contains(why, "0 of 1 CPU are free") || !strings.Contains(why, "node n2 was recalled") || len(p.cores[0].Wants().Lent) > 0 {
		t.Errorf("on a place that was recalled: %s", why)
	}
	p.step(0, Grant{Resources: []Amount{{"CPU", 0}}})
	end(here)
	if why := p.at(next); why == "here" || why == "there" {
		t.Errorf("where nothing is left it is %s", why)
	}
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	if at := p.at(next); at != "here" {
		t.Errorf("with a CPU again it is %s", at)
	}
	fifth := p.shaped(shape)
	p.step(0, Grant{Group: id.Task{Agent: 1, Process: 2, Counter: 77}, Resources: []Amount{{"CPU", one}}, Open: true})
	if at := p.at(fifth); at != "here" {
		t.Errorf("on what was lent of its own node it is %s", at)
	}
	p.step(0, Grant{Group: id.Task{Agent: 1, Process: 2, Counter: 77}, Recalled: true})
	sixth := p.shaped(shape)
	end(fifth)
	if why := p.at(sixth); !strings.Contains(why, "was recalled") || fmt.Sprint(p.cores[0].Wants().Lent) != "[]" {
		t.Errorf("on what was recalled of its own node: %s", why)
	}
}
