package cli

import (
	"cmp"
	"slices"
	"time"
)

// State replies as the head gives them (docs/spec/state.md): only what tables show.

type stateNode struct {
	Name      string             `json:"name"`
	State     string             `json:"state"`
	Addresses []string           `json:"addresses"`
	Total     map[string]float64 `json:"total"`
	Free      map[string]float64 `json:"free"`
	Labels    map[string]string  `json:"labels"`
	Reason    string             `json:"reason"`
}

type stateNodes struct {
	Nodes []stateNode `json:"nodes"`
}

type stateGroup struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Phase       string    `json:"phase"`
	Ranks       int       `json:"ranks"`
	Nodes       []string  `json:"nodes"`
	Incarnation int       `json:"incarnation"`
	Explain     string    `json:"explain"`
	Code        int       `json:"code"`
	Cause       string    `json:"cause"`
	Since       time.Time `json:"since"`
}

type stateGroups struct {
	Groups []stateGroup `json:"groups"`
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
