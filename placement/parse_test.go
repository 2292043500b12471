package placement_test

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
)

func TestParseAmount(t *testing.T) {
	for _, c := range []struct {
		in   string
		want placement.Amount
		err  string
	}{
		{"2", 20_000, ""}, {"0.5", 5_000, ""}, {".5", 5_000, ""}, {"2.", 20_000, ""}, {"0.0001", 1, ""}, {"007", 70_000, ""},
		{"4G", 4 << 30 * 10_000, ""}, {"4g", 4 << 30 * 10_000, ""}, {"512MiB", 512 << 20 * 10_000, ""}, {"1.5K", 1536 * 10_000, ""}, {"1TB", 1 << 40 * 10_000, ""},
		{"0.3G", 3221225472000, ""}, // rounded up to the step: it is exact here
		{"0.33333K", 3413300, ""},   // 341.32992 bytes
		{"0", 0, ""}, {"0.50000", 5_000, ""},
		{"922337203685477", 9223372036854770000, ""},
		{"-1", 0, "negative"}, {"0.00001", 0, "finer"}, {"1.00005", 0, "finer"}, {"922337203685478", 0, "too large"},
		{"1000P", 0, "too large"}, {"99999999999999999999999", 0, "too large"},
		{"", 0, "no amount"}, {".", 0, "no amount"}, {"x", 0, "no amount"}, {"1e3", 0, "no amount"}, {"+1", 0, "no amount"}, {"1.2.3", 0, "no amount"},
		{"4GX", 0, "no amount"}, {"4X", 0, "no amount"}, {"1 2", 0, "no amount"}, {"NaN", 0, "no amount"}, {"1-", 0, "no amount"},
	} {
		got, err := placement.ParseAmount(c.in)
		if c.err == "" && (err != nil || got != c.want) {
			t.Errorf("ParseAmount(%q) = %d, %v, want %d", c.in, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("ParseAmount(%q) = %v, %v, want an error with %q", c.in, got, err, c.err)
		}
	}
}

func TestParseResources(t *testing.T) {
	for _, c := range []struct{ in, want, err string }{
		{"CPU=2,GPU=0.5,memory=4G,lic=1", "CPU=2,GPU=0.5,lic=1,memory=4G", ""},
		{"cpu=2, Gpu=4 ,MEM=1024M", "CPU=2,GPU=4,memory=1G", ""},
		{"", "", ""}, {"CPU=0", "", ""},
		{"memory=1000", "memory=1000", ""}, {"memory=0.5", "memory=0.5", ""},
		{"accelerator_type:A100=0.001", "accelerator_type:A100=0.001", ""},
		{"GPU=1.5", "", "whole number"}, {"CPU=1.5", "CPU=1.5", ""}, {"lic=1.5", "lic=1.5", ""},
		{"CPU=-1", "", "negative"}, {"CPU", "", "write CPU=1"}, {"CPU=1,CPU=2", "", "twice"}, {"CPU=1,cpu=0", "", "twice"},
		{"CPU=1,,GPU=1", "", "empty part"}, {"CPU=1,", "", "empty part"}, {"=1", "", "no name"}, {"1x=1", "", "no name"}, {"ä=1", "", "no name"},
		{strings.Repeat("x", 101) + "=1", "", "no name"},
	} {
		got, err := placement.ParseResources(c.in)
		if c.err == "" && (err != nil || got.String() != c.want) {
			t.Errorf("ParseResources(%q) = %v, %v, want %s", c.in, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("ParseResources(%q) = %v, %v, want an error with %q", c.in, got, err, c.err)
		}
	}
}

// FuzzParseResources: what parses is valid, and its text parses to the same.
func FuzzParseResources(f *testing.F) {
	for _, s := range []string{"CPU=2,GPU=0.5,memory=4G,lic=1", "memory=0.3G", "a=922337203685477", "GPU=1.5", ",", "x=1P"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := placement.ParseResources(s)
		if err != nil {
			return
		}
		if err := r.Check(); err != nil {
			t.Fatalf("%q parses to what Check refuses: %v", s, err)
		}
		again, err := placement.ParseResources(r.String())
		if err != nil || !again.Equal(r) {
			t.Fatalf("%q is %v, which parses to %v, %v", s, r, again, err)
		}
	})
}

// FuzzNeed: no expression makes a request that passes Validate and then upsets Solve.
func FuzzNeed(f *testing.F) {
	for _, s := range []string{"a", "!a", "in(a,b)", "!in(a)", "exists()", "!exists()", "in(", "!!a", "in()"} {
		f.Add("gpu", s)
	}
	v := new(placement.View)
	if err := v.Put(placement.Node{Name: "n0", Labels: []placement.Label{{Key: "gpu", Value: "a"}}}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, expr string) {
		r := &placement.Request{Bundles: []placement.Bundle{{Needs: []placement.Need{{Key: key, Expr: expr}}}}}
		if r.Validate() != nil {
			return
		}
		p, _ := placement.Solve(v, r)
		if e := placement.Explain(v, r); (e == nil) != (p != nil) {
			t.Fatalf("%s=%s: placed %v, explained %v", key, expr, p, e)
		}
	})
}
