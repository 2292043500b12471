package keeper

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// How long daemons get to leave by themselves when the node ends, and then after TERM. The head waits for
// the other agents' last words.
const (
	agentLeave = 2 * time.Second
	headLeave  = 5 * time.Second
	termTime   = time.Second

	withdrawTime = time.Second
)

// finish takes the node down: agent told, programs ended, daemons waited for, everything else below the
// keeper ended, directory removed, and the end told last of all.
func (k *keeper) finish() error {
	k.closeListeners()
	all := &fb.DrainT{Deadline: time.Now().UnixNano(), Reason: k.stop.reason, ExitCode: int32(k.stop.code), Now: true}
	k.agent.send(all)
	k.head.send(all) // by no agent's way: there may be none, and the other nodes must not wait for one
	k.killAll(func() bool { return !k.anyTree() })
	k.dismiss()
	k.killAll(func() bool { return !k.anyBelow() })
	for of := range k.held {
		k.portRelease(of)
	}
	for _, p := range k.order {
		closeFiles(p.files())
	}
	for _, d := range []*daemon{k.agent, k.head} {
		if d == nil {
			continue
		}
		for _, w := range d.waiting {
			w.f.Close()
		}
		if c := d.child; c != nil { // it hangs in the kernel
			close(c.out)
			_ = c.conn.Close()
			d.child = nil
		}
	}
	if k.oom.f != nil {
		k.oom.f.Close()
	}
	k.withdraw()
	k.log.Info("the node is down")
	k.dir.remove(k.key)
	k.out.emit(event{Event: "end", Node: k.name, Code: k.stop.code, Reason: k.stop.reason})
	return k.stop
}

// withdraw takes back the cluster's address, if this node has the head: who wrote it may have been killed. It is
// in a home directory, whose file system may hang.
func (k *keeper) withdraw() {
	if !k.hosts || k.doc.Endpoint == "" {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		bootdoc.Withdraw(k.doc.Endpoint, k.doc.Cluster)
	}()
	select {
	case <-done:
	case <-time.After(withdrawTime):
		k.log.Warn("the cluster's address is not removed: its file system does not answer", "file", k.doc.Endpoint)
	}
}

// killAll kills all trees and strays until over says so, or until nothing has ended for killTime.
func (k *keeper) killAll(over func() bool) {
	effort := sweep.Effort{Patience: killTime}
	for !over() {
		now := time.Now()
		for _, p := range k.all() {
			if p.phase == fb.RankPhaseStarting {
				k.refuse(p, codeNoExec, "keeper: the node "+k.name+" ends: "+k.stop.reason)
			} else if !p.clean {
				p.killBy(now)
			}
		}
		k.trees.strays.killAt = now
		k.treesWork(now, 0)
		if over() {
			return
		}
		if effort.Over(time.Now(), k.trees.living) {
			k.left()
			return
		}
		k.turn(now.Add(killRetry))
	}
}

// left tells what does not end.
func (k *keeper) left() {
	found, _, err := k.look()
	n := 0
	for _, q := range found {
		if !q.Dead() {
			n++
			k.log.Error("left: it does not end", "pid", q.PID, "state", string(q.State), "error", err)
		}
	}
	if n > 0 {
		k.out.emit(event{Event: "error", Node: k.name, Code: "LEFT", Text: "keeper: processes of this node do not end even by KILL: they hang in the kernel, or are another user's"})
	}
}

// anyTree tells whether a program runs or anything of one is left.
func (k *keeper) anyTree() bool {
	for _, p := range k.all() {
		if p.live() || !p.clean {
			return true
		}
	}
	return false
}

// anyBelow tells whether any process is left below the keeper, a daemon's or not.
func (k *keeper) anyBelow() bool {
	k.reap()
	found, _, err := k.look()
	if err != nil {
		return true
	}
	for _, q := range found {
		if !q.Dead() {
			return true
		}
	}
	return false
}

// dismiss waits for the daemons to leave, then asks the kernel to end them.
func (k *keeper) dismiss() {
	for _, d := range []*daemon{k.agent, k.head} {
		if d == nil {
			continue
		}
		leave := headLeave
		if d.role == fb.RoleAgent {
			leave = agentLeave
		}
		deadline := time.Now().Add(leave)
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
			for d.child != nil && time.Now().Before(deadline) && !k.hard {
				k.turn(deadline)
			}
			if c := d.child; c != nil && !c.reaped {
				k.log.Warn("it does not leave", "daemon", d.name, "pid", c.pid, "signal", unix.SignalName(sig))
				_ = unix.Kill(c.pid, sig)
			}
			deadline = time.Now().Add(termTime)
		}
		for deadline = time.Now().Add(killTime); d.child != nil && time.Now().Before(deadline); {
			k.turn(deadline)
		}
	}
}
