package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// way is an errand of no job between the two agents, by which handles come that were found by name.
type way struct {
	process [2]id.Process // that each is to the other
}

func (p *pair) wayOf(at int, process id.Process) *way {
	for _, k := range p.ways {
		if k.process[at] == process {
			return k
		}
	}
	return nil
}

// openWay opens one that an agent wants to the other.
func (p *pair) openWay(at int) {
	p.last[0]++
	p.last[1]++
	k := &way{p.last}
	if p.down || p.dead {
		p.step(at, ProcessUp{Process: k.process[at], Kind: Host, Agent: id.Agent(2 - at), Node: fmt.Sprint("n", 2-at)})
		p.step(at, ProcessGone{Process: k.process[at], Why: "it can't be had", Cut: !p.dead})
		return
	}
	p.ways = append(p.ways, k)
	p.step(1-at, ProcessUp{Process: k.process[1-at], Kind: Owner, Job: uint32(k.process[1-at]), Agent: id.Agent(at + 1), Node: fmt.Sprint("n", at+1)})
	p.step(at, ProcessUp{Process: k.process[at], Kind: Host, Agent: id.Agent(2 - at)})
}

func (p *pair) cutWay(k *way, why string) {
	p.ways = slices.DeleteFunc(p.ways, func(x *way) bool { return x == k })
	for at, process := range k.process {
		p.step(at, ProcessGone{Process: process, Why: why, Cut: why == connectionLost})
	}
}

