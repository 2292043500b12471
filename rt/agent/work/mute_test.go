package work

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// hang has the worker that is asked for be attached before it is there, and end without a word.
func (s *script) hang() {
	key := s.w.needs[0]
	s.w.needs = s.w.needs[1:]
	s.bear(key)
	s.w.log = nil
	s.w.step(ProcessGone{Process: s.w.last, Why: "it hung"})
}

// bear attaches a worker that was greeted, and gives its name.
func (s *script) bear(key uint64) string {
	s.w.last++
	name := "b" + string('0'+rune(s.w.last))
	s.w.procs[name], s.w.who[s.w.last] = s.w.last, name
	s.w.step(ProcessUp{Process: s.w.last, Kind: Worker, Key: key, PID: 1000 + uint32(s.w.last), Greeted: true})
	return name
}

func hanging(t *testing.T, lines ...string) *script {
	s := &script{t: t}
	for _, line := range append([]string{"core CPU:1", "driver d", "function d f", "function d C class", "methods d C m", "shape d 1 CPU:1", "shape d 2 CPU:1 retries=0"}, lines...) {
		s.do(line)
	}
	return s
}

// What a worker was given that ended before its first word has not begun: it is no try of a task, and no life of an actor.
func TestWorkersWithoutAWord(t *testing.T) {
	for _, line := range []string{"submit d a f shape=2", "create d A C shape=2"} {
		s := hanging(t, line)
		for i := 1; i < maxRestarts; i++ {
			s.hang()
			if said := s.said(); strings.Contains(said, "d <- ") {
				t.Fatalf("%s: after %d workers that said nothing: %s", line, i, said)
			}
			if len(s.w.needs) != 1 {
				t.Fatalf("%s: after %d workers that said nothing %d are asked for: %s", line, i, len(s.w.needs), s.said())
			}
		}
		s.hang()
		if said := s.said(); !strings.Contains(said, "no worker could be started for it: it hung") {
			t.Errorf("%s: after the last worker that said nothing: %s", line, said)
		}
	}
}

// With its first word a worker has begun: its end is one, and counts.
func TestWorkersWithAWord(t *testing.T) {
	for _, line := range []string{"submit d a f shape=2", "create d A C shape=2"} {
		s := hanging(t, line)
		s.hang()
		name := s.bear(s.w.needs[0])
		s.w.send(name, &fb.StartedT{Task: &fb.TaskIDT{}}, nil)
		if s.w.core.strays > 0 {
			t.Error("a first word is no stray")
		}
		s.w.log = nil
		s.w.step(ProcessGone{Process: s.w.last, Why: "killed"})
		if said := s.said(); !strings.Contains(said, "its worker died: killed") {
			t.Errorf("%s: %s", line, said)
		}
	}
}
