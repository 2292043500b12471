package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// sent gives what the desk has for other agents since the last call.
func (d *desk) sent() (out []ToAgent) {
	for len(d.l.inbox) > 0 {
		if ev, ok := (<-d.l.inbox).ev.(ToAgent); ok {
			out = append(out, ev)
		}
	}
	return out
}

// Frames for an errand that is over are answered: its other end must not wait for ever.
func TestFramesForAnErrandThatIsOver(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.errandSays(t.Context(), FromPeer{Peer: 2, M: &fb.ErrandT{Errand: 7}, Payload: []byte("frames")})
	if m := d.sent(); len(m) != 1 || m[0].Peer != 2 || m[0].M.(*fb.ErrandCloseT).Errand != 7 || !m[0].M.(*fb.ErrandCloseT).Back || !m[0].M.(*fb.ErrandCloseT).Cut {
		t.Errorf("sent %+v", m)
	}
	d.errandSays(t.Context(), FromPeer{Peer: 2, M: &fb.ErrandCloseT{Errand: 7}})
	if m := d.sent(); len(m) > 0 {
		t.Errorf("an end of what is over is answered by %+v", m)
	}
}

// What a turn has for another agent goes in messages of whole frames that are not too large, in their order.
func TestErrandInPieces(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	e := &errand{number: 7, peer: 2}
	var all []byte
	for i := range 5 {
		frame, err := carrier.AppendMessage(nil, &fb.RankOutputT{Rank: uint32(i)}, 0, make([]byte, errandBatch/2))
		if err != nil {
			t.Fatal(err)
		}
		d.errandAppend(e, frame)
		all = append(all, frame...)
	}
	d.settleErrands(t.Context())
	m := d.sent()
	var got []byte
	for _, x := range m {
		if n := len(x.Payload); n > errandBatch {
			t.Errorf("a message of %d bytes", n)
		}
		got = append(got, x.Payload...)
	}
	if len(m) != 5 || !bytes.Equal(got, all) {
		t.Errorf("%d messages with %d bytes of %d", len(m), len(got), len(all))
	}
}

// A session that broke takes its errands along and the places at its other end. If that is not dead they come back.
func TestSessionWithErrandsThatBreaks(t *testing.T) {
	for _, dead := range []bool{false, true} {
		now := int64(time.Second)
		d := alone(&now)
		group := id.Task{Agent: 1, Process: 3, Counter: 1}
		d.groups[group] = &made{group: group, places: []*fb.RecPlaceT{{Agent: 2, Bundles: []*fb.BundlePlaceT{{Index: 4, Resources: []*fb.ResourceT{res("CPU", 1)}}}}}}
		d.errands = []*errand{{number: 7, peer: 2, process: 9}, {number: 8, peer: 3, process: 10}}
		var events []work.Event
		d.tellPlaces(work.Place{Group: group}, d.groups[group].places, 0)
		d.later(t.Context())
		d.peerOver(t.Context(), 2, "it broke", dead)
		if len(d.errands) != 1 || d.errands[0].peer != 3 {
			t.Fatalf("%d errands are left", len(d.errands))
		}
		if m := d.sent(); !dead && (len(m) != 1 || m[0].M.(*fb.ErrandCloseT).Errand != 7 || !m[0].M.(*fb.ErrandCloseT).Cut) || dead && len(m) > 0 {
			t.Errorf("dead %v: sent %+v", dead, m)
		}
		now += peerAgain
		d.settleErrands(t.Context())
		events = append(events, d.events...)
		if back := len(events) == 1 && events[0].(work.Place).Bundle == 4; back == dead {
			t.Errorf("dead %v: 5 s later the core hears %+v", dead, events)
		}
	}
}
