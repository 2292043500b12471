package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// birth is the work connection of a worker that its template has not made yet. The template is given the worker's end, and what the
// worker would be told first: so a new process does not dial, greet and attach, which takes it longer than the fork.
type birth struct {
	ours    *os.File
	process uint32
}

// envKey is what a worker attaches with.
const envKey = "MANIPLE_WORKER="

// fork has a template make a worker.
func (d *desk) fork(c *workConn, f *fb.ForkT) {
	h := d.hired[f.Key]
	if h != nil {
		h.forked = d.l.now()
	}
	if h == nil || !c.born || !d.conceive(c, h, f) {
		d.send(c, f, 0, nil) // and it attaches
		return
	}
	if h.actor { // whose work is known; a task's could be done by somebody else before this one is there
		d.expected = append(d.expected, h)
	}
}

// conceive sends a Fork with the worker's end of a connection. False: that could not be made.
func (d *desk) conceive(c *workConn, h *hired, f *fb.ForkT) bool {
	ours, theirs, err := uds.Pair()
	if err != nil {
		return false
	}
	defer theirs.Close()
	b := &birth{ours: ours, process: d.l.number()}
	with := *f
	with.Env = slices.DeleteFunc(slices.Clone(f.Env), func(v string) bool { return strings.HasPrefix(v, envKey) }) // it has no need to say who it is
	with.Attached = d.core.Greeting(id.Process(b.process), h.job.number)
	if err := d.sendFile(c, &with, theirs); err != nil {
		ours.Close()
		return false
	}
	h.birth, h.greeted = b, true
	return true
}

// bear takes over the connection of a worker that its template makes. What an actor's is sent before it runs its template reads, which is warm.
func (d *desk) bear(ctx context.Context, h *hired) {
	b := h.birth
	h.birth = nil
	nc, err := net.FileConn(b.ours)
	b.ours.Close()
	if err == nil {
		conn, e := uds.Server(nc.(*net.UnixConn))
		if err = e; err == nil {
			d.arrive(ctx, &arrival{conn: conn, process: b.process, attach: &fb.AttachT{Kind: fb.AttachKindWorker, Worker: h.key, Pid: uint32(h.pid)}, greeted: true})
			return
		}
		nc.Close()
	}
	d.kill(h, fmt.Sprintf("its connection can't be used: %v", err))
}

// bearExpected does so for actors' workers that templates were told of.
func (d *desk) bearExpected(ctx context.Context) {
	for _, h := range d.expected {
		if h.birth != nil {
			d.bear(ctx, h)
		}
	}
	d.expected = d.expected[:0]
}

// stillborn: it never ran.
func (h *hired) stillborn() {
	if h.birth != nil {
		h.birth.ours.Close()
		h.birth = nil
	}
}
