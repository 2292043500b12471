package cli

import (
	"testing"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Ranks may share cores on a node that is made up for that; one with GPUs of this machine is not.
func TestStretch(t *testing.T) {
	for _, tt := range []struct {
		node      bootdoc.Node
		fake      int
		want      bootdoc.Node
		stretches bool
	}{
		{bootdoc.Node{}, 0, bootdoc.Node{CPUs: 4, Fake: true}, true},
		{bootdoc.Node{CPUs: 2, GPUs: 1, Fake: true}, 1, bootdoc.Node{CPUs: 4, GPUs: 1, Fake: true}, true},
		{bootdoc.Node{CPUs: 8, Fake: true}, 2, bootdoc.Node{CPUs: 8, Fake: true}, true},
		{bootdoc.Node{GPUs: 1}, 0, bootdoc.Node{GPUs: 1}, false},
	} {
		nodes := []bootdoc.Node{tt.node}
		got := stretch(nodes, tt.fake, 4)
		if n := nodes[0]; got != tt.stretches || n.CPUs != tt.want.CPUs || n.GPUs != tt.want.GPUs || n.Fake != tt.want.Fake {
			t.Errorf("%+v, fake %d: %v, %+v", tt.node, tt.fake, got, n)
		}
	}
}
