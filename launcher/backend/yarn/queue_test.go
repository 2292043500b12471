package yarn

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/yarn"
)

// sharer is a gang in a queue that others share, with its program, which needs all of its nodes.
type sharer struct {
	*gang
	wants int
	have  []yarn.ContainerID
	whole time.Time // since then it has all; zero: it has not
	takes time.Duration
	over  bool
	stuck time.Time // since when it holds nodes without running; zero: it does not
}

// do carries out what the core wants, and gives the room that comes free.
func (s *sharer) do(list []effect) (free int) {
	for _, e := range list {
		switch e := e.(type) {
		case ask:
			s.wants = e.count
		case release:
			for _, id := range e.ids {
				i := slices.Index(s.have, id)
				s.have = slices.Delete(s.have, i, i+1)
				free++
			}
		case launch:
			s.joined(e.place)
		}
	}
	return free
}

// Random histories of a queue that loses machines for good, which several gangs are on: none that does not run holds nodes for longer than its wait, and all
// finish that the rest has room for.
func TestGangsOutliveMachines(t *testing.T) {
	for seed := range uint64(300) {
		chance := rand.New(rand.NewPCG(seed, 3))
		room := 3 + chance.IntN(5)
		spare := 1 + chance.IntN(room)
		var all []*sharer
		for i := range 2 + chance.IntN(2) {
			n := 1 + chance.IntN(room)
			s := &sharer{gang: newGang(n, n, 2*time.Minute, seed<<8+uint64(i)), takes: time.Duration(60+chance.IntN(600)) * time.Second}
			s.do(s.begin())
			s.waiting(true)
			all = append(all, s)
		}
		now, free, id, left := epoch, room+spare, 0, len(all)
		for step := 0; left > 0; step++ {
			if step > 100_000 {
				t.Fatalf("seed %d: %d gangs do not finish", seed, left)
			}
			now = now.Add(time.Second)
			if spare > 0 && step > 30 && chance.IntN(60) == 0 { // a machine, with a container of each that has any
				if free > 0 {
					free, spare = free-1, spare-1
				}
				for _, s := range all {
					if spare > 0 && len(s.have) > 0 {
						gone := s.have[chance.IntN(len(s.have))]
						s.have = slices.DeleteFunc(s.have, func(c yarn.ContainerID) bool { return c == gone })
						spare--
						free += s.do(s.ended(now, yarn.ContainerStatus{ID: gone, ExitCode: yarn.ExitAborted}))
					}
				}
			}
			for _, i := range chance.Perm(len(all)) {
				s := all[i]
				if s.over {
					continue
				}
				if free > 0 && s.wants > 0 {
					id++
					c := granted(id)
					free, s.wants, s.have = free-1, s.wants-1, append(s.have, c.ID)
					free += s.do(s.granted(now, c))
				}
				free += s.do(s.tick(now))
				runs := s.started && s.missing() == 0
				s.waiting(!runs)
				switch {
				case !runs:
					s.whole = time.Time{}
				case s.whole.IsZero():
					s.whole = now
				case now.Sub(s.whole) > s.takes:
					free += s.do(s.close()) + len(s.have)
					s.over, s.have, left = true, nil, left-1
				}
				switch {
				case runs || len(s.have) == 0:
					s.stuck = time.Time{}
				case s.stuck.IsZero():
					s.stuck = now
				case now.Sub(s.stuck) > s.wait+3*time.Second:
					t.Fatalf("seed %d: gang %d holds %d nodes and waits for %v", seed, i, len(s.have), now.Sub(s.stuck))
				}
			}
		}
	}
}

// Nodes that are kept for one that does not come end, and all come anew once there is room.
func TestNodesAreNotKeptForever(t *testing.T) {
	w := newWorld(t, 5)
	ids, keepers := w.stations(5)
	gone := w.cluster.Nodes()[1]
	gone.SetAway(true)
	w.s.post(func() { w.s.gang.wait = 100 * time.Millisecond })
	w.m.Waits(true)
	w.cluster.End(ids[4], yarn.ExitAborted)
	if ev := w.event(backend.KindWarning); ev.Node != "n5" {
		t.Errorf("%+v", ev)
	}
	if ev := w.event(backend.KindWarning); !strings.Contains(ev.Text, "1 of 5 containers were not replaced") {
		t.Errorf("%+v", ev)
	}
	for _, k := range keepers[:4] {
		k.hears(t, `{"abandon":"its container is given back"`)
	}
	for _, id := range ids {
		for late := time.Now().Add(20 * time.Second); !w.cluster.Ended(id); runtime.Gosched() {
			if time.Now().After(late) {
				t.Fatalf("%s was not given back", id)
			}
		}
	}
	w.s.post(func() { w.s.gang.wait = time.Minute })
	gone.SetAway(false)
	for place := range 5 {
		if id, b := w.container(place); slices.Contains(ids, id) || b.Doc.Node.Name != nodeName(place) {
			t.Errorf("place %d has %s of %s", place, id, b.Doc.Node.Name)
		}
	}
	w.stop()
}
