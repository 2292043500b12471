package transport

import (
	"errors"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var (
	// ErrBudget: the class of the message holds all that it may hold at this side. Nothing was
	// queued; LinkConfig.OnRoom tells when to try again.
	ErrBudget = errors.New("transport: the link's budget for this class is spent; wait for room and send again")
	// ErrTooLarge: the message exceeds wire.MaxMessage.
	ErrTooLarge = errors.New("transport: message is larger than a link carries; send it in parts")
	// ErrDead: the session is over; nothing will be sent or delivered on it.
	ErrDead = errors.New("transport: the session is over")
	// ErrLost: the session was not resumed in LinkConfig.LostAfter.
	ErrLost = fmt.Errorf("%w: its connection broke and was not resumed in time", ErrDead)
	// ErrClosed: this side ended the session.
	ErrClosed = fmt.Errorf("%w: closed by this side", ErrDead)
	// ErrProtocol: the peer sent what no honest peer sends; its connection is closed.
	ErrProtocol = errors.New("transport: the peer broke the protocol")
	// ErrGap: frames are missing on a connection, which lost them; the session resumes on another.
	ErrGap = errors.New("transport: frames were lost on the connection")
	// ErrStalled: the peer acknowledged nothing for LinkCoreConfig.AckTimeout.
	ErrStalled = errors.New("transport: the peer acknowledges nothing")
	// ErrReplaced: another connection took this one's place.
	ErrReplaced = errors.New("transport: another connection took its place")
	// ErrSession: the two sides of a connection do not mean the same session.
	ErrSession = errors.New("transport: not the session that was agreed on")
	// ErrNotOurs: whoever connected does not speak this protocol.
	ErrNotOurs = errors.New("transport: not a connection of Maniple")
)

// RefusedError is the peer's answer to a Hello that it does not admit.
type RefusedError struct {
	Code fb.RefuseCode
	Text string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("transport: refused (%s): %s", e.Code, e.Text)
}

// Final tells whether asking again can not help: only Busy passes by itself.
func (e *RefusedError) Final() bool { return e.Code != fb.RefuseCodeBusy }

// GoodbyeError is how a session ends that the peer closed in order.
type GoodbyeError struct{ Reason string }

func (e *GoodbyeError) Error() string { return "transport: the peer said goodbye: " + e.Reason }

// Is makes a goodbye one of the ways of being dead.
func (e *GoodbyeError) Is(target error) bool { return target == ErrDead }
