package cli

import (
	"bytes"
	"encoding/json"
	"testing"
)

// By what large values go is said where there was to be a fabric, of nodes that have the same at once, and why there is none; and where they are not encrypted.
func TestCarriersOfNodes(t *testing.T) {
	var s stateStores
	if err := json.Unmarshal([]byte(`{"nodes":[
		{"name":"n1","store":{"fabric":"verbs;ofi_rxm mlx5_0"}},
		{"name":"n2","store":{"no_fabric":"libfabric can't be loaded: no such file"}},
		{"name":"n3","store":{"fabric":"verbs;ofi_rxm mlx5_0"}},
		{"name":"n4","store":{"clear":["10.1.0.0/16","fd00::/8"]}}]}`), &s); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &call{app: &app{stdout: &out}}
	c.printStores(&s)
	want := `
values of n1, n3 go by verbs;ofi_rxm mlx5_0

values of n2 go by TCP, since no fabric can be used: libfabric can't be loaded: no such file

values go unencrypted between nodes whose addresses are in one of 10.1.0.0/16, fd00::/8
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// What of a node's memory may go, and is not its own, is said beside what is used.
func TestMemoryOfNodes(t *testing.T) {
	var s stateStores
	if err := json.Unmarshal([]byte(`{"nodes":[{"name":"n1","store":{"limit":67108864,"used":33554432,"cached_bytes":4194304,"copy_bytes":8388608,"spilled":1048576}}]}`), &s); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &call{app: &app{stdout: &out}}
	c.printStores(&s)
	want := "\n  NODE  MEMORY  VALUES                                        SPILLED  RESTORED  DISK\n  n1    -       32 MiB of 64 MiB, 4 MiB cached, 8 MiB copies  1 MiB    0 B       -\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
