package yarn

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

var epoch = time.Unix(1_700_000_000, 0)

func granted(n int) yarn.Container {
	return yarn.Container{ID: yarn.ContainerID{Number: int64(n)}, Node: yarn.NodeID{Host: fmt.Sprintf("host%d", n), Port: 1}}
}

// told writes effects as words.
func told(list []effect) string {
	var words []string
	for _, e := range list {
		switch e := e.(type) {
		case ask:
			words = append(words, fmt.Sprintf("ask %d", e.count))
		case release:
			words = append(words, fmt.Sprintf("release %d", len(e.ids)))
		case launch:
			words = append(words, fmt.Sprintf("launch %d on %s", e.place, e.container.Node.Host))
		case absent:
			words = append(words, fmt.Sprintf("absent %d", e.place))
		case leave:
			words = append(words, fmt.Sprintf("leave %d", e.place))
		case loss:
			words = append(words, fmt.Sprintf("lost %d %v", e.place, e.fatal))
		case tell:
			words = append(words, "tell")
		}
	}
	return strings.Join(words, ", ")
}

func expect(t *testing.T, got []effect, want string) {
	t.Helper()
	if s := told(got); s != want {
		t.Errorf("%q, want %q", s, want)
	}
}

func TestGangStartsTogether(t *testing.T) {
	g := newGang(2, 2, time.Minute, 1)
	expect(t, g.begin(), "ask 2")
	expect(t, g.granted(epoch, granted(1)), "")
	expect(t, g.tick(epoch.Add(59*time.Second)), "")
	if s := g.state(epoch); s != "1 of 2 containers are granted" {
		t.Error(s)
	}
	expect(t, g.granted(epoch, granted(2)), "launch 0 on host1, launch 1 on host2, ask 0")
	if !g.next().IsZero() || g.state(epoch) != "" {
		t.Error(g.next(), g.state(epoch))
	}
	expect(t, g.granted(epoch, granted(3)), "release 1")
}

// YJOB-2: what is held is given back when the rest does not come, asked for again after a pause, and what is granted
// in the pause is not kept.
func TestGangGivesBack(t *testing.T) {
	g := newGang(3, 3, time.Minute, 1)
	g.begin()
	g.granted(epoch, granted(1))
	g.granted(epoch.Add(30*time.Second), granted(2))
	expect(t, g.tick(epoch.Add(time.Minute)), "ask 0, release 2, tell")
	expect(t, g.granted(epoch.Add(61*time.Second), granted(3)), "release 1")
	if s := g.state(epoch.Add(time.Minute)); !strings.Contains(s, "no room for all 3") {
		t.Error(s)
	}
	again := g.next()
	if pause := again.Sub(epoch.Add(time.Minute)); pause < 15*time.Second || pause > 75*time.Second {
		t.Error(pause)
	}
	expect(t, g.tick(again.Add(-1)), "")
	expect(t, g.tick(again), "ask 3")
	g.granted(again, granted(4))
	expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(4).ID, ExitCode: yarn.ExitAborted}), "ask 3")
}

// What one user may have of a queue is known to YARN alone: a gang that never comes together says that it may be that.
func TestGangDoubts(t *testing.T) {
	g := newGang(3, 3, time.Minute, 1)
	g.begin()
	now := epoch
	for try := 1; try <= doubtTries; try++ {
		g.granted(now, granted(try))
		now = g.next()
		got := g.tick(now)
		expect(t, got, "ask 0, release 1, tell")
		text, doubts := got[2].(tell).text, try == doubtTries
		for _, said := range []string{text, g.state(now)} {
			if strings.Contains(said, "user-limit-factor") != doubts {
				t.Errorf("try %d: %s", try, said)
			}
		}
		if now = g.next(); try == 1 && !strings.HasPrefix(text, "1 of 3 containers came within 1m0s; they are given back, and asked for again in ") {
			t.Error(text)
		}
		expect(t, g.tick(now), "ask 3")
		if strings.Contains(g.state(now), "user-limit-factor") != doubts {
			t.Errorf("try %d: %s", try, g.state(now))
		}
	}
}

// What who submits knows of is said from the beginning, and no more once all have been there.
func TestGangSaysWhatIsDoubted(t *testing.T) {
	const doubt = "; they need 33 cores"
	g := newGang(2, 2, time.Minute, 1)
	g.doubts = doubt[2:]
	g.begin()
	for try := range doubtTries + 1 {
		if got := g.state(epoch); got != "0 of 2 containers are granted"+doubt {
			t.Error(got)
		}
		g.granted(epoch, granted(try))
		now := g.next()
		text := g.tick(now)[2].(tell).text
		for _, said := range []string{text, g.state(now)} {
			if !strings.HasSuffix(said, doubt) {
				t.Error(said)
			}
		}
		g.tick(g.next())
	}
	g.granted(epoch, granted(10))
	g.granted(epoch, granted(11))
	g.waiting(true)
	g.joined(0)
	g.ended(epoch, yarn.ContainerStatus{ID: granted(11).ID, ExitCode: yarn.ExitAborted})
	g.tick(epoch)
	g.tick(g.next())
	if got := g.state(epoch); strings.Contains(got, "cores") || !strings.HasPrefix(got, "the queue had no room") {
		t.Error(got)
	}
}

