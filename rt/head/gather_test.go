package head

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What only agents know the head asks them for: it answers once all have, or their time is over, and names who has not.
func TestStoresOfAllNodes(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2", "n3", "n4"}})
	agents := []id.Agent{}
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		agents = append(agents, id.Agent(w.join(name, "CPU=4", 0).number))
	}
	w.settle()
	w.step(LinkDown{agents[3], "EOF"})
	step := func(ev Event) (sent []Send) {
		for _, e := range w.core.Step(w.now, ev, nil) {
			if s, ok := e.(Send); ok {
				switch s.Msg.(type) {
				case *fb.StateQueryT, *fb.StateReplyT:
					sent = append(sent, s)
				}
			}
		}
		return sent
	}
	ask := func() []Send {
		return step(FromAgent{Agent: agents[0], Msg: &fb.StateQueryT{What: "stores"}, Corr: 77})
	}
	asked := ask()
	if len(asked) != 3 || asked[1].Agent != agents[1] || asked[1].Msg.(*fb.StateQueryT).What != "memory" || asked[0].Corr != asked[2].Corr {
		t.Fatalf("asked: %+v", asked)
	}
	answer := func(of id.Agent, payload, fault string, corr uint64) []Send {
		return step(FromAgent{Agent: of, Msg: &fb.StateReplyT{Error: fault}, Corr: corr, Payload: []byte(payload)})
	}
	corr := asked[0].Corr
	for _, out := range [][]Send{
		answer(agents[0], `{"version":1,"store":{"used":7}}`, "", corr), answer(agents[0], `{"store":{"used":8}}`, "", corr),
		answer(agents[1], `{`, "", corr), answer(agents[2], `{}`, "", corr+1),
	} {
		if len(out) > 0 {
			t.Fatalf("answered before all have: %+v", out)
		}
	}
	w.now += int64(gatherWait)
	out := step(Tick{})
	if len(out) != 1 || out[0].Agent != agents[0] || out[0].Corr != 77 {
		t.Fatalf("%+v", out)
	}
	var reply struct {
		Version int
		Nodes   []jsonTold
	}
	if err := json.Unmarshal(out[0].Payload, &reply); err != nil || len(reply.Nodes) != 4 || reply.Version != stateVersion {
		t.Fatalf("%v: %s", err, out[0].Payload)
	}
	if n := reply.Nodes[0]; n.Name != "n1" || string(n.Store) != `{"used":7}` || n.Error != "" {
		t.Errorf("n1: %+v", n)
	}
	for i, want := range []string{1: "can't be read", 2: "has not answered for 2s", 3: "it is paused"} {
		if !strings.Contains(reply.Nodes[i].Error, want) {
			t.Errorf("n%d: %+v", i+1, reply.Nodes[i])
		}
	}
	if out := answer(agents[2], `{}`, "", corr); len(out) > 0 || len(w.core.gathers) > 0 {
		t.Errorf("an answer that comes late: %+v", out)
	}
	for range maxGathers {
		ask()
	}
	if out := ask(); len(out) != 1 || !strings.Contains(out[0].Msg.(*fb.StateReplyT).Error, "too many") {
		t.Errorf("%+v", out)
	}
	w.now += int64(time.Minute)
	if out := step(Tick{}); len(out) != maxGathers {
		t.Errorf("%d answers", len(out))
	}
}

