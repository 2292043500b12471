package yarn

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/yarn"
)

// jobVersion is that of Job and boot: both ends are one binary, so another one is a mistake of ours.
const jobVersion = 1

// Names of the secrets among a container's credentials.
const (
	jobSecret  = "maniple.job"  // the master's
	bootSecret = "maniple.boot" // a node's
)

// Job is what submit hands to the master of an application.
type Job struct {
	Version int               `json:"version"`
	Cluster string            `json:"cluster"` // 32 hex digits
	Secret  []byte            `json:"secret"`  // of the cluster: who submits makes it, and can reach the cluster with it
	Name    string            `json:"name"`
	Command []string          `json:"command"`
	Flags   map[string]string `json:"flags"`         // of the run, by their long names
	Env     []string          `json:"env,omitempty"` // variables that the program gets besides a container's own

	Nodes    int           `json:"nodes"`
	MinNodes int           `json:"min_nodes"` // with fewer it does not start
	Size     yarn.Resource `json:"size"`      // of a node's container
	Memory   int64         `json:"memory"`    // bytes of it that are the programs'; the rest is ours
	Room     int64         `json:"room"`      // bytes of the master's container for values that pass through it
	Label    string        `json:"label,omitempty"`

	// Where a node's values may lie, as of bootdoc.Doc.
	Store      int64    `json:"store,omitempty"`
	Spill      []string `json:"spill,omitempty"`
	SpillLimit int64    `json:"spill_limit,omitempty"`
	Fabric     string   `json:"fabric,omitempty"`
	NoHandover bool     `json:"no_handover,omitempty"`
	Clear      []string `json:"clear,omitempty"`

	Wait  time.Duration `json:"wait_ns"`         // how long grants are held for the rest of the gang
	Doubt string        `json:"doubt,omitempty"` // why they may never all come, as far as who submits can tell; "": nothing speaks for that

	Files      map[string]yarn.LocalResource `json:"files"` // of every container, our program among them
	Schedulers []string                      `json:"schedulers"`
	Trust      time.Duration                 `json:"trust_ns,omitempty"`    // for how long YARN's answer to a heartbeat is good; 0: as maxTrust
	Patience   time.Duration                 `json:"patience_ns,omitempty"` // with ResourceManagers of which none answers; 0: as am.Config says
	Protection []string                      `json:"protection,omitempty"`

	Proxies []string `json:"proxies,omitempty"` // http://host:port of YARN's web proxies; none: there is no page
	Owner   string   `json:"owner,omitempty"`   // who alone may see the page; "": everybody may
}

// boot is what the master hands to a node.
type boot struct {
	Version int          `json:"version"`
	Doc     *bootdoc.Doc `json:"doc"`
	Master  []string     `json:"master"`  // addresses of the relay
	Attempt int32        `json:"attempt"` // of the application
	Last    bool         `json:"last"`    // no other master will come
}

// pack puts a value among credentials.
func pack(c yarn.Credentials, name string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("yarn: %s: %w", name, err)
	}
	c.Secrets = map[string][]byte{name: data}
	return c.Marshal(), nil
}

// unpack reads a value from the credentials at path and takes it out of the file: what runs in the container needs its
// tokens, and not this.
func unpack(path, name string, v any) (yarn.Credentials, error) {
	c, err := yarn.ReadCredentials(path)
	if err != nil {
		return c, err
	}
	data, ok := c.Secrets[name]
	if !ok {
		return c, fmt.Errorf("yarn: %s has no secret %s: only `maniple submit --on yarn` starts this process", path, name)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return c, fmt.Errorf("yarn: the secret %s: %w", name, err)
	}
	delete(c.Secrets, name)
	return c, replace(path, c.Marshal())
}
