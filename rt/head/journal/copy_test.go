package journal

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync"
	"testing"
)

// copied is a journal's copy.
type copied struct {
	mu   sync.Mutex
	data []byte
}

func (c *copied) keep(data []byte, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if whole {
		c.data = nil
	}
	c.data = append(c.data, data...)
}

// JRN-5: what a commit wrote is in the copy when Commit returns, over compactions too, and without who keeps it nothing is committed.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	socket, path := filepath.Join(dir, "copy.sock"), filepath.Join(dir, "head.journal")
	var c copied
	k, err := Keep(socket, []byte("of another"), c.keep)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	conn, have, err := DialCopy(t.Context(), socket)
	if err != nil || string(have) != "of another" {
		t.Fatalf("%q %v", have, err)
	}
	defer conn.Close()
	j, err := Open(path, Options{Reserve: -1, Copy: conn.Copy})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := j.Replay(func(uint16, []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := j.Share(); err != nil {
		t.Fatal(err)
	}
	want := []rec{{1, "one"}, {2, "two"}}
	same := func() {
		t.Helper()
		c.mu.Lock()
		defer c.mu.Unlock()
		var got []rec
		if _, _, err := scan(c.data, func(typ uint16, body []byte) error {
			got = append(got, rec{typ, string(body)})
			return nil
		}); err != nil || !equal(got, want) {
			t.Errorf("%v %v, want %v", got, err, want)
		}
	}
	add(t, j, want...)
	same()
	want = append(want, rec{3, string(bytes.Repeat([]byte{3}, 1<<20))})
	add(t, j, want[2])
	same()
	want = []rec{{4, "all of it"}}
	if err := j.Compact(func(add func(uint16, []byte) error) error { return add(4, []byte("all of it")) }); err != nil {
		t.Fatal(err)
	}
	same()
	want = append(want, rec{5, "five"})
	add(t, j, want[1])
	same()
	// The process before the one that has the journal now is not listened to any more.
	newer, _, err := DialCopy(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	if err := newer.Copy(nil, false); err != nil {
		t.Fatal(err)
	}
	if err := conn.Copy([]byte("late"), false); !errors.Is(err, ErrCopy) {
		t.Error(err)
	}
	same()
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := j.Add(6, []byte("six")); err != nil {
			t.Fatal(err)
		}
		if err := j.Commit(); !errors.Is(err, ErrCopy) {
			t.Error(err)
		}
	}
	if _, _, err := DialCopy(t.Context(), socket); !errors.Is(err, ErrCopy) {
		t.Error(err)
	}
}
