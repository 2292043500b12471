//go:build e2e

package local

import (
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// The ways between nodes that are there: each once in each direction, by TCP and by the fabric, in text, JSON and a picture. So it is where values may go
// unencrypted, and do as long as nobody has opened a fabric for them.
func TestDoctorMeasuresTheFabric(t *testing.T) {
	w := fabricWorld(t)
	picture := filepath.Join(w.dir, "ways.png")
	for tcp, flags := range map[string][]string{"tls": nil, "clear": {"--clear-values", "127.0.0.0/8"}} {
		w.must(append([]string{"up", "--cluster", tcp, "--fake-nodes", "3", "--cpus", "1", "--fabric", "tcp"}, flags...)...)
		var report struct {
			Nodes []string
			Ways  []struct {
				From, To, Carrier  string
				Latency, Bandwidth float64
			}
			Failed []any
			Left   int
		}
		if err := json.Unmarshal([]byte(w.must("doctor", "--fabric", "--cluster", tcp, "--within", "1", "--image", picture, "--json")), &report); err != nil {
			t.Fatal(err)
		}
		w.must("down", "--cluster", tcp)
		seen := map[string]bool{}
		for _, way := range report.Ways {
			if seen[way.From+way.To+" by "+way.Carrier] = true; way.Carrier != tcp && way.Carrier != "tcp;ofi_rxm" || way.Latency <= 0 || way.Bandwidth <= 0 || way.From == way.To {
				t.Errorf("%s: %+v", tcp, way)
			}
		}
		if len(report.Nodes) != 3 || len(seen) != 2*(6-2*report.Left) || len(seen) == 0 || len(report.Failed) > 0 {
			t.Errorf("%s: %+v", tcp, report)
		}
	}
	f, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
	w.nothingLeft()
}
