package gang

import (
	"fmt"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// The words of the wire that whoever asks for a gang has to say, under this room's roof: a launcher
// needs no other part of the wire.
type (
	Bundle   = fb.BundleT
	Resource = fb.ResourceT
	Label    = fb.LabelT
	Program  = fb.ProgramT
	Strategy = fb.Strategy
	Update   = fb.GroupUpdateT
	Notice   = fb.NoticeT
	Cancel   = fb.GroupCancelT
)

// Strategies of placement.
const (
	Pack         = fb.StrategyPack
	Spread       = fb.StrategySpread
	StrictPack   = fb.StrategyStrictPack
	StrictSpread = fb.StrategyStrictSpread
)

// Ways of a Cancel, the level of a notice that no one needs to act on, and where input goes.
const (
	CancelDrain   = fb.CancelModeDrain
	CancelStop    = fb.CancelModeStop
	CancelSignal  = fb.CancelModeSignal
	LevelInfo     = fb.LevelInfo
	StdinRankZero = fb.StdinToRankZero
)

// WireVersion is the version of the wire that this build speaks.
const WireVersion = wire.Version

// RefusedError is an agent's or head's refusal of a connection, with its code.
type RefusedError = transport.RefusedError

// Refusals that a user can do something about.
const (
	RefusedVersion  = fb.RefuseCodeWireVersion
	RefusedDraining = fb.RefuseCodeDraining
)

// ErrDead means that a session is over and will not be resumed.
var ErrDead = transport.ErrDead

// GroupOf is the group that an update is about.
func GroupOf(u *Update) id.Task {
	if u.Group == nil {
		return id.Task{}
	}
	return id.Task{Agent: id.Agent(u.Group.Agent), Process: id.Process(u.Group.Process), Counter: u.Group.Counter}
}

// ClientCredential mints a client's credential for a cluster, as PEM: what Endpoint takes. It proves no
// more than a client, and the secret can't be found from it.
func ClientCredential(cluster string, secret []byte) (ca, cert, key []byte, err error) {
	authority, err := tcp.NewAuthority(cluster, secret)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("gang: the cluster's authority: %w", err)
	}
	cred, err := authority.Credential(fb.RoleClient)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("gang: a client's credential: %w", err)
	}
	return cred.PEM()
}
