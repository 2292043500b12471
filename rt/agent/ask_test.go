package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Of a node's devices maniple-native is asked for those that NVIDIA's driver knows, and is not started for others.
func TestDevicesAreAskedFor(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &native.Client{Path: self}
	defer c.Close()
	got, err := devices(t.Context(), c, []*fb.DeviceT{
		{Id: "GPU-a", Kind: "nvidia", Pci: "0000:3b:00.0"}, {Id: "gpu-0", Kind: "declared"}, {Id: "MIG-b", Kind: "mig"},
	})
	if err != nil || string(got) != `"devices GPU-a,0000:3b:00.0,MIG-b"` {
		t.Errorf("%s, %v", got, err)
	}
	none := &native.Client{Path: "/nowhere"}
	if got, err := devices(t.Context(), none, []*fb.DeviceT{{Id: "gpu-0", Kind: "declared"}}); err != nil || string(got) != `{"version":1,"devices":{}}` {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := devices(t.Context(), &native.Client{}, []*fb.DeviceT{{Id: "GPU-a", Kind: "nvidia"}}); err == nil || !strings.Contains(err.Error(), "no maniple-native beside") {
		t.Error(err)
	}
}
