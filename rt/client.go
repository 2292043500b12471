package rt

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/maniple-hpc/maniple/rt/internal/local"
	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// build is what this side says of itself in handshakes, for messages only.
const build = "go"

// Config says which cluster to join. The zero value joins the one that is up here, or starts one.
type Config struct {
	// Address: "" is the cluster of MANIPLE_ADDRESS, else this user's on this machine or in this Slurm job, else a new
	// one; "auto" is the same and never a new one; "local" always a new one, of this machine; else the name of a cluster,
	// or the path of an agent's socket.
	Address string
	// Namespace of named actors; "": one of this program's own.
	Namespace string
	// What the node of a new cluster has, which is of this machine alone, in a Slurm job too; zero: what this machine has. An error when
	// joining one that is up.
	CPUs      int
	GPUs      int
	Resources map[string]float64
	Labels    map[string]string
}

// Client is this process's membership of a cluster.
type Client struct {
	s     *session.Session
	guard *local.Guard // of the cluster that Init started, nil: it was up
	hash  [32]byte     // of this program's file
	once  sync.Once
}

// attachTries is how often a cluster is looked for that another program of the job brings up, and may end before this one has attached.
const attachTries = 4

var (
	joining sync.Mutex // one Init at a time
	mu      sync.Mutex
	current *Client
)

// Init makes this process a driver of a cluster. In a process that an agent started as a worker it serves and never
// returns. A process is a member of one cluster at a time.
func Init(ctx context.Context, config Config) (*Client, error) {
	role, hash, key, err := serve.Role()
	if role != "" {
		worker(role, hash, key, err)
	}
	joining.Lock()
	defer joining.Unlock()
	if c, err := connected(); err == nil && c.s.Err() == nil {
		return nil, errors.New("rt: Init was called already, and a process is a member of one cluster: call Close first")
	}
	if hash, err = serve.Hash(); err != nil {
		return nil, fmt.Errorf("rt: this program's file can't be read: %w", err)
	}
	node := local.Node{CPUs: config.CPUs, GPUs: config.GPUs, Resources: config.Resources, Labels: config.Labels}
	path := ""
	if config.Address != "local" {
		if path, err = local.Find(ctx, config.Address); err != nil {
			return nil, err
		}
	}
	if given := node.Given(); path != "" && len(given) > 0 {
		return nil, fmt.Errorf("rt: %s can't be given when joining a cluster that is up (at %s); Address \"local\" starts another", strings.Join(given, ", "), path)
	}
	c := &Client{hash: hash}
	for try := 1; ; try++ {
		if path == "" { // there is none, or who started it has just ended it
			if path, c.guard, err = local.Start(ctx, node, config.Address == "local"); err != nil {
				return nil, err
			}
		}
		if err = c.attach(ctx, path, config.Namespace); err == nil {
			break
		}
		if c.guard != nil {
			c.guard.End(false)
		}
		if c.guard != nil || !local.ByItself(config.Address) || try == attachTries || ctx.Err() != nil {
			return nil, fmt.Errorf("rt: %w", err)
		}
		path = ""
	}
	mu.Lock()
	current = c
	mu.Unlock()
	return c, nil
}

// worker serves, and ends the process.
func worker(role string, hash [32]byte, key uint64, err error) {
	code := 1
	switch {
	case err != nil:
	case role == "template":
		code, err = serve.Template(build, hash, key)
	default:
		code, err = serve.Worker(program(hash), key)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "maniple: %s: %v\n", role, err)
	}
	os.Exit(code)
}

// program is what this binary has declared, for a worker.
func program(hash [32]byte) *serve.Program {
	p := &serve.Program{Build: build, Hash: hash, Causes: causes, Funcs: map[string]serve.Func{}, Streams: map[string]serve.Stream{}, Classes: map[string]*serve.Class{}}
	p.Up = func(s *session.Session) {
		mu.Lock()
		current = &Client{s: s, hash: hash}
		mu.Unlock()
	}
	declared.each(func(name string, d *declaration) {
		switch {
		case d.class != nil:
			p.Classes[name] = d.class
		case d.stream != nil:
			p.Streams[name] = d.stream
		default:
			p.Funcs[name] = d.run
		}
	})
	return p
}

// attach connects to an agent and says what workers are to be started as.
func (c *Client) attach(ctx context.Context, path, namespace string) error {
	if namespace == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		namespace = hex.EncodeToString(b[:])
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	env := map[string]string{}
	for _, kv := range os.Environ() {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	config, err := json.Marshal(map[string]any{
		"namespace": namespace, "executable": self, "argv": os.Args, "hash": hex.EncodeToString(c.hash[:]), "cwd": cwd, "env": env,
	})
	if err != nil {
		return err
	}
	c.s, err = session.Attach(ctx, path, &fb.AttachT{
		Name: filepath.Base(self), Pid: uint32(os.Getpid()), Build: build, Kind: fb.AttachKindDriver, Language: "go", JobConfig: string(config),
	}, session.Hooks{Output: output, Notice: notice})
	if err == nil {
		c.s.Namespace = namespace
	}
	return err
}

// output writes what workers print to the stream of the same kind. One that is closed takes nothing, as with any program.
func output(stream uint8, text []byte) {
	to := os.Stdout
	if stream == 2 {
		to = os.Stderr
	}
	_, _ = to.Write(text)
}

func notice(text string) {
	if text != "" {
		fmt.Fprintf(os.Stderr, "maniple: %s\n", text)
	}
}

// connected gives the client of this process.
func connected() (*Client, error) {
	mu.Lock()
	defer mu.Unlock()
	if current == nil {
		return nil, &Error{Code: session.CodeClosed, Message: "this process is not connected to a cluster: call rt.Init first"}
	}
	return current, nil
}

// Close disconnects, and ends the cluster if Init started it. References are of no use afterwards. A second one does nothing.
func (c *Client) Close() {
	c.once.Do(func() {
		c.s.Close("Close was called")
		if c.guard != nil {
			c.guard.End(true)
		}
		mu.Lock()
		defer mu.Unlock()
		if current == c {
			current = nil
		}
	})
}

// Address is the path of the agent's socket: what MANIPLE_ADDRESS and Config.Address take.
func (c *Client) Address() string { return c.s.Path }

// Namespace is that of this program's named actors.
func (c *Client) Namespace() string { return c.s.Namespace }

// Node is a machine of the cluster.
type Node struct {
	Name  string             `json:"name"`
	State string             `json:"state"`
	Total map[string]float64 `json:"total"` // resources
	Free  map[string]float64 `json:"free"`
}

// Nodes are the machines of the cluster.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var reply struct {
		Nodes []Node `json:"nodes"`
	}
	err := c.s.Query(ctx, "nodes", "", &reply)
	return reply.Nodes, outward(err)
}
