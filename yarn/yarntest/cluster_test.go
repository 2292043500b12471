package yarntest_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
	"github.com/maniple-hpc/maniple/yarn/nm"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

// TEST-1.
func TestTokensAreChecked(t *testing.T) {
	c := yarntest.New(t, yarn.Resource{MemoryMB: 1024, VCores: 1})
	token, attempt := c.Master(c.Application())
	for name, forge := range map[string]func(*yarn.Token){
		"no password": func(t *yarn.Token) { t.Password = nil }, "another identifier": func(t *yarn.Token) { t.Identifier = []byte{1} },
	} {
		bad := token
		forge(&bad)
		if _, err := am.Register(t.Context(), am.Config{Schedulers: []string{c.Scheduler()}, Token: bad, Attempt: attempt}); !errors.Is(err, yarn.ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n, err := nm.New(nm.Config{Token: func(yarn.NodeID) (yarn.Token, bool) { return token, true }})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Status(t.Context(), c.Nodes()[0].ID); !errors.Is(err, yarn.ErrCredentials) {
		t.Error("a NodeManager took the token of a master:", err)
	}
}

// TEST-2: no more is granted than asked for, nor than there is room for, nor elsewhere than where it may be.
func TestGrants(t *testing.T) {
	c := yarntest.New(t, yarn.Resource{MemoryMB: 1000, VCores: 8}, yarn.Resource{MemoryMB: 1000, VCores: 8})
	token, attempt := c.Master(c.Application())
	got := make(chan yarn.Container, 100)
	m, err := am.Register(t.Context(), am.Config{
		Schedulers: []string{c.Scheduler()}, Token: token, Attempt: attempt, Interval: 4 * time.Millisecond,
		OnEvent: func(e am.Event) {
			if g, ok := e.(am.Granted); ok {
				got <- g.Container
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	half := yarn.Resource{MemoryMB: 500, VCores: 1}
	if err := errors.Join(
		m.Set(am.Ask{ID: 1, Count: 1, Resource: half, Hosts: []string{"elsewhere"}, Strict: true}),
		m.Set(am.Ask{ID: 2, Count: 3, Resource: half, Hosts: []string{"127.0.0.1"}}),
		m.Set(am.Ask{ID: 3, Count: 9, Resource: half, Hosts: []string{"elsewhere"}}),
	); err != nil {
		t.Fatal(err)
	}
	count := map[int64]int{}
	for range 4 {
		count[(<-got).Ask]++
	}
	for n := c.Calls("allocate"); c.Calls("allocate") < n+5; { // a few heartbeats more
		runtime.Gosched()
		if _, nodes := m.Headroom(); nodes != 2 {
			t.Fatal(nodes)
		}
	}
	if count[2] != 3 || count[3] != 1 || len(got) != 0 {
		t.Error(count, len(got))
	}
}
