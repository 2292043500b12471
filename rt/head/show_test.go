package head

import (
	"fmt"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// show writes a message in one line, for scripts.
func show(m any) string {
	inc := func(t *fb.TaskIDT, n uint32) string { return fmt.Sprintf("%v#%d", taskOf(t), n) }
	switch m := m.(type) {
	case *fb.RegisteredT:
		s := fmt.Sprintf("Registered node=%d term=%d", m.Node, m.Term)
		if m.DrainReason != "" {
			s += " draining: " + m.DrainReason
		}
		return s
	case *fb.AgentDeadT:
		s := fmt.Sprintf("AgentDead %d (%s): %s", m.Agent, m.Name, m.Reason)
		if m.ReplacedBy != 0 {
			s += fmt.Sprintf(" -> %d", m.ReplacedBy)
		}
		return s
	case *fb.NoticeT:
		return fmt.Sprintf("Notice %s %s: %s", m.Level, m.Code, m.Text)
	case *fb.DrainT:
		return fmt.Sprintf("Drain now=%v code=%d: %s", m.Now, m.ExitCode, m.Reason)
	case *fb.BundleReserveT:
		s := "BundleReserve " + inc(m.Group, m.Incarnation)
		for _, b := range m.Bundles {
			s += fmt.Sprintf(" [%d: ranks %d+%d%s%s]", b.Index, b.FirstRank, b.Ranks, opt(" devices ", strings.Join(b.Devices, ",")), opt(" cpus ", fmt.Sprint(b.Cpus)))
		}
		return s + mark(" hold-port", m.HoldPort) + mark(" port-free", m.PortFree) + mark(" quiet", m.Quiet)
	case *fb.BundleReleaseT:
		return "BundleRelease " + inc(m.Group, m.Incarnation)
	case *fb.RankStartT:
		s := "RankStart " + inc(m.Group, m.Incarnation)
		for _, r := range m.Ranks {
			s += fmt.Sprintf(" %d(b%d l%d n%d)", r.Rank, r.Bundle, r.LocalRank, r.NodeRank)
		}
		return s + fmt.Sprintf(" world=%d local=%d nodes=%d master=%s:%d sink=%d.%d", m.World, m.LocalWorld, m.Nodes, m.MasterAddr, m.MasterPort, m.SinkAgent, m.SinkProcess)
	case *fb.RankStopT:
		return fmt.Sprintf("RankStop %s signal=%d grace=%v", inc(m.Group, m.Incarnation), m.Signal, time.Duration(m.Grace))
	case *fb.RankStateAckT:
		return fmt.Sprintf("RankStateAck %s %v", inc(m.Group, m.Incarnation), m.Ranks)
	case *fb.RankSinkT:
		return fmt.Sprintf("RankSink %v to %d.%d %d marks", taskOf(m.Group), m.SinkAgent, m.SinkProcess, len(m.Received))
	case *fb.GroupUpdateT:
		s := fmt.Sprintf("GroupUpdate %s %s", inc(m.Group, m.Incarnation), m.Phase)
		if m.Explain != "" {
			s += " | " + strings.ReplaceAll(m.Explain, "\n", " | ")
		}
		if m.End != nil {
			s += " " + showEnd(m.End)
		}
		return s
	case *fb.PeerInfoT:
		return fmt.Sprintf("PeerInfo %d %s %v dead=%v", m.Agent, m.Name, m.Addresses, m.Dead)
	case *fb.NameClaimedT:
		return fmt.Sprintf("NameClaimed %v by %v of %s%s", taskOf(m.Actor), taskOf(m.Holder), m.Node, opt(": ", m.Error))
	case *fb.NameAdoptT:
		return fmt.Sprintf("NameAdopt %v restarts=%d", taskOf(m.Claim.Actor), m.Claim.Restarts)
	case *fb.RecNameMovedT:
		return fmt.Sprintf("RecNameMoved %v agent %d restarts=%d settled=%v", taskOf(m.Actor), m.Agent, m.Restarts, m.Settled)
	case *fb.RecNameT:
		return fmt.Sprintf("RecName %s/%s of %v agent %d", m.Claim.Namespace_, m.Claim.Name, taskOf(m.Claim.Actor), m.Agent)
	case *fb.RecNameFreeT:
		return fmt.Sprintf("RecNameFree %v", taskOf(m.Actor))
	case *fb.StateReplyT:
		return "StateReply " + m.Error
	case *fb.RecTermT:
		return fmt.Sprintf("RecTerm %d next=%d", m.Term, m.NextAgent)
	case *fb.RecAgentT:
		if m.Register == nil {
			return fmt.Sprintf("RecAgent %d issued", m.Agent)
		}
		return fmt.Sprintf("RecAgent %d is %s, node %d", m.Agent, m.Name, m.Node)
	case *fb.RecAgentDeadT:
		return fmt.Sprintf("RecAgentDead %d: %s%s", m.Agent, m.Reason, opt(" -> ", fmt.Sprint(m.ReplacedBy)))
	case *fb.RecGroupT:
		return "RecGroup " + taskOf(m.Create.Group).String()
	case *fb.RecGroupPlacedT:
		s := "RecGroupPlaced " + inc(m.Group, m.Incarnation)
		for _, p := range m.Places {
			s += fmt.Sprintf(" node%d:", p.Node)
			for _, b := range p.Bundles {
				s += fmt.Sprintf(" b%d", b.Index)
			}
		}
		return s
	case *fb.RecGroupStateT:
		s := fmt.Sprintf("RecGroupState %s %s restarts=%d", inc(m.Group, m.Incarnation), m.Phase, m.Restarts)
		if m.End != nil {
			s += " " + showEnd(m.End)
		}
		return s
	case *fb.RecRankEndT:
		return fmt.Sprintf("RecRankEnd %s rank %d code=%d signal=%d by_us=%v", inc(m.Group, m.Incarnation), m.State.Rank, m.State.Code, m.State.Signal, m.State.ByUs)
	case *fb.RecGroupOwnerT:
		return fmt.Sprintf("RecGroupOwner %v %d.%d", taskOf(m.Group), m.Agent, m.Process)
	case *fb.RecGroupGoneT:
		return fmt.Sprintf("RecGroupGone %v", taskOf(m.Group))
	case *fb.RecDrainT:
		return fmt.Sprintf("RecDrain now=%v code=%d: %s", m.Now, m.ExitCode, m.Reason)
	}
	return fmt.Sprintf("%T", m)
}

func showEnd(e *fb.GroupEndT) string {
	s := fmt.Sprintf("end{code=%d cause=%s rank=%d", e.Code, e.Cause, e.Rank)
	s += opt(" node=", e.Node)
	if e.Signal != 0 {
		s += fmt.Sprintf(" signal=%d", e.Signal)
	}
	if e.Restarts != 0 {
		s += fmt.Sprintf(" restarts=%d", e.Restarts)
	}
	s += opt(" tail=", e.Tail)
	return s + "}" + opt(" ", strings.ReplaceAll(e.Reason, "\n", " | "))
}

func opt(label, v string) string {
	if v == "" || v == "0" || v == "[]" {
		return ""
	}
	return label + v
}

func mark(label string, on bool) string {
	if on {
		return label
	}
	return ""
}

// note logs an effect as scripts show it.
func (w *world) note(e Effect) {
	name := func(n any) string {
		for _, a := range w.agents {
			if fmt.Sprint(a.number) == fmt.Sprint(n) && a.number != 0 {
				return a.name
			}
		}
		return fmt.Sprintf("agent-%v", n)
	}
	switch e := e.(type) {
	case Append:
		w.log = append(w.log, "  + "+show(e.Rec))
	case Send:
		w.log = append(w.log, fmt.Sprintf("  %s <- %s", name(e.Agent), show(e.Msg)))
	case Admitted:
		w.log = append(w.log, fmt.Sprintf("  admitted: assigned=%d term=%d", e.Welcome.Assigned, e.Welcome.Term))
	case Refused:
		w.log = append(w.log, fmt.Sprintf("  refused: %s: %s", e.Refuse.Code, e.Refuse.Text))
	case Bury:
		w.log = append(w.log, fmt.Sprintf("  bury %s: %s", name(e.Agent), e.Reason))
	case Exit:
		w.log = append(w.log, fmt.Sprintf("  exit %d: %s", e.Code, e.Reason))
	}
}
