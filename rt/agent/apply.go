package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// apply does one effect.
func (l *loop) apply(ctx context.Context, e Effect) {
	switch e := e.(type) {
	case ToHead:
		if err := l.send(l.head.link, e.M, e.Corr, e.Payload); err != nil {
			l.log.Error("can't send to the head", "type", typeName(e.M), "error", err)
		}
	case ToPeer:
		l.sendPeer(ctx, e)
	case PeerDial:
		l.dialPeer(ctx, e)
	case PeerDrop:
		l.dropPeer(e.Peer)
	case ToClient:
		l.sendClient(ctx, e)
	case CloseClient:
		l.closeClient(ctx, e)
	case ToKeeper:
		l.toKeeper <- e.M
	case ReadMore:
		if d := l.programs[e.Key]; d != nil {
			d.permit(e, func(ev Event) bool { return l.later(ctx, ev) })
		} else {
			l.later(ctx, OutputEOF{Key: e.Key, Stream: e.Stream})
		}
	case StopRead:
		if d := l.programs[e.Key]; d != nil {
			d.closeStream(e.Stream)
		}
	case Acked:
		if d := l.programs[e.Key]; d != nil && d.spool != nil {
			d.spool.acked(int(e.Stream)-1, e.Offset)
		}
	case Remember:
		l.sinks[e.Key] = e
		if d := l.programs[e.Key]; d != nil {
			d.sink = &e
			d.spool.remember(e)
		}
	case WriteInput:
		if d := l.programs[e.Key]; d != nil && d.in != nil && !d.in.closed {
			d.in.work <- e.Data
		} else {
			l.later(ctx, InputWritten{Key: e.Key, Gone: true})
		}
	case CloseInput:
		l.closeInput(e.Key)
	case Forget:
		l.forget(e.Key)
	case Leave:
		l.leave(e.Reason)
	case Sweep:
		l.sweep()
	case Adopt:
		l.desk.adopt(ctx, e.M)
	case NodeDrain:
		l.desk.drains(ctx, e.M)
	case Exit:
		l.exit = &e
	}
}

// later brings an event to the loop from within it, without waiting for itself.
func (l *loop) later(ctx context.Context, ev Event) bool {
	select {
	case l.inbox <- item{ev: ev}:
	default:
		l.goes(func() { l.post(ctx, item{ev: ev}) })
	}
	return true
}

// programFiles keeps the descriptors that came with the first ProgramState of a program.
func (l *loop) programFiles(ctx context.Context, m Message, files []*os.File) {
	p, ok := m.(*fb.ProgramStateT)
	key := Key{}
	if ok {
		key = Key{taskOf(p.Group), p.Incarnation, p.Rank}
	}
	if !ok || len(files) == 0 || l.programs[key] != nil {
		closeAll(files)
		return
	}
	l.programs[key] = newStdio(key, l.spools[key], l.config.NodeDir, p.Stdin, p.Pty, files, l.poster(ctx))
	l.programs[key].lost = func(err error) {
		l.log.Warn("what the program prints does not outlive this agent any more", "program", key, "error", err)
	}
	delete(l.spools, key)
	if s, ok := l.sinks[key]; ok {
		l.programs[key].sink = &s
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// closeInput ends a program's input here and at the keeper, which holds a copy.
func (l *loop) closeInput(k Key) {
	d := l.programs[k]
	if d == nil || d.in == nil || d.in.closed {
		return
	}
	d.in.end()
	if !d.in.terminal {
		l.toKeeper <- &fb.ProgramSignalT{Group: taskT(k.Group), Incarnation: k.Incarnation, Rank: k.Rank}
	}
}

func (l *loop) forget(k Key) {
	delete(l.sinks, k)
	if s := l.spools[k]; s != nil {
		s.close(true)
		delete(l.spools, k)
	}
	if d := l.programs[k]; d != nil {
		d.stop(true, &l.wait)
		delete(l.programs, k)
	}
}

// leave flushes the link to the head, for a second at most.
func (l *loop) leave(reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	l.head.stop()
	if err := l.head.link.Close(ctx, reason); err != nil {
		l.log.Warn("the head did not take leave", "error", err)
	}
}

// sweep ends what a killed keeper left, and the node's directory.
func (l *loop) sweep() {
	var known []sweep.Process
	for _, g := range l.core.gangs.order {
		for _, k := range g.ranks {
			if k.state.Pid != 0 {
				known = append(known, sweep.Process{PID: int(k.state.Pid), Started: k.state.Started})
			}
		}
	}
	n, err := sweep.Sweep(l.config.NodeKey, l.config.NodeDir, known...)
	l.log.Warn("the keeper is gone: swept", "processes", n, "error", err)
}

// orphanSpools removes the files of programs that the keeper does not have.
func (l *loop) orphanSpools(keep map[string]bool) {
	found, err := filepath.Glob(filepath.Join(l.config.NodeDir, "spool-*"))
	for _, path := range found {
		if !keep[path] {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		l.log.Warn("spool files", "error", err)
	}
}