// drive attaches a driver of its own job at an agent, which knows the class and the shapes that the pair's first one knows.
func (p *pair) drive(at int) id.Process {
	p.t.Helper()
	p.step(at, Grant{Resources: []Amount{{"CPU", 4 * one}}})
	p.last[at]++
	d := p.last[at]
	p.step(at, ProcessUp{Process: d, Kind: Driver, Job: uint32(d)})
	p.say(at, d, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	p.say(at, d, &fb.MethodsT{Function: numberOf("f"), Names: []string{"m"}}, nil)
	p.say(at, d, &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	return d
}

// make has a process create an actor of a name. It gives the worker in which that is made, 0: it is not.
func (p *pair) make(at int, process id.Process, name string, detached bool) (actor id.Task, worker id.Process) {
	p.t.Helper()
	actor = p.mint(at, process)
	before := p.last[at]
	p.say(at, process, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: uint32(process), Shape: 2, MaxPending: -1,
		Namespace_: "s", Name: name, Detached: detached}, []byte("args"))
	if e := p.cores[at].entries[actor]; e == nil || e.actor == nil || e.actor.worker == nil || p.last[at] == before {
		return actor, 0
	}
	worker = p.cores[at].entries[actor].actor.worker.process.id
	p.say(at, worker, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	return actor, worker
}

// find has a process look for a name. It gives what is said of it: the actor's ID, an error, or "" for nothing yet.
func (p *pair) find(at int, process id.Process, name string) string {
	p.t.Helper()
	p.next++
	p.step(at, &Frames{Process: process, Bytes: numbered(frameOf(p.t, &fb.StateQueryT{What: "actor", Id: "s/" + name}, nil), p.next)})
	return p.found(at, process, p.next)
}

// numbered gives a frame the number of a question.
func numbered(frame []byte, corr uint64) []byte {
	h, _ := wire.ParseHeader(frame)
	h.Corr = corr
	wire.PutHeader(frame, h)
	return frame
}

func (p *pair) found(at int, process id.Process, corr uint64) string {
	for _, f := range p.got[fmt.Sprintf("%c %d", 'a'+at, process)] {
		if f.kind == fb.FrameTypeStateReply && f.corr == corr {
			m, _ := wire.Unmarshal(f.kind, f.body)
			_, text, _ := strings.Cut(string(f.payload), `"id":"`)
			text, _, _ = strings.Cut(text, `"`)
			return text + m.(*fb.StateReplyT).Error
		}
	}
	return ""
}

// invoke calls an actor from a process, and gives the call.
func (p *pair) invoke(at int, process id.Process, actor id.Task) id.Task {
	p.t.Helper()
	t := p.mint(at, process)
	p.say(at, process, &fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(process), Shape: 2, Returns: 1}, []byte("args"))
	return t
}

func (p *pair) toldOf(at int, process id.Process, t id.Task) string {
	return p.told(fmt.Sprintf("%c %d", 'a'+at, process), of(t))
}

// A driver at another node finds an actor by its name, calls and kills it; then the name is free for its own.
func TestNameAtAnotherAgent(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.make(0, 1, "it", false)
	if w == 0 {
		t.Fatal("it is not made")
	}
	if v := p.find(1, d, "it"); v != actor.String() {
		t.Fatalf("the driver finds %q", v)
	}
	call := p.invoke(1, d, actor)
	p.say(0, w, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
	if v := p.toldOf(1, d, call); v != "called" {
		t.Errorf("the caller is told %q", v)
	}
	other, w2 := p.make(1, d, "it", false)
	if v := p.toldOf(1, d, other); w2 != 0 || !strings.HasPrefix(v, "NAME_TAKEN: ") || !strings.Contains(v, "that of node n1") {
		t.Errorf("a second one of that name is told %q", v)
	}
	p.release(1, d, of(other), 0)
	p.say(1, d, &fb.CancelT{Task: taskT(actor), Force: 1}, nil)
	if v := p.toldOf(1, d, p.invoke(1, d, actor)); !strings.HasPrefix(v, "ACTOR_DIED: ") || !strings.Contains(v, "it was killed") {
		t.Errorf("when it was killed the caller is told %q", v)
	}
	if v := p.find(1, d, "it"); !strings.Contains(v, "no actor named \"it\"") {
		t.Errorf("when it was killed the driver finds %q", v)
	}
	if mine, w := p.make(1, d, "it", false); w == 0 || p.find(0, 1, "it") != mine.String() {
		t.Error("the name is not free again")
	}
	if len(p.said) > 2 { // ways that nobody needs any more are closed
		t.Errorf("more was said than is well: %v", p.said)
	}
}

// A handle that came with the answer keeps its actor, ends with the driver that has it, and then nothing is left between the nodes.
func TestNameHeldFromElsewhere(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.make(0, 1, "it", false)
	p.find(1, d, "it")
	p.release(0, 1, of(actor), 0)
	if p.ended(0, w) {
		t.Fatal("a driver elsewhere has a handle, and it ended")
	}
	p.release(1, d, of(actor), 1)
	if !p.ended(0, w) {
		t.Error("nobody has a handle, and it lives")
	}
	if len(p.ways)+len(p.cores[1].hosts) > 0 {
		t.Errorf("nobody has use for it, and %d ways are there", len(p.ways))
	}
	p.empty(1)
}

// What an actor elsewhere keeps of a driver's values is there as long as it needs that, whether the driver has its handle or not.
func TestValuesGivenToAnActorElsewhere(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.make(0, 1, "it", true)
	p.find(1, d, "it")
	put := p.mint(1, d)
	p.say(1, d, &fb.PutT{Object: objectT(of(put))}, []byte("the driver's"))
	call := p.mint(1, d)
	p.say(1, d, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(d), Shape: 2, Returns: 1, Refs: 1}, objectBytes(of(put)))
	p.say(0, w, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("kept"))
	p.release(1, d, of(call), 0)
	p.release(1, d, of(put), 0)
	p.release(1, d, of(actor), 1)
	p.say(0, w, &fb.GetT{Object: objectT(of(put)), Want: fb.WantValue}, nil)
	if v := p.toldOf(0, w, put); v != "the driver's" {
		t.Errorf("later it gets %q", v)
	}
	p.release(0, w, of(put), 1)
	p.empty(1)
	if len(p.ways) > 0 {
		t.Error("nobody has use for the way, and it is there")
	}
}

// An actor that has no name asks the head nothing, and one here is found without it.
func TestNamesAtHomeNeedNoHead(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	actor, _ := p.make(0, 1, "it", false)
	p.mute = true
	if _, w := p.make(0, 1, "", false); w == 0 {
		t.Error("without a name it waits for the head")
	}
	if v := p.find(0, 1, "it"); v != actor.String() {
		t.Errorf("at home the driver finds %q", v)
	}
}

// While the head is away an actor waits for its name, and says so; who looks for one is told after a while that it is not known.
func TestNamesWithoutAHead(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	p.mute = true
	actor, w := p.make(0, 1, "it", false)
	if why := p.cores[0].explainTask(p.cores[0].entries[actor].task); w != 0 || !strings.Contains(why, `the head to say whether the name "s/it" is free`) {
		t.Errorf("it waits for %s", why)
	}
	if v := p.find(0, 1, "it"); v != "" {
		t.Errorf("while it waits the driver finds %q", v)
	}
	waits := p.next
	if v := p.find(0, 1, "other"); v != "" {
		t.Errorf("without a head the driver finds %q", v)
	}
	p.now = p.cores[0].NextDeadline()
	p.step(0, Tick{})
	if v := p.found(0, 1, p.next); p.now != 1e9+headPatience || !strings.Contains(v, "has not answered for 20s") {
		t.Errorf("%v later it is told %q", p.now-1e9, v)
	}
	p.step(0, Named{Actor: actor, Holder: actor, Agent: 1, Node: "n1"})
	if v := p.found(0, 1, waits); v != actor.String() {
		t.Errorf("who waited for it is told %q", v)
	}
}

// Many that look for names at once ask few questions, and all are answered.
func TestManyLookForNames(t *testing.T) {
	p := newPair(t)
	p.mute = true
	var frames []byte
	for i := range 500 {
		frames = append(frames, numbered(frameOf(t, &fb.StateQueryT{What: "actor", Id: fmt.Sprint("s/", i%100)}, nil), uint64(i+1))...)
	}
	step := func(ev Event) []Effect {
		out := p.cores[0].Step(p.now, ev, nil)
		for i := range out {
			out[i].Bytes = slices.Clone(out[i].Bytes)
		}
		return out
	}
	asked, answered := step(&Frames{Process: 1, Bytes: frames}), 0
	for questions := 0; len(asked) > 0; {
		var next []Effect
		for _, e := range asked {
			switch e.Do {
			case Find:
				if questions++; questions > 200 {
					t.Fatal("it asks again and again")
				}
				next = append(next, step(p.names.answer(p.cores[0], e))...)
			case Append:
				for b := e.Bytes; len(b) > 0; {
					f, rest, _ := cut(b)
					b = rest
					if f.kind == fb.FrameTypeStateReply {
						answered++
					}
				}
			}
			if n := len(p.cores[0].finds); n > findsAhead {
				t.Fatalf("%d questions are out", n)
			}
		}
		asked = next
	}
	if answered != 500 || len(p.cores[0].finding)+len(p.cores[0].finds) > 0 {
		t.Errorf("%d of 500 were answered", answered)
	}
}

// A name whose actor is dead, though the head has not heard of that yet, is asked for again.
func TestNameThatIsAboutToBeFree(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.names.holders["s/it"] = holding{id.Task{Agent: 1, Process: 5, Counter: 1}, 1, "n1"}
	actor, w := p.make(1, d, "it", false)
	if why := p.cores[1].explainTask(p.cores[1].entries[actor].task); w != 0 || !strings.Contains(why, "which an actor of node n1 has") {
		t.Errorf("it waits for %s", why)
	}
	delete(p.names.holders, "s/it")
	p.now += 1e9
	p.step(1, Tick{})
	if p.cores[1].entries[actor].actor.worker == nil {
		t.Error("the name is free, and it waits")
	}
	// One that stays taken by nobody is given up.
	p.names.holders["s/that"] = holding{id.Task{Agent: 1, Process: 5, Counter: 2}, 1, "n1"}
	actor, _ = p.make(1, d, "that", false)
	for range 20 {
		p.now += 1e9
		p.step(1, Tick{})
	}
	if v := p.toldOf(1, d, actor); !strings.HasPrefix(v, "NAME_TAKEN: ") {
		t.Errorf("the driver is told %q", v)
	}
}

// Two that ask for a name at once: one has it, the other one's process is told whose it is.
func TestRaceForAName(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	p.mute = true
	first, _ := p.make(0, 1, "it", false)
	second, _ := p.make(1, d, "it", false)
	p.find(1, d, "it")
	corr := p.next
	for at, actor := range []id.Task{first, second} {
		p.step(at, p.names.answer(p.cores[at], Effect{Do: Claim, Group: actor, Name: &Name{Namespace: "s", Name: "it"}}))
		p.mute = false
	}
	if v := p.toldOf(1, d, second); !strings.HasPrefix(v, "NAME_TAKEN: ") {
		t.Errorf("the second is told %q", v)
	}
	if v := p.found(1, d, corr); v != first.String() {
		t.Errorf("who looked for it while it was undecided is told %q", v)
	}
}

// An agent that is lost answers nothing; its handles are of use no more, and name it.
func TestNameOfAnAgentThatIsLost(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, _ := p.make(0, 1, "it", true)
	p.find(1, d, "it")
	call := p.invoke(1, d, actor)
	p.dead = true
	p.cutWay(p.ways[0], "it died")
	for _, c := range []id.Task{call, p.invoke(1, d, actor)} {
		if v := p.toldOf(1, d, c); !strings.HasPrefix(v, "ACTOR_DIED: ") || !strings.Contains(v, "n1") && c == call {
			t.Errorf("the caller is told %q", v)
		}
	}
}

// A handle that came by way of a job, and is found by name, outlives the job.
func TestNameOutlivesTheJobThatBroughtIt(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.step(0, Grant{Resources: []Amount{{"CPU", 4 * one}}})
	actor, w := p.make(0, 1, "it", true)
	task := p.submit(nil, []id.Object{of(actor)})
	p.worker(task)
	if v := p.find(1, d, "it"); v != actor.String() {
		t.Fatalf("the driver finds %q", v)
	}
	p.gone(0, 1, "it ended")
	call := p.invoke(1, d, actor)
	p.say(0, w, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
	if v := p.toldOf(1, d, call); v != "called" {
		t.Errorf("when the job is over the caller is told %q; %v", v, p.said)
	}
}

// A detached actor goes on when a caller is lost whose call it runs.
func TestActorOutlivesItsCallersAgent(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.make(0, 1, "it", true)
	p.find(1, d, "it")
	lost, call := p.invoke(1, d, actor), p.invoke(1, d, actor)
	p.cutWay(p.ways[0], "it is over")
	p.say(0, w, &fb.ResultT{Task: taskT(lost), Flags: uint32(fb.ResultFlagLast)}, []byte("for nobody"))
	p.find(1, d, "it")
	p.step(0, &Frames{Process: p.ways[0].process[0], Bytes: frameOf(t, &fb.ShapeT{Number: 9, Bundle: -1}, nil)})
	p.step(0, &Frames{Process: p.ways[0].process[0], Bytes: frameOf(t, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Shape: 9, Returns: 1}, nil)})
	p.say(0, w, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("done"))
	if p.cores[0].byProcess[w] == nil || len(p.said) > 0 {
		t.Fatalf("it is over: %v", p.said)
	}
	again := p.invoke(1, d, actor)
	p.say(0, w, &fb.ResultT{Task: taskT(again), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
	if v := p.toldOf(1, d, again); v != "called" {
		t.Errorf("then the caller is told %q", v)
	}
}
