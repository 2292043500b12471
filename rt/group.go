package rt

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Strategy is how the bundles of a group lie on nodes.
type Strategy uint8

// Pack takes few nodes if it can, Spread many; StrictPack takes one, and StrictSpread one for each bundle.
const (
	Pack         = Strategy(fb.StrategyPack)
	Spread       = Strategy(fb.StrategySpread)
	StrictPack   = Strategy(fb.StrategyStrictPack)
	StrictSpread = Strategy(fb.StrategyStrictSpread)
)

// Bundle is amounts of resources on one node: CPU, GPU, memory (in bytes), and what else nodes have.
type Bundle map[string]float64

// Group is bundles that are reserved together, all or none. It ends with its driver, or by Remove. It may be sent in values.
type Group struct {
	s  *session.Session
	id id.Task
	n  int

	mu      sync.Mutex
	watched bool
	last    *fb.GroupUpdateT
	changed chan struct{} // closed at the next update
}

// NewGroup asks for bundles. Its error is why they can never be there; when they are, Ready tells.
func NewGroup(ctx context.Context, strategy Strategy, bundles ...Bundle) (*Group, error) {
	c, err := connected()
	if err != nil {
		return nil, err
	}
	m := &fb.GroupCreateT{Strategy: fb.Strategy(strategy)}
	for i, b := range bundles {
		if i > 0 && maps.Equal(b, bundles[i-1]) { // said once
			last := m.Bundles[len(m.Bundles)-1]
			last.Times = max(last.Times, 1) + 1
			continue
		}
		made := &fb.BundleT{}
		for _, name := range slices.Sorted(maps.Keys(b)) {
			n := b[name]
			if name == "" || math.IsNaN(n) || n < 0 || n > math.MaxInt64/unit/2 {
				return nil, fmt.Errorf("rt: NewGroup: bundle %d: %v of %q is no amount", i, n, name)
			}
			if n > 0 {
				made.Resources = append(made.Resources, &fb.ResourceT{Name: name, Amount: int64(math.Round(n * unit))})
			}
		}
		if len(made.Resources) == 0 {
			return nil, fmt.Errorf("rt: NewGroup: bundle %d has no resources", i)
		}
		m.Bundles = append(m.Bundles, made)
	}
	if len(m.Bundles) == 0 {
		return nil, fmt.Errorf("rt: NewGroup: a group has at least one bundle")
	}
	g := &Group{s: c.s, id: c.s.Mint(), n: len(bundles), watched: true, changed: make(chan struct{})}
	m.Group = session.TaskT(g.id)
	g.s.Watch(g.id, g.told)
	if err := g.s.Say(m, 0, nil); err != nil {
		return nil, fmt.Errorf("rt: NewGroup: %w", err)
	}
	u, err := g.wait(ctx, func(*fb.GroupUpdateT) bool { return true })
	if err != nil {
		g.cancel() // nobody has it
		return nil, err
	}
	return g, g.gone(u)
}

// told takes in what the head says; on the connection's reader.
func (g *Group) told(u *fb.GroupUpdateT) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = u
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait waits for an update of a kind.
func (g *Group) wait(ctx context.Context, ok func(*fb.GroupUpdateT) bool) (*fb.GroupUpdateT, error) {
	for {
		g.mu.Lock()
		u, changed := g.last, g.changed
		g.mu.Unlock()
		if u != nil && ok(u) {
			return u, nil
		}
		if err := g.s.Block(ctx, changed); err != nil {
			if ctx.Err() == nil {
				return nil, outward(err)
			}
			return nil, &Error{Code: "TIMEOUT", Task: g.ID(), Message: g.s.Explain(g.ID()) + ": " + err.Error(), err: ctx.Err()}
		}
	}
}

// gone is why a group will not be there; nil if it may.
func (g *Group) gone(u *fb.GroupUpdateT) error {
	if u.Phase != fb.GroupPhaseEnded && u.Phase != fb.GroupPhaseStopping {
		return nil
	}
	why := "it was removed"
	if u.End != nil && u.End.Reason != "" {
		why = u.End.Reason
	}
	return &GroupError{Group: g.ID(), Message: fmt.Sprintf("group %s: %s", g.ID(), why)}
}

// Ready waits until all bundles are reserved.
func (g *Group) Ready(ctx context.Context) error {
	g.mu.Lock()
	ask := !g.watched // it came from another process
	g.watched = true
	g.mu.Unlock()
	if ask {
		g.s.Watch(g.id, g.told)
		if err := g.s.Say(&fb.GroupWatchT{Group: session.TaskT(g.id)}, 0, nil); err != nil {
			return err
		}
	}
	u, err := g.wait(ctx, func(u *fb.GroupUpdateT) bool { return u.Phase >= fb.GroupPhaseCreated })
	if err != nil {
		return err
	}
	return g.gone(u)
}

func (g *Group) cancel() {
	_ = g.s.Say(&fb.GroupCancelT{Group: session.TaskT(g.id), Mode: fb.CancelModeStop, Reason: "removed by its owner"}, 0, nil) // a session that is over ends it, too
}

// Remove gives the bundles back, and ends what runs on them.
func (g *Group) Remove(ctx context.Context) error {
	g.cancel()
	g.mu.Lock()
	watched := g.watched
	g.mu.Unlock()
	if !watched {
		return nil
	}
	_, err := g.wait(ctx, func(u *fb.GroupUpdateT) bool { return u.Phase == fb.GroupPhaseEnded })
	return err
}

// Bundles is how many there are.
func (g *Group) Bundles() int { return g.n }

// ID names the group, as `maniple explain` does.
func (g *Group) ID() string { return g.id.String() }

// sentGroup is a group inside of a value.
type sentGroup struct {
	_       struct{} `cbor:",toarray"`
	ID      string
	Bundles int
}

// MarshalCBOR is how a group is written inside of a value that is sent.
func (g *Group) MarshalCBOR() ([]byte, error) {
	return value.Marshal(&sentGroup{ID: g.ID(), Bundles: g.n})
}

// UnmarshalCBOR reads what MarshalCBOR wrote.
func (g *Group) UnmarshalCBOR(b []byte) error {
	var m sentGroup
	if err := value.Unmarshal(b, &m); err != nil {
		return err
	}
	c, err := connected()
	if err != nil {
		return err
	}
	name, err := id.ParseTask(m.ID)
	if err != nil {
		return err
	}
	g.s, g.id, g.n, g.changed = c.s, name, m.Bundles, make(chan struct{})
	return nil
}
