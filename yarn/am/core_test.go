package am

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/yarn"
)

var (
	size  = yarn.Resource{MemoryMB: 1024, VCores: 1}
	myApp = yarn.AttemptID{Application: yarn.ApplicationID{Number: 1, ClusterTimestamp: 1}, Number: 2}
)

func granted(ask int64, n int64) yarn.Container {
	return yarn.Container{ID: yarn.ContainerID{Attempt: myApp, Number: n}, Ask: ask, Resource: size}
}

func ended(n int64) yarn.ContainerStatus { return yarn.ContainerStatus{ID: granted(0, n).ID} }

// show writes what a request asks for: ask/name=count, a strict line with a bang.
func show(r allocateRequest) string {
	var out []string
	for _, k := range r.Asks {
		bang := "!"
		if k.Relax {
			bang = ""
		}
		out = append(out, fmt.Sprintf("%d/%s=%d%s", k.Ask, k.Name, k.Count, bang))
	}
	for _, id := range r.Release {
		out = append(out, fmt.Sprintf("-%d", id.Number))
	}
	return strings.Join(out, " ")
}

// exchange sends a heartbeat, checks what it asks for, and brings the answer.
func exchange(t *testing.T, c *core, want string, r allocateResponse) []Event {
	t.Helper()
	req := c.request(0, "")
	if got := show(req); got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	r.Response = req.Response + 1
	return c.answer(r)
}

func TestPlacementOfAnAsk(t *testing.T) {
	for want, a := range map[string]Ask{
		"1/*=3":                                 {},
		"1/h1=3 1/h2=3 1//default-rack=3 1/*=3": {Hosts: []string{"h1", "h2", "h1"}},
		"1/h1=3 1//default-rack=3! 1/*=3!":      {Hosts: []string{"h1"}, Strict: true},
		"1/h1=3 1//a=3! 1//b=3! 1/*=3!":         {Hosts: []string{"h1"}, Racks: []string{"/a", "/b"}, Strict: true},
		"1//a=3 1/*=3":                          {Racks: []string{"/a"}},
		"1//a=3 1/*=3!":                         {Racks: []string{"/a"}, Strict: true},
	} {
		c := newCore(2)
		a.ID, a.Count, a.Resource = 1, 3, size
		c.set(a)
		exchange(t, c, want, allocateResponse{})
		exchange(t, c, "", allocateResponse{}) // said once
	}
}

// AM-1.
func TestCountsAreAbsolute(t *testing.T) {
	c := newCore(2)
	c.set(Ask{ID: 1, Count: 3, Resource: size})
	c.set(Ask{ID: 1, Count: 2, Resource: size})
	c.set(Ask{ID: 2, Count: 1, Resource: size, Priority: 5})
	exchange(t, c, "1/*=2 2/*=1", allocateResponse{})
	// YARN lowers its counts by what it grants: nothing is to be said about that.
	events := exchange(t, c, "", allocateResponse{Granted: []yarn.Container{granted(1, 10), granted(2, 11)}})
	if len(events) != 2 || events[0].(Granted).Container.ID.Number != 10 {
		t.Errorf("%+v", events)
	}
	// Three more are wanted, while YARN, which does not know that yet, grants one of before: the count
	// that was on its way is put right.
	c.set(Ask{ID: 1, Count: 3, Resource: size})
	exchange(t, c, "1/*=3", allocateResponse{Granted: []yarn.Container{granted(1, 12)}})
	exchange(t, c, "1/*=2", allocateResponse{})
	// Taken back; what comes all the same is given back and not told.
	c.set(Ask{ID: 1, Resource: size})
	if events := exchange(t, c, "1/*=0", allocateResponse{Granted: []yarn.Container{granted(1, 13)}}); len(events) != 0 {
		t.Errorf("%+v", events)
	}
	if events := exchange(t, c, "-13", allocateResponse{Ended: []yarn.ContainerStatus{ended(13)}}); len(events) != 0 || c.wanting() || len(c.asks) != 0 {
		t.Errorf("%+v", events)
	}
	c.set(Ask{ID: 9, Resource: size}) // nothing of what was never asked for
	exchange(t, c, "", allocateResponse{})
}

func TestAskThatMoves(t *testing.T) {
	c := newCore(2)
	c.set(Ask{ID: 1, Count: 2, Resource: size, Hosts: []string{"h1"}, Racks: []string{"/a"}})
	exchange(t, c, "1/h1=2 1//a=2 1/*=2", allocateResponse{})
	c.set(Ask{ID: 1, Count: 2, Resource: size, Hosts: []string{"h2"}, Racks: []string{"/a"}})
	exchange(t, c, "1/h2=2 1//a=2 1/*=2 1/h1=0", allocateResponse{})
}

// AM-2: nothing is lost with a request, nor with a ResourceManager.
func TestWhatIsLostIsSentAgain(t *testing.T) {
	c := newCore(2)
	c.set(Ask{ID: 1, Count: 3, Resource: size})
	c.request(0, "")
	c.lost()
	exchange(t, c, "1/*=3", allocateResponse{Granted: []yarn.Container{granted(1, 10)}})
	c.release(granted(1, 10).ID)
	c.release(granted(1, 10).ID)
	c.request(0, "")
	c.lost()
	exchange(t, c, "1/*=2 -10", allocateResponse{})
	c.resync()
	if r := c.request(0, ""); r.Response != 0 || show(r) != "1/*=2 -10" {
		t.Errorf("%+v", r)
	}
	c.answer(allocateResponse{Response: 1, Ended: []yarn.ContainerStatus{ended(10)}})
	exchange(t, c, "", allocateResponse{})
	if c.response != 2 {
		t.Error("the answer's number is not kept")
	}
	c.resync()
	exchange(t, c, "1/*=2", allocateResponse{})
}

