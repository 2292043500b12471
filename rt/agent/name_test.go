package agent

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Names that this agent has or asks for are told to a head that takes it in anew; what it gave back, or did not get, is not.
func TestNamesAreToldAgain(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1))
	actor := func(n uint64) *fb.TaskIDT { return taskT(id.Task{Agent: 7, Process: 1, Counter: n}) }
	claim := func(n uint64, name string) FromClient {
		return FromClient{Process: 1, M: &fb.NameClaimT{Actor: actor(n), Name: name}}
	}
	free := func(n uint64) FromClient { return FromClient{Process: 1, M: &fb.NameFreeT{Actor: actor(n)}} }
	w.do(claim(1, "a")).want("head NameClaim a of 7.1.1")
	w.head(&fb.NameClaimedT{Actor: actor(1), Holder: actor(1)}).want("client 1 NameClaimed of 7.1.1 by 7.1.1")
	w.do(claim(2, "b"), claim(3, "c"), claim(4, "a")).want("head NameClaim b of 7.1.2", "head NameClaim c of 7.1.3", "head NameClaim a of 7.1.4")
	w.do(free(3)).want("head NameFree of 7.1.3")
	w.head(&fb.NameClaimedT{Actor: actor(3), Holder: actor(3)}).want() // given back before
	w.head(&fb.NameClaimedT{Actor: actor(4), Holder: actor(1)}).want("client 1 NameClaimed of 7.1.4 by 7.1.1")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2}).has("head NameClaim b of 7.1.2")
	w.do(claim(5, "e")).want("head NameClaim e of 7.1.5") // Register is before it
	w.do(claim(1, "a")).want("head NameClaim a of 7.1.1") // more of the same
	w.c.relay.names[0].m.Spec = []byte("which the head has")
	told := w.c.register().Names
	if len(told) != 1 || told[0].Name != "a" || len(told[0].Spec) > 0 {
		t.Errorf("a new head is told of %v", told)
	}
}