func TestGangStartsWithFewer(t *testing.T) {
	g := newGang(3, 2, time.Minute, 1)
	g.begin()
	g.granted(epoch, granted(1))
	g.granted(epoch, granted(2))
	expect(t, g.tick(epoch.Add(time.Minute)), "launch 0 on host1, launch 1 on host2, absent 2, ask 0")
}

// YJOB-3: what YARN took is replaced, however often; what needed too much memory, or fails each time, ends the application.
func TestGangReplaces(t *testing.T) {
	g := newGang(1, 1, time.Minute, 1)
	g.begin()
	n := 0
	up := func() {
		n++
		expect(t, g.granted(epoch, granted(n)), map[bool]string{true: "launch 0 on host1, ask 0", false: fmt.Sprintf("launch 0 on host%d", n)}[n == 1])
	}
	end := func(code yarn.ExitCode) []effect {
		return g.ended(epoch, yarn.ContainerStatus{ID: granted(n).ID, ExitCode: code, Diagnostics: "\nbecause\nmore"})
	}
	up()
	for _, code := range []yarn.ExitCode{yarn.ExitAborted, yarn.ExitDisksFailed, yarn.ExitPreempted, yarn.ExitAborted} {
		expect(t, end(code), "lost 0 false, ask 1")
		up()
	}
	expect(t, end(1), "lost 0 false, ask 1")
	up()
	g.joined(0) // which forgives
	expect(t, end(137), "lost 0 false, ask 1")
	up()
	expect(t, end(1), "lost 0 false, ask 1")
	up()
	got := end(1)
	expect(t, got, "lost 0 true, ask 0")
	if text := got[0].(loss).text; !strings.Contains(text, "exit code 1: because") || !strings.Contains(text, "2 ends in a row") {
		t.Error(text)
	}
	for _, code := range []yarn.ExitCode{yarn.ExitPhysicalMemory, yarn.ExitVirtualMemory} {
		g, n = newGang(1, 1, time.Minute, 1), 0
		g.begin()
		up()
		g.joined(0)
		got := end(code)
		expect(t, got, "lost 0 true, ask 0")
		if text := got[0].(loss).text; !strings.Contains(text, "--mem") {
			t.Error(text)
		}
		expect(t, g.granted(epoch, granted(9)), "release 1")
	}
}

// YJOB-2: a program that waits for a lost node keeps the others no longer than grants are held, and one that runs keeps them.
// What did not become a node, and was given back, is replaced though YARN says nothing of its end: it was started anew, and knows nothing of it.
func TestGangReplacesWhatYARNForgot(t *testing.T) {
	g := newGang(1, 1, time.Minute, 1)
	g.begin()
	g.granted(epoch, granted(1))
	expect(t, g.unstarted(epoch, granted(1).ID, "allocated by a previous RM"), "release 1, lost 0 false")
	expect(t, g.tick(epoch), "")
	expect(t, g.tick(epoch.Add(backTime-1)), "")
	expect(t, g.tick(epoch.Add(backTime)), "ask 1")
	expect(t, g.tick(epoch.Add(2*backTime)), "")
	expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(1).ID, ExitCode: yarn.ExitAborted}), "")
	expect(t, g.granted(epoch, granted(2)), "launch 0 on host2")
	expect(t, g.unstarted(epoch, granted(2).ID, "no"), "release 1, lost 0 false")
	expect(t, g.tick(epoch.Add(3*backTime)), "")
	expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(2).ID, ExitCode: yarn.ExitAborted}), "ask 1")
	expect(t, g.granted(epoch, granted(3)), "launch 0 on host3")
	expect(t, g.tick(epoch.Add(5*backTime)), "")
}

// A node that is out of reach is replaced before YARN says anything of it.
func TestGangReplacesWhatIsOutOfReach(t *testing.T) {
	g := newGang(2, 2, time.Minute, 1)
	g.begin()
	g.granted(epoch, granted(1))
	g.granted(epoch, granted(2))
	expect(t, g.away(0, time.Minute), "") // it never was a node
	g.joined(0)
	expect(t, g.away(0, time.Minute), "release 1, lost 0 false, ask 1")
	expect(t, g.away(0, time.Minute), "")
	expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(1).ID, ExitCode: yarn.ExitAborted}), "")
	expect(t, g.granted(epoch, granted(3)), "launch 0 on host3")
	g.joined(0)
	g.close()
	expect(t, g.away(0, time.Minute), "")
}

