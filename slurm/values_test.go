package slurm

import (
	"reflect"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"0": 0, "5": 5 * time.Minute, "90": 90 * time.Minute, "5:30": 5*time.Minute + 30*time.Second, "1:02:03": time.Hour + 2*time.Minute + 3*time.Second,
		"2-0": 2 * day, "1-12": 36 * time.Hour, "1-12:30": 36*time.Hour + 30*time.Minute, "1-02:03:04": day + 2*time.Hour + 3*time.Minute + 4*time.Second,
		"UNLIMITED": Infinite, "infinite": Infinite, "-1": Infinite, "00:00:05": 5 * time.Second, "00:01.250": time.Second + 250*time.Millisecond,
		"100-00:00:00": 100 * day,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "1:2:3:4", "-", "1-", "1-x", "1h", "5m", "1:-2", "99999999999999999999", "1-1:1:1:1", "NOT_SET", "Partition_Limit", "1.5e9"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, no error", in, got)
		}
	}
}

func TestFormatDurationReadsBack(t *testing.T) {
	for _, d := range []time.Duration{0, time.Second, time.Minute, 25 * time.Hour, 1000*time.Hour + 61*time.Second, Infinite} {
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Errorf("%v -> %q -> %v, %v", d, FormatDuration(d), got, err)
		}
	}
}

func TestParseMemory(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "500": 500 << 20, "500M": 500 << 20, "4G": 4 << 30, "4g": 4 << 30, "4GB": 4 << 30, "1T": 1 << 40, "100K": 100 << 10,
		"1.5G": 3 << 29, "500Mc": 500 << 20, "4000Mn": 4000 << 20, "2P": 2 << 50,
	} {
		if got, err := ParseMemory(in); err != nil || got != want {
			t.Errorf("ParseMemory(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "G", "-1", "1X", "1GG", "0x10", "1e9", "inf", "nan", "99999999999999999999G"} {
		if got, err := ParseMemory(in); err == nil {
			t.Errorf("ParseMemory(%q) = %d, no error", in, got)
		}
	}
	for bytes, want := range map[int64]string{0: "0", 1: "1K", 1 << 20: "1M", 1 << 30: "1G", 1536 << 20: "1536M", 3 << 40: "3T"} {
		if got := FormatMemory(bytes); got != want {
			t.Errorf("FormatMemory(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestParseGRES(t *testing.T) {
	for in, want := range map[string][]GRES{
		"": nil, "(null)": nil, "N/A": nil,
		"gpu":                             {{Name: "gpu", Count: 1}},
		"gpu:4":                           {{Name: "gpu", Count: 4}},
		"gpu:h100:4":                      {{Name: "gpu", Type: "h100", Count: 4}},
		"gpu:h100":                        {{Name: "gpu", Type: "h100", Count: 1}},
		"gpu:h100:4(S:0-1)":               {{Name: "gpu", Type: "h100", Count: 4}},
		"gpu:h100:2(IDX:0-1)":             {{Name: "gpu", Type: "h100", Count: 2, Index: []int{0, 1}}},
		"gpu:2(IDX:0,3),shard:1K":         {{Name: "gpu", Count: 2, Index: []int{0, 3}}, {Name: "shard", Count: 1024}},
		"gres:gpu:4":                      {{Name: "gpu", Count: 4}},
		"gres/gpu:h100=4":                 {{Name: "gpu", Type: "h100", Count: 4}},
		"gres/gpu=4":                      {{Name: "gpu", Count: 4}},
		"gpu:a100_3g.20gb:2(IDX:N/A),x:0": {{Name: "gpu", Type: "a100_3g.20gb", Count: 2}, {Name: "x", Count: 0}},
	} {
		if got, err := ParseGRES(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseGRES(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{":4", "gpu:h100:4:5", "gpu::", "gpu:h100:x", "gpu(IDX:a)"} {
		if got, err := ParseGRES(in); err == nil {
			t.Errorf("ParseGRES(%q) = %v, no error", in, got)
		}
	}
}

func TestParseTRES(t *testing.T) {
	got, err := ParseTRES("cpu=8,mem=4000M,node=2,billing=8,gres/gpu=4,gres/gpu:h100=4")
	want := TRES{"cpu": 8, "mem": 4000 << 20, "node": 2, "billing": 8, "gres/gpu": 4, "gres/gpu:h100": 4}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseTRES("cpu"); err == nil {
		t.Error("no error for a name alone")
	}
}

func TestParseCounts(t *testing.T) {
	for in, want := range map[string][]int{"": nil, "2": {2}, "2(x3),1": {2, 2, 2, 1}, "1,2(x2)": {1, 2, 2}} {
		if got, err := ParseCounts(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseCounts(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"x", "2(x3", "2x3", "2(x999999999)", "2(3)", ","} {
		if got, err := ParseCounts(in); err == nil {
			t.Errorf("ParseCounts(%q) = %v, no error", in, got)
		}
	}
}

func TestStates(t *testing.T) {
	for in, want := range map[string]State{
		"RUNNING": Running, "R": Running, "OOM": OutOfMemory, "CANCELLED by 1000": Cancelled, "CANCELLED+": Cancelled, "NODE_FAIL": NodeFail, "pending": Pending, "SOMETHING_NEW": "SOMETHING_NEW",
	} {
		if got := ParseState(in); got != want {
			t.Errorf("ParseState(%q) = %s", in, got)
		}
	}
	for s, want := range map[State]bool{
		Completed: true, Failed: true, OutOfMemory: true, Deadline: true, Timeout: true, Preempted: true, NodeFail: true, BootFail: true, Cancelled: true,
		Running: false, Pending: false, Completing: false, "SOMETHING_NEW": false,
	} {
		if s.Final() != want {
			t.Errorf("%s: final %v", s, s.Final())
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{"1-02:03:04", "4000Mn", "gpu:h100:2(IDX:0-1),x", "cpu=8,mem=4G", "2(x3),1", "0-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { // none may panic, or take memory without bound
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Errorf("duration %v", d)
		}
		if n, err := ParseMemory(s); err == nil && n < 0 {
			t.Errorf("memory %d", n)
		}
		ParseGRES(s)
		ParseTRES(s)
		ParseIndexes(s)
		if list, err := ParseCounts(s); err == nil && len(list) > MaxHosts {
			t.Errorf("%d counts", len(list))
		}
		ParseJob(s, time.UTC)
		ParsePartitions(s)
		ParseConf("NodeName=" + s + "\nPartitionName=p Nodes=" + s)
		ParseOptions(s)
		ErrorOf("x", s)
	})
}
