package gang

import (
	"context"
	"encoding/json"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// NodeDrain takes a node out of use: it takes nothing new, and what it has moves to others.
type NodeDrain struct {
	Node     string    // its name
	Reason   string    // for people
	Deadline time.Time // when what runs there is moved; zero: never
	Undo     bool      // it takes new work again
}

// DrainNode asks for it. It returns what the head says of the node then, {"version", "node"} (docs/spec/state.md); who asks anything after that is
// answered by nodes that know of it.
func (c *Client) DrainNode(ctx context.Context, how NodeDrain) (json.RawMessage, error) {
	m := &fb.NodeDrainT{Node: how.Node, Reason: how.Reason, Undo: how.Undo}
	if !how.Deadline.IsZero() {
		m.Deadline = how.Deadline.UnixNano()
	}
	return c.question(ctx, "drain "+how.Node, m)
}
