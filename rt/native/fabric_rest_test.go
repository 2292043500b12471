package native

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// While a device is tried the endpoint may end: then the trial does, and it says nothing of the device.
func TestReviveOfAnEndpointThatEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n: > \"$0.began\"\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path+".began", 0o600); err != nil {
		t.Fatal(err)
	}
	f := &Fabric{Client: Client{Path: path}}
	f.rests.hung(time.Now().Add(-restLeast), "a")
	gone := make(chan struct{})
	l := &FabricLine{f: f, p: &process{gone: gone}}
	go func() {
		_, _ = os.ReadFile(path + ".began") // comes to its end once the program has begun
		close(gone)
	}()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if err := f.Revive(ctx, l, "a"); err == nil || ctx.Err() != nil {
		t.Error("the trial goes on without the endpoint:", err)
	}
	f.Client.Path = filepath.Join(t.TempDir(), "none")
	if err := f.Revive(t.Context(), l, "a"); err == nil {
		t.Error("what is not there works")
	}
	long := func() time.Duration { return f.rests[0].long }
	if long() != restLeast {
		t.Errorf("it counts as the device's failure, which rests for %v", long())
	}
	l = &FabricLine{f: f, p: &process{gone: make(chan struct{})}}
	if err := f.Revive(t.Context(), l, "a"); err == nil || long() != 2*restLeast {
		t.Errorf("a trial that fails has it rest for %v: %v", long(), err)
	}
}
