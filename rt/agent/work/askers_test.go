package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// When the first of those gives up that wait for the head's word of one name, the others have it still.
func TestNameThatSeveralWaitFor(t *testing.T) {
	p := newPair(t)
	p.mute = true
	for i := range findsAhead {
		p.find(0, 1, fmt.Sprint(i))
	}
	p.now += int64(1e9)
	p.find(0, 1, "it")
	first := p.next
	p.now += int64(1e9)
	p.find(0, 1, "it")
	second := p.next
	p.now += headPatience - int64(2e9) // the questions before are given up, and these two ask as one
	p.step(0, Tick{})
	number := p.cores[0].questions
	p.now += int64(1e9)
	p.step(0, Tick{})
	if v := p.found(0, 1, first); !strings.Contains(v, "has not answered") {
		t.Errorf("the first is told %q", v)
	}
	p.step(0, Found{Key: number})
	if v := p.found(0, 1, second); !strings.Contains(v, noSuch) {
		t.Errorf("the second is told %q", v)
	}
	if c := p.cores[0]; len(c.finds)+len(c.finding) > 0 {
		t.Errorf("%d questions and %d askers are left", len(c.finds), len(c.finding))
	}
	p.find(0, 1, "it")
	p.gone(0, 1, "it ended")
	if n := len(p.cores[0].finds); n > 0 {
		t.Errorf("%d questions are for nobody", n)
	}
}

// A handle that comes for who is gone meanwhile is given back.
func TestHandleForWhoIsGone(t *testing.T) {
	p := newPair(t)
	d := p.drive(0)
	p.mute = true
	p.find(0, d, "it")
	actor := id.Task{Agent: 3, Process: 1, Counter: 1}
	p.step(0, Found{Key: p.cores[0].questions, Actor: actor, Agent: 3, Node: "n3"})
	way := p.last[0]
	asked := p.got[fmt.Sprint("a ", way)]
	if len(asked) != 1 || asked[0].kind != fb.FrameTypeStateQuery {
		t.Fatalf("the other agent is told %v", asked)
	}
	p.gone(0, d, "it ended")
	p.step(0, &Frames{Process: way, Bytes: numbered(frameOf(t, &fb.StateReplyT{}, []byte(`{"actor":{"id":"`+actor.String()+`"}}`)), asked[0].corr)})
	released := p.got[fmt.Sprint("a ", way)][1:]
	if len(released) != 1 || released[0].kind != fb.FrameTypeRelease {
		t.Errorf("the other agent is told %v", released)
	}
	p.empty(0)
}
