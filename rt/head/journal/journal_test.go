package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type rec struct {
	typ  uint16
	body string
}

// open opens and replays; the journal is closed with the test.
func open(t testing.TB, path string) (*Journal, []rec, Cut) {
	t.Helper()
	j, got, cut, err := tryOpen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, got, cut
}

func tryOpen(path string) (*Journal, []rec, Cut, error) {
	j, err := Open(path, Options{Reserve: -1})
	if err != nil {
		return nil, nil, Cut{}, err
	}
	var got []rec
	cut, err := j.Replay(func(typ uint16, body []byte) error {
		got = append(got, rec{typ, string(body)})
		return nil
	})
	if err != nil {
		_ = j.Close()
		return nil, nil, Cut{}, err
	}
	return j, got, cut, nil
}

func add(t testing.TB, j *Journal, recs ...rec) {
	t.Helper()
	for _, r := range recs {
		if err := j.Add(r.typ, []byte(r.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Commit(); err != nil {
		t.Fatal(err)
	}
}

func equal(a, b []rec) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// JRN-1: several opens, each going on where the one before stopped.
func TestReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	var want []rec
	for round := range 5 {
		j, got, cut := open(t, path)
		if !equal(got, want) || cut.Bytes != 0 {
			t.Fatalf("round %d: read %v, cut %+v; want %v", round, got, cut, want)
		}
		for i := range round {
			r := rec{uint16(160 + i), strings.Repeat("x", i*1000)}
			want = append(want, r)
			add(t, j, r)
		}
		_ = j.Add(1, []byte("never committed"))
		_ = j.Close()
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestOneWriterOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	open(t, path)
	if _, err := Open(path, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second open: %v; want ErrLocked", err)
	}
}

func TestRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "j")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "j"), Options{}); err == nil {
		t.Error("a symbolic link was followed")
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("the file behind the link was made")
	}
}

func sample(t testing.TB) (data []byte, recs []rec, ends []int) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, _ := open(t, path)
	for i := range 12 {
		r := rec{uint16(160 + i%11), strings.Repeat(string(rune('a'+i)), i*7)}
		recs = append(recs, r)
		add(t, j, r)
		ends = append(ends, int(j.Size()))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, recs, ends
}

