package gang

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// GANG-6: what is acknowledged is written. Whatever else there is the agent still has, when this process is killed.
func TestWhatIsAcknowledgedIsWritten(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var out screen
			f := newFeed(t, 3, IO{Stdout: &out})
			acked := map[uint32]uint64{}
			f.w.ack = func(m *fb.RankOutputAckT) { // by whoever writes
				acked[m.Rank] = m.Offset - OffsetBase(1)
				written := uint64(0)
				for line := range strings.Lines(out.String()) {
					who, text, _ := strings.Cut(line, "] ")
					if slices.Contains(ranksIn(t, who[1:]), int(m.Rank)) {
						written += uint64(len(text))
					}
				}
				if acked[m.Rank] > written {
					t.Errorf("seed %d: %d bytes of rank %d are acknowledged, %d are written", seed, acked[m.Rank], m.Rank, written)
				}
			}
			for range 300 {
				f.say(1, rnd.Uint32N(3), 1, []string{"equal\n", "a", "a longer piece", "\n", "ends\nand begins", "\n\n"}[rnd.IntN(6)])
				time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
			}
			for rank := range uint32(3) {
				f.say(1, rank, 1, "\n")
			}
			time.Sleep(2 * FoldFor)
			synctest.Wait()
			for rank := range uint32(3) {
				if all := f.at[streamKey{1, rank, 1}]; acked[rank] != all {
					t.Errorf("seed %d: %d of %d bytes of rank %d are acknowledged", seed, acked[rank], all, rank)
				}
			}
			f.w.close()
		})
	}
}

// GANG-7: a line that waits for its like is not written while the agent is away: what is not acknowledged the next client has, too.
func TestNothingIsWrittenThatNobodyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out screen
		f := newFeed(t, 2, IO{Stdout: &out})
		acked := uint64(0)
		f.w.ack = func(m *fb.RankOutputAckT) { acked = m.Offset - OffsetBase(1) }
		f.say(1, 0, 1, "a line\n")
		f.w.hold(true)
		time.Sleep(10 * FoldFor)
		f.w.poke() // it looks at them for something else
		synctest.Wait()
		if got := out.String(); got != "" || acked != 0 {
			t.Errorf("%q is written, %d bytes are acknowledged", got, acked)
		}
		f.w.hold(false)
		synctest.Wait()
		if got := out.String(); got != "[0] a line\n" || acked != 7 {
			t.Errorf("%q is written, %d bytes are acknowledged", got, acked)
		}
		f.say(1, 1, 1, "the last\n")
		f.w.hold(true)
		f.w.close() // nobody comes after it
		if got := out.String(); got != "[0] a line\n[1] the last\n" {
			t.Errorf("%q is written", got)
		}
	})
}

func holds(w *writer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

// GANG-7: a run hears when its agent goes, and when it comes back.
func TestARunHearsOfItsConnection(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	r, err := newRun(c, c.mint(), ranks(2), IO{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	a.crash(true)
	for _, want := range []linkWord{linkDown, linkUp} {
		var word linkWord
		for word == 0 {
			<-r.box.ready
			items := r.box.take()
			for i, it := range items {
				if word = it.link; word != 0 {
					for _, later := range items[i+1:] {
						r.box.put(later)
					}
					break
				}
			}
		}
		if word != want {
			t.Fatalf("it hears %d, not %d", word, want)
		}
		if err := r.take(item{link: word}); err != nil || holds(r.out) != (word == linkDown) {
			t.Errorf("%v; lines are held: %v", err, holds(r.out))
		}
	}
}

func TestLargeGangsHaveSmallWindows(t *testing.T) {
	for _, world := range []int{1, 32, 128, 4096, 1 << 20} {
		if got := WindowOf(world); got > Window || got < minWindow || world > 32 && world <= 8192 && got*2*world > gangWindow {
			t.Errorf("%d ranks: window %d", world, got)
		}
	}
}

// GANG-6: what was said again has its acknowledgement again, which was lost, also where a line has no end yet. The agent has a full window otherwise, and
// its rank waits for ever.
func TestWhatIsRepeatedIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 2, IO{})
		var acks []uint64
		f.w.ack = func(m *fb.RankOutputAckT) { acks = append(acks, m.Offset-OffsetBase(1)) }
		f.say(1, 0, 1, "a line\nand a half")
		time.Sleep(2 * FoldFor)
		f.at[streamKey{1, 0, 1}] = 0
		f.say(1, 0, 1, "a line\nand a half")
		time.Sleep(2 * FoldFor)
		synctest.Wait()
		if want := []uint64{7, 7}; !slices.Equal(acks, want) {
			t.Errorf("acknowledged are %v, not %v", acks, want)
		}
		f.w.close()
	})
}

// A rank that says much of which nothing is alike does not wait for others: most of what its agent may send is acknowledged at once.
func TestAFloodIsNotHeld(t *testing.T) {
	for _, world := range []int{2, 64, 1000} {
		synctest.Test(t, func(t *testing.T) {
			f := newFeed(t, world, IO{})
			acked := uint64(0)
			f.w.ack = func(m *fb.RankOutputAckT) { acked = m.Offset - OffsetBase(1) }
			for i := 0; f.at[streamKey{1, 0, 1}] < uint64(WindowOf(world))*3/4; i++ {
				f.say(1, 0, 1, fmt.Sprintf("line %d\n", i))
			}
			synctest.Wait()
			if all := f.at[streamKey{1, 0, 1}]; acked < all/4 {
				t.Errorf("%d ranks: %d of %d bytes are acknowledged", world, acked, all)
			}
			f.w.close()
		})
	}
}
