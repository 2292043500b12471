package am

import "github.com/maniple-hpc/maniple/yarn"

// Event is what a heartbeat brought: one of the types below.
type Event interface{ event() }

// Granted is a container that answers an ask. It must be started or released within some minutes
// (yarn.resourcemanager.rm.container-allocation.expiry-interval-ms, 10 min by default).
type Granted struct{ Container yarn.Container }

// Found is a container of an attempt before this one that goes on, and of which the ResourceManager did not know at the registration: it was
// started anew, and the container's NodeManager has reported only now. It is this attempt's to use or to release.
type Found struct{ Container yarn.Container }

// Ended is a container that is over, started or not.
type Ended struct{ Status yarn.ContainerStatus }

// NodeChanged is a node that became healthy or unhealthy, came, is to leave or is lost.
type NodeChanged struct{ Node yarn.Node }

// PreemptionWarning says what YARN will take away for the sake of others. It comes with every
// heartbeat as long as it holds.
type PreemptionWarning struct {
	Strict     []yarn.ContainerID // these, whatever is done
	Negotiable []yarn.ContainerID // these, unless as much as Wanted is released instead
	Wanted     []Wanted
}

// Wanted is an amount that others wait for.
type Wanted struct {
	Resource yarn.Resource
	Count    int32
}

// Resynced says that the ResourceManager was restarted and knows this attempt again. Running containers go on.
type Resynced struct{}

// Refused is an ask that was dropped.
type Refused struct {
	Ask Ask
	Err error
}

// Over is the last event: YARN has ended this attempt, or can't be reached any more. Containers are YARN's to
// end.
type Over struct{ Err error }

func (Granted) event()           {}
func (Found) event()             {}
func (Ended) event()             {}
func (NodeChanged) event()       {}
func (PreemptionWarning) event() {}
func (Resynced) event()          {}
func (Refused) event()           {}
func (Over) event()              {}