// Who is attached as a driver is asked of all agents, too.
func TestDriversOfAllNodes(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2"}})
	first, second := id.Agent(w.join("n1", "CPU=4", 0).number), id.Agent(w.join("n2", "CPU=4", 0).number)
	w.settle()
	var out []Send
	step := func(ev Event) {
		out = nil
		for _, e := range w.core.Step(w.now, ev, nil) {
			if s, ok := e.(Send); ok {
				out = append(out, s)
			}
		}
	}
	step(FromAgent{Agent: first, Msg: &fb.StateQueryT{What: "drivers"}, Corr: 5})
	if len(out) != 2 || out[1].Agent != second || out[1].Msg.(*fb.StateQueryT).What != "drivers" {
		t.Fatalf("asked: %+v", out)
	}
	step(FromAgent{Agent: second, Msg: &fb.StateReplyT{}, Corr: out[0].Corr, Payload: []byte(`{"version":1,"drivers":{"attached":[{"name":"a.py","pid":7,"job":3}]}}`)})
	w.now += int64(gatherWait)
	step(Tick{})
	want := `{"version":1,"nodes":[{"name":"n1","error":"its agent has not answered for 2s"},{"name":"n2","drivers":{"attached":[{"name":"a.py","pid":7,"job":3}]}}]}`
	if len(out) != 1 || out[0].Corr != 5 || string(out[0].Payload) != want {
		t.Errorf("%+v, want %s", out, want)
	}
}

// A node that is being drained tells who uses it, and nothing else. One that is gone does not.
func TestDriversOfADrainingNode(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2", "n3"}})
	first, second := id.Agent(w.join("n1", "CPU=4", 0).number), id.Agent(w.join("n2", "CPU=4", 0).number)
	third := id.Agent(w.join("n3", "CPU=4", 0).number)
	w.settle()
	w.step(FromAgent{Agent: first, Msg: &fb.NodeDrainT{Node: "n2", Reason: "a test"}})
	w.step(LinkDown{third, "EOF"})
	for _, tt := range []struct {
		what string
		want []id.Agent
	}{{"drivers", []id.Agent{first, second}}, {"stores", []id.Agent{first}}, {"devices", []id.Agent{first}}} {
		var asked []id.Agent
		for _, e := range w.core.Step(w.now, FromAgent{Agent: first, Msg: &fb.StateQueryT{What: tt.what}, Corr: 5}, nil) {
			if s, ok := e.(Send); ok {
				asked = append(asked, s.Agent)
			}
		}
		if !slices.Equal(asked, tt.want) {
			t.Errorf("%s: asked %v, want %v", tt.what, asked, tt.want)
		}
	}
}

// What drivers say of devices is gathered likewise, with more time, as the agents had it.
func TestDevicesOfAllNodes(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2"}})
	first, second := id.Agent(w.join("n1", "CPU=4", 0).number), id.Agent(w.join("n2", "CPU=4", 0).number)
	w.settle()
	var out []Send
	step := func(ev Event) {
		out = nil
		for _, e := range w.core.Step(w.now, ev, nil) {
			if s, ok := e.(Send); ok {
				out = append(out, s)
			}
		}
	}
	step(FromAgent{Agent: first, Msg: &fb.StateQueryT{What: "devices"}, Corr: 5})
	if len(out) != 2 || out[0].Msg.(*fb.StateQueryT).What != "devices" {
		t.Fatalf("asked: %+v", out)
	}
	corr := out[0].Corr
	w.now += int64(gatherWait)
	step(Tick{})
	for _, s := range out {
		if _, ok := s.Msg.(*fb.StateReplyT); ok {
			t.Fatalf("answered while drivers may wake up: %+v", s)
		}
	}
	step(FromAgent{Agent: second, Msg: &fb.StateReplyT{}, Corr: corr, Payload: []byte(`{"version":1,"devices":{"gpus":[{"id":"GPU-x"}]}}`)})
	step(FromAgent{Agent: first, Msg: &fb.StateReplyT{Error: "no driver"}, Corr: corr})
	want := `{"version":1,"nodes":[{"name":"n1","error":"no driver"},{"name":"n2","devices":{"gpus":[{"id":"GPU-x"}]}}]}`
	if len(out) != 1 || out[0].Corr != 5 || string(out[0].Payload) != want {
		t.Errorf("%+v, want %s", out, want)
	}
}

