package agent

import (
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/rt/device"
)

// A fabric that is reached by addresses goes by one of each interface that was named, and by the first of the node where none was.
func TestHostsOfAFabric(t *testing.T) {
	facts := &device.Facts{Interfaces: []device.Interface{{Name: "ib0", Addresses: []string{"10.0.0.1", "fd00::1"}}, {Name: "ib1"}, {Name: "eth0", Addresses: []string{"192.0.2.1"}}}}
	for _, c := range []struct{ named, want []string }{
		{nil, []string{"10.0.0.1"}},
		{[]string{"ib*", "eth0"}, []string{"10.0.0.1", "192.0.2.1"}},
	} {
		if got := fabricHosts(facts, c.named); !slices.Equal(got, c.want) {
			t.Errorf("--interface %q: %q, want %q", c.named, got, c.want)
		}
	}
}

// By itself none is opened where there is no card, nor where that was forbidden.
func TestWishForAFabric(t *testing.T) {
	for name, want := range map[string]bool{"off": false, "tcp": true, "verbs": true} {
		if wish, is := fabricWish(&Config{Fabric: name, Hosts: []string{"10.0.0.1"}}); is != want || is && (wish.Provider != name || len(wish.Hosts) != 1) {
			t.Errorf("--fabric %s: %+v, %v", name, wish, is)
		}
	}
}
