package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPortRange(t *testing.T) {
	for _, test := range []struct{ asked, ephemeral, want [2]int }{
		{[2]int{}, [2]int{32768, 60999}, [2]int{20000, 32767}},
		{[2]int{30000, 30100}, [2]int{32768, 60999}, [2]int{30000, 30100}},
		{[2]int{}, [2]int{1024, 60999}, [2]int{61000, 65535}},
		{[2]int{}, [2]int{15000, 65535}, [2]int{1024, 14999}},
		{[2]int{}, [2]int{1024, 65535}, [2]int{20000, 32767}}, // nothing is outside
	} {
		low, high := portRange(test.asked, test.ephemeral)
		if got := [2]int{low, high}; got != test.want {
			t.Errorf("asked %v, ephemeral %v: %v", test.asked, test.ephemeral, got)
		}
	}
}

// A daemon that writes without end does not fill the disk, and what it said last is kept.
func TestLogsAreCut(t *testing.T) {
	d := directory{path: t.TempDir()}
	log, err := os.OpenFile(filepath.Join(d.path, "agent.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Truncate(logLimit); err != nil {
		t.Fatal(err)
	}
	log.WriteString("last words\n")
	now := time.Now()
	next := d.tend(now)
	if next.Sub(now) != tendTime {
		t.Errorf("next time in %v", next.Sub(now))
	}
	log.WriteString("and on\n")
	if data, err := os.ReadFile(log.Name()); err != nil || string(data) != "and on\n" {
		t.Errorf("the log holds %d bytes, %v", len(data), err)
	}
	if data, err := os.ReadFile(log.Name() + ".1"); err != nil || len(data) != logKept || !bytes.HasSuffix(data, []byte("last words\n")) {
		t.Errorf("aside are %d bytes, %v", len(data), err)
	}
	if d.tend(now.Add(time.Second)) != next {
		t.Error("it is done more often than needed")
	}
}