// Who asks for more than goes, or for nonsense, is told so; a way is asked of who reads, with where the other one is.
func TestWays(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2"}})
	first, second := id.Agent(w.join("n1", "CPU=4", 0).number), id.Agent(w.join("n2", "CPU=4", 0).number)
	w.settle()
	ask := func(question string) (out []Send) {
		for _, e := range w.core.Step(w.now, FromAgent{Agent: first, Msg: &fb.StateQueryT{What: "ways", Id: question}, Corr: 5}, nil) {
			if s, ok := e.(Send); ok {
				out = append(out, s)
			}
		}
		return out
	}
	for _, question := range []string{"", "[]", `{"pairs": [["n1"]], "ms": -1}`, `{"ms": 10001}`, `{"pairs": [` + strings.Repeat(`["a","b"],`, maxPairs) + `["a","b"]]}`} {
		if out := ask(question); len(out) != 1 || !strings.HasPrefix(out[0].Msg.(*fb.StateReplyT).Error, "head: ways: ") {
			t.Errorf("%.40s: %+v", question, out)
		}
	}
	out := ask(`{"pairs": [["n1", "n2"]], "ms": 100}`)
	if len(out) != 1 || out[0].Agent != second || out[0].Msg.(*fb.StateQueryT).What != "way" {
		t.Fatalf("%+v", out)
	}
	var q struct {
		Agent     id.Agent
		Addresses []string
		MS        int
	}
	if err := json.Unmarshal([]byte(out[0].Msg.(*fb.StateQueryT).Id), &q); err != nil || q.Agent != first || q.MS != 100 {
		t.Errorf("%+v, %v", q, err)
	}
}

// What nothing uses is what the ledger has left and what agents have of it and do not use; what one does not tell of counts as used.
func TestFreeOfAllNodes(t *testing.T) {
	w := newWorld(t, Config{Name: "demo", Expect: []string{"n1", "n2"}})
	a := w.join("n1", "CPU=4", 0)
	first, second := id.Agent(a.number), id.Agent(w.join("n2", "CPU=4", 0).number)
	w.settle()
	a.outbox = append(a.outbox, &fb.GroupCreateT{Group: wireTask(id.Task{Agent: first, Process: 1, Counter: 7}), Lease: true, Wait: int64(time.Second),
		Bundles: []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 30_000}}, Labels: []*fb.LabelT{{Key: placement.LabelNode, Value: "n1"}}}}})
	w.settle()
	var out []Send
	step := func(ev Event) {
		out = nil
		for _, e := range w.core.Step(w.now, ev, nil) {
			if s, ok := e.(Send); ok {
				out = append(out, s)
			}
		}
	}
	ask := func() uint64 {
		t.Helper()
		step(FromAgent{Agent: first, Msg: &fb.StateQueryT{What: "free"}, Corr: 5})
		return out[0].Corr
	}
	answer := func(corr uint64, at id.Agent, idle string) {
		step(FromAgent{Agent: at, Msg: &fb.StateReplyT{}, Corr: corr, Payload: []byte(`{"version":1,"idle":` + idle + `}`)})
	}
	said := func(n1, n2 float64) {
		t.Helper()
		var reply struct{ Nodes []jsonNode }
		if len(out) != 1 || out[0].Corr != 5 || json.Unmarshal(out[0].Payload, &reply) != nil || len(reply.Nodes) != 2 {
			t.Fatalf("answered: %+v", out)
		}
		if a, b := reply.Nodes[0].Free["CPU"], reply.Nodes[1].Free["CPU"]; a != n1 || b != n2 {
			t.Errorf("free are %v and %v, not %v and %v", a, b, n1, n2)
		}
	}
	corr := ask()
	if out[0].Msg.(*fb.StateQueryT).What != "idle" || len(out) != 2 {
		t.Fatalf("asked: %+v", out)
	}
	answer(corr, first, `{"n1":{"CPU":2},"n2":{"CPU":9,"x":1},"n3":{"CPU":1}}`)
	answer(corr, second, `[]`)
	said(3, 4)
	ask()
	w.now += int64(gatherWait)
	step(Tick{})
	said(1, 4)
	for range maxGathers / 2 {
		ask()
	}
	step(FromAgent{Agent: first, Msg: &fb.StateQueryT{What: "free"}, Corr: 5})
	said(1, 4)
}
