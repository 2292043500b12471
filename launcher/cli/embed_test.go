package cli

import (
	"reflect"
	"testing"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Ranks may share cores; a node of this machine stays what it is otherwise.
func TestStretch(t *testing.T) {
	for _, tt := range []struct {
		node bootdoc.Node
		fake int
		want bootdoc.Node
	}{
		{bootdoc.Node{}, 0, bootdoc.Node{MinCPUs: 4}},
		{bootdoc.Node{CPUs: 2, GPUs: 1, Fake: true}, 1, bootdoc.Node{CPUs: 4, GPUs: 1, Fake: true}},
		{bootdoc.Node{CPUs: 8, Fake: true}, 2, bootdoc.Node{CPUs: 8, Fake: true}},
		{bootdoc.Node{GPUs: 1}, 0, bootdoc.Node{GPUs: 1, MinCPUs: 4}},
	} {
		nodes := []bootdoc.Node{tt.node}
		if stretch(nodes, tt.fake, 4); !reflect.DeepEqual(nodes[0], tt.want) {
			t.Errorf("%+v, fake %d: %+v", tt.node, tt.fake, nodes[0])
		}
	}
}

// A node that only lacks cores is none that is made up: who uses it is to have its GPUs, and what memory there is.
func TestFakes(t *testing.T) {
	many := 100 * cpusHere()
	for _, tt := range []struct {
		node, want bootdoc.Node
		fakes      int
	}{
		{bootdoc.Node{CPUs: 1}, bootdoc.Node{CPUs: 1}, 0},
		{bootdoc.Node{CPUs: many}, bootdoc.Node{MinCPUs: many}, 0},
		{bootdoc.Node{CPUs: many, GPUs: 1000}, bootdoc.Node{CPUs: many, GPUs: 1000}, 1},
		{bootdoc.Node{CPUs: many, Memory: 1 << 60}, bootdoc.Node{CPUs: many, Memory: 1 << 60}, 1},
		{bootdoc.Node{NoCPUs: true}, bootdoc.Node{NoCPUs: true}, 0},
	} {
		node := tt.node
		if n, err := fakes(&node); err != nil || n != tt.fakes || !reflect.DeepEqual(node, tt.want) {
			t.Errorf("%+v: %d, %+v, %v", tt.node, n, node, err)
		}
	}
}