func TestGangGivesUp(t *testing.T) {
	g := newGang(3, 2, time.Minute, 1)
	g.begin()
	g.waiting(true)
	for i := range 3 {
		g.granted(epoch, granted(i+1))
		g.joined(i)
	}
	g.waiting(false)
	lost := yarn.ContainerStatus{ID: granted(2).ID, ExitCode: yarn.ExitAborted}
	expect(t, g.ended(epoch, lost), "lost 1 false, ask 1")
	now := epoch.Add(time.Hour)
	expect(t, g.tick(now), "")
	if !g.next().IsZero() {
		t.Error("its program runs, and it is given until", g.next())
	}
	g.waiting(true)
	expect(t, g.tick(now), "")
	expect(t, g.tick(now.Add(time.Minute-1)), "")
	g.waiting(false) // it was placed on those that are left
	expect(t, g.tick(now.Add(time.Minute)), "")
	g.waiting(true)
	now = now.Add(time.Hour)
	expect(t, g.tick(now), "")
	now = g.next()
	got := g.tick(now)
	expect(t, got, "ask 0, leave 0, leave 2, release 2, tell")
	if text := got[4].(tell).text; !strings.HasPrefix(text, "1 of 3 containers were not replaced within 1m0s, and the program waits for them; the others are given back, and all are asked for again in ") {
		t.Error(text)
	}
	expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(1).ID, ExitCode: yarn.ExitAborted}), "")
	expect(t, g.granted(now, granted(4)), "release 1")
	now = g.next()
	expect(t, g.tick(now), "ask 3")
	g.granted(now, granted(5))
	g.granted(now, granted(6))
	expect(t, g.tick(now.Add(time.Minute)), "ask 0, release 2, tell") // the program has all three places
	now = g.next()
	expect(t, g.tick(now), "ask 3")
	g.granted(now, granted(7))
	g.granted(now, granted(8))
	expect(t, g.granted(now, granted(9)), "launch 0 on host7, launch 1 on host8, launch 2 on host9, ask 0")

	// What it started without is not asked for again.
	g = newGang(3, 2, time.Minute, 1)
	g.begin()
	g.waiting(true)
	g.granted(epoch, granted(1))
	g.granted(epoch, granted(2))
	expect(t, g.tick(epoch.Add(time.Minute)), "launch 0 on host1, launch 1 on host2, absent 2, ask 0")
	expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(1).ID, ExitCode: yarn.ExitAborted}), "lost 0 false, ask 1")
	g.tick(now)
	expect(t, g.tick(now.Add(time.Minute)), "ask 0, leave 1, release 1, tell")
	now = g.next()
	expect(t, g.tick(now), "ask 2")
	g.granted(now, granted(3))
	expect(t, g.granted(now, granted(4)), "launch 0 on host3, launch 1 on host4, ask 0")
}

// YJOB-3: that a node joins is no progress as long as the program waits, and what YARN took counts for nothing.
func TestGangEndsWithoutProgress(t *testing.T) {
	g := newGang(1, 1, time.Hour, 1)
	g.begin()
	g.waiting(true)
	n := 0
	end := func(code yarn.ExitCode, runs bool, want string) {
		t.Helper()
		n++
		g.granted(epoch, granted(n))
		g.joined(0)
		if runs {
			g.waiting(false)
			g.waiting(true)
		}
		expect(t, g.ended(epoch, yarn.ContainerStatus{ID: granted(n).ID, ExitCode: code}), want)
	}
	for range 3 {
		end(137, true, "lost 0 false, ask 1")
	}
	end(137, false, "lost 0 false, ask 1")
	end(137, true, "lost 0 false, ask 1")
	end(1, false, "lost 0 false, ask 1")
	end(yarn.ExitPreempted, false, "lost 0 false, ask 1")
	end(137, false, "lost 0 true, ask 0")
}