// JRN-2: wherever the writer was killed, all whole records before are there, the rest is cut, and the
// journal can be gone on with.
func TestTornTails(t *testing.T) {
	data, recs, ends := sample(t)
	dir := t.TempDir()
	for n := 0; n <= len(data); n++ {
		// what a killed writer, a sparse block and leftover bytes look like
		for i, tail := range [][]byte{nil, make([]byte, 100), bytes.Repeat([]byte{0xff}, 33)} {
			whole := 0
			for _, e := range ends {
				if e <= n {
					whole++
				}
			}
			path := filepath.Join(dir, fmt.Sprintf("%d-%d", n, i))
			if err := os.WriteFile(path, append(append([]byte{}, data[:n]...), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			if n < len(magic) && i > 0 {
				continue // no journal at all: see TestNoJournal
			}
			j, got, cut, err := tryOpen(path)
			if err != nil {
				t.Fatalf("cut to %d bytes, tail %d: %v", n, i, err)
			}
			if len(got) == whole+1 && i > 0 { // the tail happens to be what was cut off
				whole++
			}
			if len(got) > len(recs) || !equal(got, recs[:whole]) {
				t.Fatalf("cut to %d bytes, tail %d: %d records, want %d", n, i, len(got), whole)
			}
			kept := len(magic)
			if whole > 0 {
				kept = ends[whole-1]
			}
			if n >= len(magic) && cut.Bytes != int64(n+len(tail)-kept) {
				t.Errorf("cut to %d bytes, tail %d: says %d were cut, want %d", n, i, cut.Bytes, n+len(tail)-kept)
			}
			add(t, j, rec{7, "more"})
			_ = j.Close()
			again, got, cut, err := tryOpen(path)
			if err != nil || cut.Bytes != 0 || !equal(got, append(recs[:whole:whole], rec{7, "more"})) {
				t.Fatalf("cut to %d bytes, tail %d, one more: %v, %v, %v", n, i, got, cut, err)
			}
			_ = again.Close()
			_ = os.Remove(path)
		}
	}
}

// JRN-2: damage before the end is an error, whatever byte it is, and the file stays as it is.
func TestDamagedMiddle(t *testing.T) {
	data, recs, ends := sample(t)
	dir := t.TempDir()
	last := ends[len(ends)-2]
	for at := range data {
		for _, flip := range []byte{[]byte{0x01, 0x80, 0xff, 0x10}[at%4]} {
			path := filepath.Join(dir, "j")
			bad := append([]byte{}, data...)
			bad[at] ^= flip
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			j, got, _, err := tryOpen(path)
			if at >= last { // in the last record: it is a tail
				if err != nil || !equal(got, recs[:len(recs)-1]) {
					t.Fatalf("byte %d of the last record: %d records, %v", at, len(got), err)
				}
				_ = j.Close()
				continue
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d ^ %#x: %v, want ErrCorrupt", at, flip, err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, bad) {
				t.Fatalf("byte %d: a damaged journal was changed", at)
			}
		}
	}
}

func TestNoJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	for _, text := range []string{"#!/bin/sh\n", "maniple jourNAL", strings.Repeat("\x00", 64)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := tryOpen(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v, want ErrCorrupt", text, err)
		}
	}
}

// Records that the caller can't use end the replay with the caller's error; nothing is cut.
func TestReplayError(t *testing.T) {
	data, _, _ := sample(t)
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	n, mine := 0, errors.New("mine")
	if _, err := j.Replay(func(uint16, []byte) error {
		if n++; n == 3 {
			return mine
		}
		return nil
	}); !errors.Is(err, mine) {
		t.Errorf("replay: %v", err)
	}
	if err := j.Add(1, nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Commit(); err == nil {
		t.Error("a journal that was not read can be written")
	}
}

// JRN-4, and that what follows a compaction is kept.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j")
	j, _, _ := open(t, path)
	for range 100 {
		add(t, j, rec{1, strings.Repeat("x", 100)})
	}
	want := []rec{{2, "state"}, {3, ""}}
	err := j.Compact(func(add func(uint16, []byte) error) error {
		for _, r := range want {
			if err := add(r.typ, []byte(r.body)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if j.Size() > 200 {
		t.Errorf("%d bytes after compaction", j.Size())
	}
	add(t, j, rec{4, "after"})
	want = append(want, rec{4, "after"})
	if _, err := Open(path, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("after compaction the lock is gone: %v", err)
	}
	failed := errors.New("no")
	if err := j.Compact(func(func(uint16, []byte) error) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a compaction that fails: %v", err)
	}
	add(t, j, rec{5, "still"})
	want = append(want, rec{5, "still"})
	_ = j.Close()
	// one that was killed in the middle of a compaction
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, got, _ := open(t, path)
	if !equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if err := j.Compact(func(add func(uint16, []byte) error) error { return add(9, nil) }); err != nil {
		t.Error(err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestSynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, err := Open(path, Options{Sync: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Replay(nil); err != nil {
		t.Fatal(err)
	}
	add(t, j, rec{1, "a"})
	if err := j.Compact(func(add func(uint16, []byte) error) error { return add(2, []byte("b")) }); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	if _, got, _ := open(t, path); !equal(got, []rec{{2, "b"}}) {
		t.Errorf("read %v", got)
	}
}

// Whatever bytes are there, a scan ends, and what it keeps reads the same again.
func FuzzReplay(f *testing.F) {
	data, _, ends := sample(f)
	f.Add(data)
	f.Add(data[:ends[3]+5])
	f.Add([]byte(magic))
	f.Add([]byte{})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		bad := append([]byte{}, data...)
		bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again []rec
		at, n, err := scan(data, func(typ uint16, body []byte) error {
			got = append(got, rec{typ, string(body)})
			return nil
		})
		if err != nil {
			return
		}
		if int(n) != len(got) || at < len(magic) || at > len(data) {
			t.Fatalf("%d records, said %d, end at %d of %d", len(got), n, at, len(data))
		}
		if end, _, err := scan(data[:at], func(typ uint16, body []byte) error {
			again = append(again, rec{typ, string(body)})
			return nil
		}); err != nil || end != at || !equal(got, again) {
			t.Fatalf("once cut it reads otherwise: %v, end %d of %d", err, end, at)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	j, _, _ := open(b, filepath.Join(b.TempDir(), "j"))
	body := make([]byte, 200)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Add(166, body); err != nil {
			b.Fatal(err)
		}
		if err := j.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}
