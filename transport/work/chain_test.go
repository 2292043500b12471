package work

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// CHAIN-1: work that goes one by one is a chain, whoever it goes through; all else is none, from the first moment.
func TestChainOfWhoWasSpokenTo(t *testing.T) {
	a, b := &Conn{}, &Conn{}
	for name, c := range map[string]struct {
		told   []*Conn
		heard  *Conn
		waited time.Duration
	}{
		"who was not spoken to":     {[]*Conn{a}, b, 0},
		"when nobody was spoken to": {nil, a, 0},
		"when several were":         {[]*Conn{a, b}, b, 0},
		"several at once":           {[]*Conn{a}, nil, 0},
		"late":                      {[]*Conn{a}, a, chainWait + 1},
	} {
		var ch chain
		for range 3 { // it comes again
			for i := range chainLinks {
				who := a
				if i%2 == 1 {
					who = b
				}
				ch.spoke(who)
				ch.spoke(who) // in two parts
				if got := ch.follows(who, chainWait); got != (i == chainLinks-1) {
					t.Fatalf("%s: %v after %d", name, got, i+1)
				}
			}
			for _, who := range c.told {
				ch.spoke(who)
			}
			if ch.follows(c.heard, c.waited) {
				t.Errorf("a chain goes on with one who speaks %s", name)
			}
		}
	}
}

// masks is what the threads of this process may use, each once.
func masks(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	files, _ := filepath.Glob("/proc/self/task/*/status")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil { // it has ended
			continue
		}
		_, rest, _ := strings.Cut(string(b), "Cpus_allowed_list:")
		line, _, _ := strings.Cut(rest, "\n")
		found[strings.TrimSpace(line)] = true
	}
	return found
}

// CHAIN-2: in a chain frames name a processor that this process may use, and the thread that polls keeps to it;
// a pause ends that.
func TestChainNamesItsPlace(t *testing.T) {
	var all affinity
	if !all.get() || all.count() < 2 {
		t.Skip("this process may use one processor only: nobody has to be told which")
	}
	before := masks(t)
	poll := newPoll(t)
	a, b := pair(t)
	in := newInbox()
	cfg := in.config()
	cfg.Poll = poll
	var c *Conn
	ready := make(chan struct{})
	cfg.OnBatch = func(batch Batch) {
		<-ready
		if err := c.Append(submit(1, 0)); err == nil {
			c.Flush()
		}
		batch.Release()
	}
	c = New(b, cfg)
	close(ready)
	answer := make([]byte, len(submit(1, 0)))
	place := uint32(0)
	for end := time.Now().Add(20 * time.Second); place == 0 && time.Now().Before(end); {
		write(t, a, submit(1, 0))
		if _, err := a.Read(answer); err != nil {
			t.Fatal(err)
		}
		place = binary.LittleEndian.Uint32(answer[12:])
	}
	if place == 0 {
		t.Fatal("no answer named a place in 20 s")
	}
	if at := place - 1; all.bits[at/8]&(1<<(at%8)) == 0 {
		t.Errorf("processor %d is none that this process may use", at)
	}
	for end := time.Now().Add(20 * time.Second); len(masks(t)) != len(before); {
		if time.Now().After(end) {
			t.Fatalf("threads may use %v after the pause, and %v before", masks(t), before)
		}
	}
	write(t, a, submit(1, 0))
	if _, err := a.Read(answer); err != nil || binary.LittleEndian.Uint32(answer[12:]) != 0 {
		t.Errorf("the first answer after a pause names place %d, %v", binary.LittleEndian.Uint32(answer[12:]), err)
	}
}
