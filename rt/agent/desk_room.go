package agent

import (
	"encoding/json"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// askRoom and what is above it are the numbers of questions for room.
const askRoom = 1 << 48

// toldRoom takes what the head says of the nodes that could have room for something.
func (d *desk) toldRoom(number uint64, m *fb.StateReplyT, payload []byte) {
	ev := work.Surveyed{Key: number - askRoom}
	var reply struct {
		Agents []uint32 `json:"agents"`
		Issued uint64   `json:"issued"`
		More   bool     `json:"more"`
	}
	if m.Error != "" || json.Unmarshal(payload, &reply) != nil {
		reply.More = true // nothing is known
	}
	for _, a := range reply.Agents {
		ev.Agents = append(ev.Agents, id.Agent(a))
	}
	ev.Issued, ev.More = reply.Issued, reply.More
	d.brings(ev)
}
