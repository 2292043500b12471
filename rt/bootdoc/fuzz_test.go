package bootdoc_test

import (
	"encoding/json"
	"testing"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// FuzzParse: what is accepted can be written and read again, and names directories that stay inside their parent.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"cluster":"00112233445566778899aabbccddeeff","secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","name":"a","node":{"name":"n1","cpus":-1},"port_range":[1,2]}`))
	f.Add([]byte(`{"name":"../x","join_timeout_ns":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := bootdoc.Parse(data)
		if err != nil {
			return
		}
		for _, name := range []string{d.Name, d.Node.Name} {
			for _, r := range name {
				if r == '/' || r == 0 {
					t.Fatalf("accepted the name %q", name)
				}
			}
			if name == "." || name == ".." {
				t.Fatalf("accepted the name %q", name)
			}
		}
		again, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bootdoc.Parse(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
