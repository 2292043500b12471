package device_test

import (
	"encoding/json"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/rt/device"
)

// TestThisMachine runs on whatever the test runs on: a laptop, a container, a Slurm step.
func TestThisMachine(t *testing.T) {
	f, err := device.Detect(device.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", f.Grant(), text)
	if f.CPU < 1 || len(f.CPUs) == 0 || len(f.CPUs) > runtime.NumCPU() || f.Memory < 1<<26 || f.Memory > f.HostMemory || len(f.Addresses()) == 0 || f.Name == "" {
		t.Errorf("this can't be this machine: %s", text)
	}
	for _, b := range f.Bounds {
		switch {
		case b.What == "CPU" && b.Value < f.CPU && b.Value >= 1,
			b.What == "memory" && b.Value < float64(f.Memory),
			b.What == "GPU" && int(b.Value) < len(f.GPUs):
			t.Errorf("DEVICE-1: %s says %v %s", b.Source, b.Value, b.What)
		}
	}
}

func TestAddresses(t *testing.T) {
	for want, o := range map[string]device.Options{
		"127.0.0.1:70": {Loopback: true},
		"[::1]:70": {Interfaces: []string{"lo"}, Links: func() ([]device.Link, error) {
			return []device.Link{{Name: "lo", Up: true, Loopback: true, Addrs: []netip.Addr{netip.IPv6Loopback()}}}, nil
		}},
	} {
		if got, err := device.Addresses(o, 70); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}
