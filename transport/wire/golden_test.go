package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "add golden bytes for types that have none")

// Bytes that an earlier build wrote mean the same to this one: the agents of a cluster may be of
// several builds, and a journal is read by whatever binary comes after. Each line of golden.txt is
// a type's number, its name, a body, and what was in it. Lines are added, never changed; a field
// that was appended since is absent in them.
func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "golden.txt")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Type]bool{}
	for line := range strings.Lines(string(text)) {
		var n uint16
		var name, body, value string
		if _, err := fmt.Sscan(line, &n, &name, &body, &value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[Type(n)] = true
		if Type(n).String() != name {
			t.Errorf("type %d is %v, it was %s: a number is never used again", n, Type(n), name)
			continue
		}
		raw, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Unmarshal(Type(n), raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		now, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if where := differs(name, parseJSON(t, []byte(value)), parseJSON(t, now)); where != "" {
			t.Errorf("the meaning of old bytes changed: %s", where)
		}
	}
	var missing []byte
	for _, typ := range types() {
		if seen[typ] {
			continue
		}
		body, err := Marshal(nil, full(typ))
		if err != nil {
			t.Fatal(err)
		}
		value, err := json.Marshal(full(typ))
		if err != nil {
			t.Fatal(err)
		}
		missing = fmt.Appendf(missing, "%d %s %x %s\n", uint16(typ), typ, body, value)
		if !*rewrite {
			t.Errorf("%v has no golden bytes; run go test -run Golden -rewrite", typ)
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, append(text, missing...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parseJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// differs tells where now has not all that was, or "".
func differs(path string, was, now any) string {
	switch was := was.(type) {
	case map[string]any:
		now, _ := now.(map[string]any)
		for k, v := range was {
			if where := differs(path+"."+k, v, now[k]); where != "" {
				return where
			}
		}
		return ""
	case []any:
		now, _ := now.([]any)
		if len(now) != len(was) {
			return fmt.Sprintf("%s had %d elements, has %d", path, len(was), len(now))
		}
		for i, v := range was {
			if where := differs(fmt.Sprintf("%s[%d]", path, i), v, now[i]); where != "" {
				return where
			}
		}
		return ""
	}
	if !reflect.DeepEqual(was, now) {
		return fmt.Sprintf("%s was %v, is %v", path, was, now)
	}
	return ""
}
