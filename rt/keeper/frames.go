package keeper

import (
	"fmt"
	"path/filepath"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// told handles a frame of a daemon.
func (k *keeper) told(d *daemon, m wire.Message) {
	switch m := m.(type) {
	case *fb.KeeperReadyT:
		k.ready(d, m)
		return
	case *fb.KeeperStopT:
		k.end(int(m.Code), m.Reason)
		return
	}
	if d.role != fb.RoleAgent {
		k.log.Warn("not the head's to say", "frame", wire.TypeOf(m))
		return
	}
	switch m := m.(type) {
	case *fb.ProgramLaunchT:
		k.launch(m)
	case *fb.ProgramSignalT:
		if p := k.programs[keyOf(m.Group, m.Incarnation, m.Rank)]; p != nil {
			k.signal(p, m)
		}
	case *fb.ProgramForgetT:
		if p := k.programs[keyOf(m.Group, m.Incarnation, m.Rank)]; p != nil {
			k.forget(p)
		}
	case *fb.ProgramResizeT:
		if p := k.programs[keyOf(m.Group, m.Incarnation, m.Rank)]; p != nil {
			p.resize(m.Rows, m.Cols)
		}
	case *fb.PortHoldT:
		d.send(k.portHold(m))
	case *fb.PortReleaseT:
		k.portRelease(incarnation{*m.Group, m.Incarnation})
	default:
		k.log.Warn("not the agent's to say", "frame", wire.TypeOf(m))
	}
}

// ready: the daemon serves. Launchers wait for this; what it says of itself is for the log.
func (k *keeper) ready(d *daemon, m *fb.KeeperReadyT) {
	k.log.Info("serves", "daemon", d.name, "agent", m.Agent, "says", m.Text)
	if d.role == fb.RoleAgent {
		d.number = m.Agent
		k.out.emit(event{Event: "ready", Node: k.name, Agent: m.Agent, Dir: k.dir.path, Socket: filepath.Join(k.dir.path, bootdoc.SocketName)})
		return
	}
	if k.served {
		return
	}
	k.served = true
	k.out.emit(event{Event: "head", Node: k.name, Addresses: k.addresses})
}

func keyOf(group *fb.TaskIDT, number, rank uint32) key {
	return key{incarnation{*group, number}, rank}
}

func (k key) String() string {
	return fmt.Sprintf("%d.%d.%d/%d rank %d", k.group.Agent, k.group.Process, k.group.Counter, k.number, k.rank)
}
