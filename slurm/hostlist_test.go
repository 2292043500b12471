package slurm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestParseHosts(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"n1":                      "n1",
		"n1,n2":                   "n1 n2",
		"n[1-3]":                  "n1 n2 n3",
		"n[01-03,7]":              "n01 n02 n03 n7",
		"n[098-101]":              "n098 n099 n100 n101",
		"n[9-11]":                 "n9 n10 n11",
		"r[0-1]n[0-2]":            "r0n0 r0n1 r0n2 r1n0 r1n1 r1n2",
		"r[0-1]n[00-01]-ib,login": "r0n00-ib r0n01-ib r1n00-ib r1n01-ib login",
		"n3,n[1-2]":               "n3 n1 n2", // Slurm's order is kept: it numbers the tasks
		"n[5]":                    "n5",
		"a[1-2]b":                 "a1b a2b",
	} {
		got, err := ParseHosts(in)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("ParseHosts(%q) = %v, %v; want %s", in, got, err, want)
		}
	}
}

func TestParseHostsRefuses(t *testing.T) {
	for _, in := range []string{
		"n[1-", "n1]", "n[[1-2]]", "n[1-[2-3]]", "n[]", "n[a-b]", "n[2-1]", "n[1-2", "n1,,n2", ",n1", "n1,", "n[1,]", "n 1",
		"n[0-8:2]", "n[1-999999999]", "n[1-400][1-400][1-400]", "n[0000000000000000000000001-2]", "n[-1]", "n[1--2]",
	} {
		if got, err := ParseHosts(in); err == nil {
			t.Errorf("ParseHosts(%q) = %d hosts, no error", in, len(got))
		}
	}
}

func TestFoldHosts(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"n2 n1 n3":                  "n[1-3]",
		"n1 n1 n1":                  "n1",
		"n1 n2 n4 n7 n8":            "n[1-2,4,7-8]",
		"n9 n10 n11":                "n[9-11]",
		"n09 n10 n11":               "n[09-11]",
		"n099 n100":                 "n[099-100]",
		"n1-ib n2-ib":               "n[1-2]-ib",
		"r1n1 r1n2 r2n1":            "r1n[1-2],r2n1",
		"login n1":                  "login,n1",
		"n1 n01":                    "n[1,01]",
		"n99999999999999999999 n1":  "n1,n99999999999999999999",
		"node-a node-b":             "node-a,node-b",
		"n8 n9 n10 n08 n09 n007 x1": "n[8-9,08-10,007],x1",
	} {
		if got := FoldHosts(strings.Fields(in)); got != want {
			t.Errorf("FoldHosts(%q) = %q, want %q", in, got, want)
		}
	}
}

// HOST-1 on random sets of names of the forms that sites use.
func TestFoldHostsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	forms := []string{"n%d", "n%02d", "cn%04d", "r%[2]dc%[1]d", "gpu-%03d-ib", "x%[2]dn%02[1]d"}
	for range 300 {
		var hosts []string
		for range 1 + r.IntN(60) {
			hosts = append(hosts, fmt.Sprintf(forms[r.IntN(len(forms))], r.IntN(120), r.IntN(3)))
		}
		for i, h := range hosts {
			hosts[i], _, _ = strings.Cut(h, "%!")
		}
		folded := FoldHosts(hosts)
		got, err := ParseHosts(folded)
		if err != nil {
			t.Fatalf("%q: %v", folded, err)
		}
		want := slices.Clone(hosts)
		slices.Sort(want)
		want = slices.Compact(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%v folded to %q, which is %v", want, folded, got)
		}
	}
}

func TestTenThousandHosts(t *testing.T) {
	hosts, err := ParseHosts("frontier[00001-10000]")
	if err != nil || len(hosts) != 10000 || hosts[9999] != "frontier10000" {
		t.Fatalf("%d hosts, %v", len(hosts), err)
	}
	if got := FoldHosts(hosts); got != "frontier[00001-10000]" {
		t.Fatalf("folded to %.80q", got)
	}
}

func BenchmarkTenThousandHosts(b *testing.B) {
	for b.Loop() {
		hosts, err := ParseHosts("frontier[00001-10000]")
		if err != nil || len(FoldHosts(hosts)) == 0 {
			b.Fatal(err)
		}
	}
}

func FuzzHosts(f *testing.F) {
	for _, s := range []string{"n[1-3]", "r[0-1]n[00-03]-ib,x", "n[1-[2]]", "[1-2]", "n[1-2]3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hosts, err := ParseHosts(s)
		if err != nil {
			return
		}
		if len(hosts) > MaxHosts {
			t.Fatalf("%d hosts", len(hosts)) // HOST-2
		}
		again, err := ParseHosts(FoldHosts(hosts))
		if err != nil {
			t.Fatalf("%q -> %q: %v", s, FoldHosts(hosts), err)
		}
		slices.Sort(hosts)
		slices.Sort(again)
		if !slices.Equal(slices.Compact(hosts), again) {
			t.Fatalf("%q -> %q", s, FoldHosts(hosts)) // HOST-1
		}
	})
}

func BenchmarkFoldHosts10k(b *testing.B) {
	hosts, _ := ParseHosts("n[00001-10000]")
	for b.Loop() {
		FoldHosts(hosts)
	}
}