// A container that did not start is tried again after pauses that grow: what is away comes back, and only what is hopeless ends soon.
func TestGangWaitsForWhatIsAway(t *testing.T) {
	away := yarn.ContainerStatus{ExitCode: yarn.ExitInvalid, Diagnostics: "rImpl.java:77)\n\tat java.lang.Thread.run(Thread.java:750)\nCaused by: Name node is in safe mode\n"}
	gone := yarn.ContainerStatus{ExitCode: yarn.ExitInvalid, Diagnostics: "File does not exist: hdfs://nn/maniple"}
	for _, of := range []struct {
		status yarn.ContainerStatus // of each; none: its NodeManager says no
		says   string
		tries  int
		least  time.Duration
	}{
		{away, "not started (-1000): Caused by: Name node is in safe mode; ", maxUnstarted, 7 * time.Minute},
		{gone, "does not exist", maxHopeless, 15 * time.Second},
		{yarn.ContainerStatus{}, "Connection refused", maxUnstarted, 7 * time.Minute},
	} {
		g := newGang(2, 2, time.Hour, 1)
		g.begin()
		g.granted(epoch, granted(1))
		g.granted(epoch, granted(2))
		g.joined(0)
		now, n, pause := epoch, 2, time.Duration(0)
		again := func(want string) (text string) {
			t.Helper()
			var got []effect
			if of.status.ExitCode == 0 {
				got = g.unstarted(now, granted(n).ID, of.says)
				if expect(t, got[:1], "release 1"); !g.closed {
					got = append(got[1:], g.ended(now, yarn.ContainerStatus{ID: granted(n).ID, ExitCode: yarn.ExitAborted})...)
				} else {
					got = got[1:]
				}
			} else {
				of.status.ID = granted(n).ID
				got = g.ended(now, of.status)
			}
			expect(t, got, want)
			if text = got[0].(loss).text; !strings.Contains(text, of.says) {
				t.Error(text)
			}
			return text
		}
		comes := func() {
			t.Helper()
			pause = min(max(2*pause, time.Second), longestRest)
			if said := g.state(now); !strings.Contains(said, "did not start") {
				t.Error(said)
			}
			expect(t, g.tick(now.Add(pause-1)), "")
			expect(t, g.granted(now.Add(pause-1), granted(99)), "release 1") // it was on its way
			now = now.Add(pause)
			expect(t, g.tick(now), "ask 1")
			n++
			expect(t, g.granted(now, granted(n)), fmt.Sprintf("launch 1 on host%d", n))
		}
		for range of.tries - 1 {
			again("lost 1 false, ask 0")
			comes()
		}
		g.joined(1) // which forgives
		g.ended(now, yarn.ContainerStatus{ID: granted(n).ID, ExitCode: yarn.ExitAborted})
		n++
		g.granted(now, granted(n))
		began := now
		pause = 0
		for range of.tries - 1 {
			again("lost 1 false, ask 0")
			comes()
		}
		expect(t, g.unstarted(now, granted(98).ID, "it is nobody's"), "")
		if text := again("lost 1 true, ask 0"); !strings.Contains(text, fmt.Sprintf("%dth container in a row", of.tries)) {
			t.Error(text)
		}
		if took := now.Sub(began); took < of.least || took > 2*of.least {
			t.Errorf("%s: it ended after %v", of.says, took)
		}
	}
}

// Random histories of a queue that several gangs share: none holds more than its wait, and all finish in the end.
func TestGangsShareAQueue(t *testing.T) {
	for seed := range uint64(300) {
		chance := rand.New(rand.NewPCG(seed, 2))
		room := 4 + chance.IntN(6)
		var gangs []*gang
		var wants, holds []int
		for i := range 2 + chance.IntN(3) {
			n := 1 + chance.IntN(room)
			gangs = append(gangs, newGang(n, n, 2*time.Minute, seed<<8+uint64(i)))
			wants, holds = append(wants, n), append(holds, 0)
		}
		ends := make([]time.Time, len(gangs))
		now, free, id, left := epoch, room, 0, len(gangs)
		do := func(i int, list []effect) {
			for _, e := range list {
				switch e := e.(type) {
				case ask:
					wants[i] = e.count
				case release:
					free, holds[i] = free+len(e.ids), holds[i]-len(e.ids)
				case launch:
					ends[i] = now.Add(time.Duration(1+chance.IntN(300)) * time.Second)
				}
			}
		}
		for step := 0; left > 0; step++ {
			if step > 200_000 {
				t.Fatalf("seed %d: %d gangs do not finish", seed, left)
			}
			now = now.Add(time.Second)
			for _, i := range chance.Perm(len(gangs)) {
				g := gangs[i]
				if len(g.held) > 0 && now.Sub(g.since) > g.wait+time.Second {
					t.Fatalf("seed %d: gang %d has held %d containers for %v", seed, i, len(g.held), now.Sub(g.since))
				}
				if free > 0 && wants[i] > 0 {
					id++
					free, wants[i], holds[i] = free-1, wants[i]-1, holds[i]+1
					do(i, g.granted(now, granted(id)))
				}
				do(i, g.tick(now))
				if !ends[i].IsZero() && now.After(ends[i]) {
					do(i, g.close())
					free, holds[i], wants[i], ends[i], left = free+holds[i], 0, 0, time.Time{}, left-1
				}
			}
			if sum := free; sum < 0 || slices.Max(holds) > room {
				t.Fatalf("seed %d: %d free, %v held", seed, free, holds)
			}
		}
	}
}
