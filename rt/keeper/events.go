package keeper

import (
	"encoding/json"
	"io"
	"time"
)

// event is a line on standard output.
type event struct {
	Event     string   `json:"event"`
	Node      string   `json:"node,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Agent     uint32   `json:"agent,omitempty"`
	Dir       string   `json:"dir,omitempty"`
	Socket    string   `json:"socket,omitempty"`
	Code      any      `json:"code,omitempty"` // of an end a number, of an error a name
	Text      string   `json:"text,omitempty"`
	Reason    string   `json:"reason,omitempty"`
}

// events writes lines in order from a goroutine of its own: a launcher that does not read must not stop
// the node.
type events struct {
	lines chan []byte
	over  chan struct{}
}

func newEvents(w io.Writer) *events {
	e := &events{lines: make(chan []byte, 256), over: make(chan struct{})}
	go func() {
		defer close(e.over)
		for line := range e.lines {
			_, _ = w.Write(line) // nobody listens: the node does not depend on it
		}
	}()
	return e
}

func (e *events) emit(ev event) {
	line, _ := json.Marshal(ev)
	select {
	case e.lines <- append(line, '\n'):
	default: // a launcher that read none of 256 lines
	}
}

// close waits for the lines to be written, but not for a launcher that does not read.
func (e *events) close() {
	close(e.lines)
	select {
	case <-e.over:
	case <-time.After(time.Second):
	}
}
