package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/rt/gang"
)

// State replies as the head gives them (docs/spec/state.md): only what commands need.

type stateNode struct {
	Name      string             `json:"name"`
	State     string             `json:"state"` // up, paused, draining, dead
	Why       string             `json:"why"`
	Addresses []string           `json:"addresses"`
	Total     map[string]float64 `json:"total"`
	Free      map[string]float64 `json:"free"`
	Labels    map[string]string  `json:"labels"`
	Grant     string             `json:"grant"`
	Drain     *struct {
		Deadline time.Time `json:"deadline"` // zero: there is none
		Reason   string    `json:"reason"`
	} `json:"drain"`
}

type stateNodes struct {
	Nodes   []stateNode `json:"nodes"`
	Missing []string    `json:"missing"`
}

// leastGPUs is how many GPUs every node has that is up.
func (s *stateNodes) leastGPUs() int {
	least := -1
	for _, n := range s.Nodes {
		if gpus := int(n.Total["GPU"]); n.State == "up" && (least < 0 || gpus < least) {
			least = gpus
		}
	}
	return max(least, 0)
}

type stateGroup struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Phase   string    `json:"phase"`
	World   int       `json:"world"`
	Lives   bool      `json:"detached"` // without who made it
	Argv    []string  `json:"argv"`
	Running int       `json:"running"`
	Hosts   string    `json:"hosts"`
	Explain string    `json:"explain"`
	Since   time.Time `json:"since"`
	End     *struct {
		Code  int    `json:"code"`
		Cause string `json:"cause"`
	} `json:"end"`
}

type stateGroups struct {
	Groups []stateGroup `json:"groups"`
}

type stateCluster struct {
	Cluster struct {
		ID       string `json:"id"`
		State    string `json:"state"` // joining, up, short, draining
		Expected int    `json:"expected"`
		Joined   int    `json:"joined"`
		Up       int    `json:"up"`
	} `json:"cluster"`
}

type stateExplain struct {
	Explain struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
		Text string `json:"text"`
	} `json:"explain"`
}

type stateLog struct {
	Notices []stateNotice `json:"notices"`
}

type stateNotice struct {
	Wall  time.Time `json:"wall"`
	Level string    `json:"level"`
	Code  string    `json:"code"`
	Text  string    `json:"text"`
	Group string    `json:"group,omitempty"`
}

// errNoSuch means that the cluster knows nothing of that name.
var errNoSuch = errors.New("no such gang or node")

// query asks the cluster for state.
func (c *call) query(ctx context.Context, client *gang.Client, what, of string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	data, err := client.Query(ctx, what, of)
	if err != nil && textSays(err, "is neither a group") {
		return nil, &Fault{Name: "USAGE", What: c.page.name, Why: fmt.Sprintf("%q is no gang, nor its name, nor a node of this cluster", of),
			Do: "`maniple status --all` and `maniple nodes` list them", Err: errNoSuch}
	}
	if err != nil {
		return nil, overWire(c.page.name, "", err)
	}
	return data, nil
}

// ask is query with the reply read into T.
func ask[T any](ctx context.Context, c *call, client *gang.Client, what, of string) (reply T, raw json.RawMessage, err error) {
	raw, err = c.query(ctx, client, what, of)
	if err != nil {
		return reply, nil, err
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return reply, nil, &Fault{Name: "BUG", What: c.page.name, Why: fmt.Sprintf("the head's answer to %q: %v", what, err), Do: doReport, Err: err}
	}
	return reply, raw, nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
