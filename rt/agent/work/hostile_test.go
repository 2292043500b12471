package work

import (
	"math/rand/v2"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Whatever another agent sends, a core stays whole (WORK-8).
func TestHostileAgent(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		p := newPair(t)
		task := p.submit(nil, nil)
		actor := p.create(0)
		at := rng.IntN(2)
		names := []id.Task{task, actor, {Agent: 1, Process: 1, Counter: 77}, {Agent: 2, Process: 5, Counter: 3}, {Agent: 9, Process: 1, Counter: 1}, {}}
		pick := func() id.Task { return names[rng.IntN(len(names))] }
		object := func() *fb.ObjectIDT {
			return &fb.ObjectIDT{Task: taskT(pick()), Index: []uint32{0, 1, 1 << 31}[rng.IntN(3)]}
		}
		n := func() uint32 { return uint32(rng.IntN(3)) }
		for range 40 {
			payload := append(objectBytes(of(pick()), of(pick()), of(pick()))[:rng.IntN(3*objectSize)], "x"...)
			var m wire.Message
			switch rng.IntN(12) {
			case 0:
				m = &fb.SubmitT{Task: taskT(pick()), Parent: taskT(pick()), Function: numberOf("f"), Shape: n(), Returns: []uint32{1, 0, 1 << 31, dynamic, 1 << 30}[rng.IntN(5)], Deps: n(), Refs: n()}
			case 1:
				m = &fb.CallT{Task: taskT(pick()), Parent: taskT(pick()), Actor: taskT(pick()), Shape: n(), Returns: n(), Deps: n(), Refs: n()}
			case 2:
				m = &fb.ResultT{Task: taskT(pick()), Index: n(), Flags: uint32(rng.IntN(32)), Format: fb.Format(rng.IntN(5)), Refs: n()}
			case 3:
				m = &fb.ReleaseT{Object: object(), Deliveries: n()}
			case 4:
				m = &fb.GetT{Object: object(), Want: fb.Want(rng.IntN(3))}
			case 5:
				m = &fb.CancelT{Task: taskT(pick()), Force: n(), Recursive: n()}
			case 6:
				m = &fb.CreateT{Actor: taskT(pick()), Function: numberOf("f"), Shape: n(), Deps: n(), Refs: n()}
			case 7:
				m = &fb.ActorStateT{Actor: taskT(pick()), Phase: fb.ActorPhase(rng.IntN(4)), Incarnation: n()}
			case 8:
				m = &fb.ResultT{Task: taskT(pick()), Index: 1 << 31, Refs: n()}
			case 9:
				m = &fb.ShapeT{Number: n() << 16, Bundle: -1}
			case 10:
				m = &fb.BlockedT{Task: taskT(pick())}
			case 11:
				m = &fb.SealT{Object: object()}
			}
			if !p.open {
				break
			}
			p.say(at, p.errand[at], m, payload)
		}
		if p.open {
			p.cutOff("enough")
		}
		p.gone(0, 1, "it ended")
	}
}
