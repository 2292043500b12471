package gang

import (
	"slices"
	"sync"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// mailbox holds what came for one group until its owner takes it. What bounds it is the sender: the
// windows of the gang's streams, 16 MiB in all, and the few states that a group goes through.
type mailbox struct {
	group fb.TaskIDT
	ready chan struct{} // capacity 1: there is something

	mu    sync.Mutex
	items []item
}

// item is a message, a new session (whoever asked for something asks again), a word about the connection, or the end of the client.
type item struct {
	msg   transport.Msg
	again bool
	link  linkWord
	err   error
}

// linkWord is what became of the connection to the agent.
type linkWord uint8

const (
	linkDown linkWord = iota + 1
	linkUp
)

// open makes the box of a group. A client that is over puts its error in at once.
func (c *Client) open(group id.Task) *mailbox {
	b := &mailbox{group: *taskT(group), ready: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boxes = append(c.boxes, b)
	if c.err != nil {
		b.put(item{err: c.err})
	}
	return b
}

func (c *Client) close(b *mailbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boxes = slices.DeleteFunc(c.boxes, func(x *mailbox) bool { return x == b })
}

// tell has all hear of the connection. c.mu is held.
func (c *Client) tell(w linkWord) {
	for _, b := range c.boxes {
		b.put(item{link: w})
	}
}

func (b *mailbox) put(it item) {
	b.mu.Lock()
	b.items = append(b.items, it)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() []item {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}
