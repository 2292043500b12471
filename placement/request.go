package placement

import "fmt"

// Strategy is how a request's bundles lie on nodes.
type Strategy uint8

const (
	Pack         Strategy = iota // as few nodes as possible
	Spread                       // as evenly as possible, doubling up if there is no other way
	StrictPack                   // all on one node
	StrictSpread                 // no two on one node
)

// String is the name that users type.
func (s Strategy) String() string {
	switch s {
	case Pack:
		return "PACK"
	case Spread:
		return "SPREAD"
	case StrictPack:
		return "STRICT_PACK"
	case StrictSpread:
		return "STRICT_SPREAD"
	}
	return fmt.Sprintf("Strategy(%d)", uint8(s))
}

// Need is what a bundle asks of a label: "v", "!v", "in(a,b)", "!in(a,b)", "exists()" or "!exists()". All of a bundle's needs must be
// met. A label that a node lacks has no value, so it meets only the negative ones.
type Need struct{ Key, Expr string }

// Bundle lands whole on one node.
type Bundle struct {
	Resources Resources
	Needs     []Need
	Ranks     uint32 // programs that will run on it; carried along
}

// Request is a gang: all of its bundles are placed or none.
type Request struct {
	Strategy Strategy
	Bundles  []Bundle
	Within   string // a label: all bundles go to nodes that have the same value of it; empty: to any
	Seed     uint64 // permutes nodes that are otherwise as good as each other; 0: the lowest index first
}

// MaxBundles bounds a request, so that no message can make the head search for minutes.
const MaxBundles = 100_000

// Validate says what is wrong with a request. Solve expects one that has passed.
func (r *Request) Validate() error {
	if r.Strategy > StrictSpread {
		return fmt.Errorf("placement: no strategy has number %d", r.Strategy)
	}
	if len(r.Bundles) > MaxBundles {
		return fmt.Errorf("placement: %d bundles; at most %d", len(r.Bundles), MaxBundles)
	}
	for i := range r.Bundles {
		if i == 0 || !r.Bundles[i].Resources.Is(r.Bundles[i-1].Resources) {
			if err := r.Bundles[i].Resources.Check(); err != nil {
				return fmt.Errorf("%w (bundle %d)", err, i)
			}
		}
		for _, n := range r.Bundles[i].Needs {
			if _, err := n.parse(); err != nil {
				return fmt.Errorf("%w (bundle %d)", err, i)
			}
		}
	}
	return nil
}

// Place is where one bundle goes and what it gets there.
type Place struct {
	Bundle    int // index in the request
	Node      int // Node.Index
	Resources Resources
	Devices   []string // whole devices, or one of which Resources says the part
	CPUs      []uint32 // empty: not bound
}

// Plan has a place for every bundle of a request, in the request's order.
type Plan struct {
	Places []Place
}

// Verdict says what kind of no it is.
type Verdict uint8

const (
	NotNow     Verdict = iota // would fit if what others hold were free and paused nodes open
	Infeasible                // does not fit these nodes even with everything free
	GaveUp                    // the search ran out of steps without an answer: ask again when something changes
)

// String is the word used in JSON and logs.
func (v Verdict) String() string {
	return [...]string{"not now", "infeasible", "gave up"}[min(v, GaveUp)]
}

// Unplaced says that there is no plan. It is cheap; Explain makes the sentences.
type Unplaced struct {
	Verdict Verdict
	Bundle  int // one that found no place, -1 if it is about all of them together
	Steps   int // of the search
}