// AM-3.
func TestEndsAreToldOnce(t *testing.T) {
	c := newCore(2)
	before := yarn.ContainerID{Attempt: yarn.AttemptID{Application: myApp.Application, Number: 1}, Number: 4}
	c.registered(Registered{Containers: []yarn.Container{{ID: before}}})
	c.set(Ask{ID: 1, Count: 1, Resource: size})
	exchange(t, c, "1/*=1", allocateResponse{Granted: []yarn.Container{granted(1, 10)}})
	done := allocateResponse{Ended: []yarn.ContainerStatus{ended(10), {ID: before}}}
	if events := exchange(t, c, "1/*=0", done); len(events) != 2 {
		t.Errorf("%+v", events)
	}
	c.resync()
	if events := exchange(t, c, "", allocateResponse{Ended: []yarn.ContainerStatus{ended(10)}}); len(events) != 0 {
		t.Errorf("again: %+v", events)
	}
}

// AM-7.
func TestFoundOnce(t *testing.T) {
	before := func(n int64) yarn.Container {
		return yarn.Container{ID: yarn.ContainerID{Attempt: yarn.AttemptID{Application: myApp.Application, Number: 1}, Number: n}}
	}
	told := func(events []Event) (out []int64) {
		for _, e := range events {
			out = append(out, e.(Found).Container.ID.Number)
		}
		return out
	}
	c := newCore(2)
	c.registered(Registered{Containers: []yarn.Container{before(2)}})
	c.release(before(3).ID)
	all := []yarn.Container{before(2), before(3), before(4)}
	if got := told(exchange(t, c, "-3", allocateResponse{Previous: all})); !reflect.DeepEqual(got, []int64{4}) {
		t.Errorf("found %v", got)
	}
	c.resync()
	if got := told(c.registered(Registered{Containers: append(all, before(5))})); !reflect.DeepEqual(got, []int64{5}) {
		t.Errorf("found %v", got)
	}
	if events := exchange(t, c, "-3", allocateResponse{Previous: all, Ended: []yarn.ContainerStatus{{ID: before(4).ID}}}); len(events) != 1 {
		t.Errorf("%+v", events)
	}
}

// AM-4.
func TestRefusedAsks(t *testing.T) {
	c := newCore(2)
	c.set(Ask{ID: 1, Count: 1, Resource: size})
	exchange(t, c, "1/*=1", allocateResponse{})
	c.set(Ask{ID: 2, Count: 1, Resource: size})
	c.request(0, "")
	if gone := c.refused(); len(gone) != 1 || gone[0].ID != 2 {
		t.Errorf("%+v", gone)
	}
	c.resync()
	exchange(t, c, "1/*=1", allocateResponse{})
}

func TestBlacklist(t *testing.T) {
	c := newCore(2)
	c.setAvoided([]string{"h1", "h2"})
	c.request(0, "")
	c.lost()
	if r := c.request(0, ""); !reflect.DeepEqual(r.Blacklist, &blacklist{Add: []string{"h1", "h2"}}) {
		t.Errorf("%+v", r.Blacklist)
	}
	c.answer(allocateResponse{Response: 1})
	c.setAvoided([]string{"h2"})
	if r := c.request(0, ""); !reflect.DeepEqual(r.Blacklist, &blacklist{Add: []string{"h2"}, Remove: []string{"h1"}}) {
		t.Errorf("%+v", r.Blacklist)
	}
	c.answer(allocateResponse{Response: 2})
	if r := c.request(0, ""); r.Blacklist != nil {
		t.Error("said again")
	}
	c.resync()
	if r := c.request(0, ""); r.Blacklist == nil || len(r.Blacklist.Add) != 1 {
		t.Errorf("%+v", r.Blacklist)
	}
}

func TestWarnings(t *testing.T) {
	c := newCore(2)
	var p preemption
	p.Strict = &struct {
		Containers []preempted `pb:"1"`
	}{[]preempted{{granted(0, 1).ID}}}
	p.Contract = &struct {
		Wanted []struct {
			Request resourceRequest `pb:"1"`
		} `pb:"1"`
		Containers []preempted `pb:"2"`
	}{Containers: []preempted{{granted(0, 2).ID}}}
	p.Contract.Wanted = append(p.Contract.Wanted, struct {
		Request resourceRequest `pb:"1"`
	}{resourceRequest{Resource: size, Count: 2}})
	events := exchange(t, c, "", allocateResponse{Preempt: &p, Nodes: []yarn.Node{{State: yarn.NodeDecommissioning, Leaves: 60}}})
	want := []Event{
		NodeChanged{yarn.Node{State: yarn.NodeDecommissioning, Leaves: 60}},
		PreemptionWarning{[]yarn.ContainerID{granted(0, 1).ID}, []yarn.ContainerID{granted(0, 2).ID}, []Wanted{{size, 2}}},
	}
	if !reflect.DeepEqual(events, want) {
		t.Errorf("%+v", events)
	}
}
