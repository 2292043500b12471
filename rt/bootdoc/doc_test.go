package bootdoc

import (
	"bytes"
	"strings"
	"testing"
)

// What names no network is refused, as is the network of all addresses; a boot document with one is none.
func TestNetworks(t *testing.T) {
	got, err := Networks([]string{"10.1.2.3/16", "fd00::/8"})
	if err != nil || len(got) != 2 || got[0].String() != "10.1.0.0/16" || got[1].String() != "fd00::/8" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Networks(nil); err != nil || got != nil {
		t.Errorf("of none: %v, %v", got, err)
	}
	for _, text := range []string{"", "10.1.0.0", "10.1.0.0/33", "0.0.0.0/0", "::/0", "ib0", "10.1.0.0/16 "} {
		doc := Doc{Version: Version, Cluster: strings.Repeat("0", 32), Secret: bytes.Repeat([]byte{1}, 32), Name: "x", Clear: []string{"10.1.0.0/16", text}}
		if err := doc.Check(); err == nil || !strings.Contains(err.Error(), "is no network") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
