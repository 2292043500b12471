package native

import (
	"slices"
	"testing"
	"time"
)

// A rail that hung rests, each time twice as long, and what was good for an hour begins anew.
func TestRests(t *testing.T) {
	now := time.Unix(1000, 0)
	var r rests
	if device, _ := r.next(); device != "" {
		t.Error(device)
	}
	r.hung(now, "a")
	r.hung(now.Add(time.Minute), "b")
	want := func(devices string, next string, in time.Duration) {
		t.Helper()
		var names string
		for _, d := range r.devices() {
			names += d
		}
		if device, at := r.next(); names != devices || device != next || next != "" && at.Sub(now) != in {
			t.Errorf("%s are left out, and %s is tried after %v; want %s, %s, %v", names, device, at.Sub(now), devices, next, in)
		}
	}
	want("ab", "a", restLeast)
	now = now.Add(restLeast)
	r.hung(now, "a") // its trial did
	want("ba", "b", time.Minute)
	r.works(now, "b")
	want("a", "a", 2*restLeast)
	for range 10 {
		r.hung(now, "a")
	}
	want("a", "a", restMost)
	r.hung(now, "b")
	want("ab", "b", 2*restLeast)
	r.works(now, "a")
	r.works(now, "b")
	want("", "", 0)
	now = now.Add(restMost + 1)
	r.hung(now, "a")
	want("a", "a", restLeast)
	if !slices.Equal(r.devices(), []string{"a"}) {
		t.Error(r)
	}
}
