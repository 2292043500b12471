package gang

import (
	"fmt"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// endOf reads an end off the last update of a group.
func endOf(group id.Task, u *fb.GroupUpdateT, ranks int) End {
	e := End{Group: group, Rank: -1, Ranks: ranks, Cause: "lost", Code: 75, Wall: time.Now()}
	if u.End == nil {
		e.Reason = "the head gave no reason"
		return e
	}
	e.Code, e.Cause, e.Reason = int(u.End.Code), u.End.Cause, u.End.Reason
	e.Rank, e.Node, e.Signal, e.Tail = int(u.End.Rank), u.End.Node, int(u.End.Signal), u.End.Tail
	e.Restarts = int(u.End.Restarts)
	if u.End.Wall != 0 {
		e.Wall = time.Unix(0, u.End.Wall)
	}
	return e
}

// NodeDiedError: the client's own node died, and with it all that the client knows of the cluster.
type NodeDiedError struct {
	Node, Why string
}

func (e *NodeDiedError) Error() string {
	return fmt.Sprintf("node %s died: %s; see maniple status for what is left", e.Node, e.Why)
}

// Is: there will be no other session.
func (e *NodeDiedError) Is(target error) bool { return target == ErrDead }

// EndedError: the cluster ended in order, or its head's node died. Code is what it ended with.
type EndedError struct {
	Reason string
	Code   int
}

func (e *EndedError) Error() string { return "gang: the cluster has ended: " + e.Reason }

// Is: there will be no other session.
func (e *EndedError) Is(target error) bool { return target == ErrDead }

// end is that of a gang that dies with the client's node: as the head would say it of any other node.
func (e *NodeDiedError) end(group id.Task, ranks int) End {
	return End{
		Group: group, Code: 128 + 9, Cause: "node", Rank: -1, Node: e.Node, Ranks: ranks,
		Reason: fmt.Sprintf("node %s died: %s", e.Node, e.Why), Wall: time.Now(),
	}
}

// Report is the line for the user: "rank 2 on n2 exited with code 3 (of 4 ranks); last lines: ...",
// "" when all is well.
func (e End) Report() string {
	if e.Cause == "ok" || e.Code == 0 && e.Cause == "cancelled" || e.Code == 0 && e.Cause == "drained" {
		return ""
	}
	text := e.Reason
	if text == "" {
		switch {
		case e.Rank >= 0 && e.Signal != 0:
			text = fmt.Sprintf("rank %d on %s was killed by signal %d", e.Rank, e.Node, e.Signal)
		case e.Rank >= 0:
			text = fmt.Sprintf("rank %d on %s exited with code %d", e.Rank, e.Node, e.Code)
		case e.Node != "":
			text = "node " + e.Node + " died"
		default:
			text = "ended: " + e.Cause
		}
	}
	if e.Ranks > 1 && e.Rank >= 0 {
		text += fmt.Sprintf(" (of %d ranks)", e.Ranks)
	}
	if e.Restarts > 0 {
		text += fmt.Sprintf(", after %d restart%s", e.Restarts, map[bool]string{true: "s"}[e.Restarts > 1])
	}
	tail := strings.Trim(e.Tail, "\n")
	switch {
	case tail == "" || e.Ranks <= 1 && e.Cause == "rank":
		return text // a single program's last lines are on the screen
	case !strings.Contains(tail, "\n"):
		return text + "; last line: " + tail
	}
	return text + "; last lines:\n  " + strings.ReplaceAll(tail, "\n", "\n  ")
}
