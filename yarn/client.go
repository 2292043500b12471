package yarn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
	"github.com/maniple-hpc/maniple/yarn/kerberos"
)

// Config says which cluster a Client speaks to, and as whom. ResourceManagers is needed, the rest may be zero.
type Config struct {
	ResourceManagers []string // host:port of the client port (8032); with high availability of all of them

	// User is whom a cluster without Kerberos believes one to be. "": CurrentUser.
	// With Kerberos it is whom to act for, as the cluster's settings of proxy users allow; "": for oneself.
	User string

	Token     *Token          // an RM_DELEGATION_TOKEN to log in with; nil: none
	Kerberos  *kerberos.Login // for a cluster that wants it, where there is no token; nil: none. The Client does not close it
	Principal string          // what the ResourceManager must be, as rm/_HOST@REALM; "": whatever of the realm it says it is

	Protection []string // what of authentication, integrity and privacy is good enough; nil: all, the strongest offered is taken

	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer

	Timeout       time.Duration // for each answer; 0: 60 s
	RetryFor      time.Duration // how long a call goes on while no ResourceManager answers; 0: 60 s; negative: each is asked once
	RetryInterval time.Duration // between rounds over the ResourceManagers, growing to 15 s; 0: 1 s

	Waits func(error) // is told why a call has had no answer for 3 s, and goes on; nil: nobody is

	Active *atomic.Int32 // of NewHDFS: which NameNode answered last, for all that have it in common; nil: each finds out
	Broken *Broken       // of NewHDFS: DataNodes that get no new blocks, for all that have it in common; nil: each finds out
}

// opManager is of what a ResourceManager is asked.
const opManager = "ResourceManager"

const clientProtocol = "org.apache.hadoop.yarn.api.ApplicationClientProtocolPB"

// Client speaks to a cluster's ResourceManager for a user. It may be used by many goroutines.
type Client struct {
	rpc *rpc.Client
}

// New makes a client. It connects with the first call.
func New(cfg Config) (*Client, error) {
	auth, err := cfg.auth()
	if err != nil {
		return nil, err
	}
	retry := cfg.RetryFor
	if retry == 0 {
		retry = time.Minute
	}
	var waits func(error)
	if cfg.Waits != nil {
		waits = func(err error) { cfg.Waits(ErrorOf(opManager, err)) }
	}
	c, err := rpc.New(rpc.Config{
		Addresses: cfg.ResourceManagers, Protocol: clientProtocol, Dial: cfg.Dial, Timeout: cfg.Timeout,
		Auth:  func() (rpc.Auth, error) { return auth, nil },
		Retry: rpc.Retry{For: retry, Interval: cfg.RetryInterval, Waits: waits},
	})
	if err != nil {
		return nil, fmt.Errorf("yarn: %w; name the ResourceManagers", err)
	}
	return &Client{c}, nil
}

func (cfg *Config) auth() (a rpc.Auth, err error) {
	if a.Allowed, err = sasl.Protections(cfg.Protection); err != nil {
		return a, fmt.Errorf("yarn: %w", err)
	}
	if cfg.Token != nil {
		a.Token = &rpc.Token{Identifier: cfg.Token.Identifier, Password: cfg.Token.Password}
		return a, nil
	}
	a.User, a.Principal = cfg.User, cfg.Principal
	if cfg.Kerberos != nil {
		a.Tickets = cfg.Kerberos
		return a, nil
	}
	if a.User == "" {
		a.User, err = CurrentUser()
	}
	return a, err
}

// FromConf is what Hadoop's configuration says of a cluster's ResourceManagers. Who logs in is left open: on a
// cluster with Kerberos (c.Secure) the caller sets Token or Kerberos.
func FromConf(c *conf.Conf) (Config, error) {
	var cfg Config
	list, err := c.ResourceManagers()
	if err != nil {
		return cfg, fmt.Errorf("yarn: %w", err)
	}
	for _, m := range list {
		cfg.ResourceManagers = append(cfg.ResourceManagers, m.Client)
	}
	if c.Source("hadoop.rpc.protection") != "" {
		cfg.Protection = c.Strings("hadoop.rpc.protection")
	}
	if c.Secure() {
		cfg.Principal = c.Get("yarn.resourcemanager.principal")
	}
	// Hadoop's own defaults, 15 min and 30 s, are for services; a person is told sooner.
	if key := "yarn.resourcemanager.connect.max-wait.ms"; c.Source(key) != "" {
		if cfg.RetryFor, err = c.Duration(key, time.Millisecond, 0); err != nil {
			return cfg, fmt.Errorf("yarn: %w", err)
		}
		if cfg.RetryFor < 0 { // -1: for ever
			cfg.RetryFor = 1<<63 - 1
		}
	}
	if key := "yarn.resourcemanager.connect.retry-interval.ms"; c.Source(key) != "" {
		if cfg.RetryInterval, err = c.Duration(key, time.Millisecond, 0); err != nil {
			return cfg, fmt.Errorf("yarn: %w", err)
		}
	}
	return cfg, nil
}

// CurrentUser is UserOf this process.
func CurrentUser() (string, error) { return UserOf(os.Getenv) }

// UserOf is whom a cluster without Kerberos believes a process with this environment to be: HADOOP_USER_NAME, else in a container of YARN,
// whose processes may have the NodeManager's user, the application's, else the process's user.
func UserOf(getenv func(string) string) (string, error) {
	if u := getenv("HADOOP_USER_NAME"); u != "" {
		return u, nil
	}
	if u := getenv("USER"); u != "" && getenv("CONTAINER_ID") != "" {
		return u, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("yarn: who is this? %w; set HADOOP_USER_NAME", err)
	}
	return u.Username, nil
}

// Close ends the client's connection and its calls.
func (c *Client) Close() error { return c.rpc.Close() }

func (c *Client) call(ctx context.Context, op, method string, req, resp any) error {
	return ErrorOf(op, c.rpc.Call(ctx, method, req, resp))
}

type empty struct{}

// NewApplication is an ID for an application, and the largest container that the cluster gives.
type NewApplication struct {
	ID  ApplicationID `pb:"1"`
	Max Resource      `pb:"2"`
}

// NewApplication asks for the ID of an application to be.
func (c *Client) NewApplication(ctx context.Context) (n NewApplication, err error) {
	return n, c.call(ctx, "new application", "getNewApplication", empty{}, &n)
}

// Report tells how an application is.
func (c *Client) Report(ctx context.Context, id ApplicationID) (Report, error) {
	var r struct {
		Report Report `pb:"1"`
	}
	err := c.call(ctx, "report", "getApplicationReport", struct {
		ID ApplicationID `pb:"1"`
	}{id}, &r)
	return r.Report, err
}

// Attempt tells of one run of an application's master. How it ended is known for as long as the ResourceManager lives that has seen it.
func (c *Client) Attempt(ctx context.Context, id AttemptID) (AttemptReport, error) {
	var r struct {
		Report AttemptReport `pb:"1"`
	}
	err := c.call(ctx, "attempt", "getApplicationAttemptReport", struct {
		ID AttemptID `pb:"1"`
	}{id}, &r)
	return r.Report, err
}

// Applications lists applications.
func (c *Client) Applications(ctx context.Context, f Filter) ([]Report, error) {
	if f.Limit == 0 {
		f.Limit = 1<<63 - 1
	}
	var r struct {
		Reports []Report `pb:"1"`
	}
	return r.Reports, c.call(ctx, "list applications", "getApplications", f, &r)
}

// Nodes lists the nodes that are in one of states; without states all of them.
func (c *Client) Nodes(ctx context.Context, states ...NodeState) ([]Node, error) {
	if len(states) == 0 {
		for s := NodeNew; s <= NodeShutdown; s++ {
			states = append(states, s)
		}
	}
	var r struct {
		Nodes []Node `pb:"1"`
	}
	err := c.call(ctx, "list nodes", "getClusterNodes", struct {
		States []NodeState `pb:"1"`
	}{states}, &r)
	return r.Nodes, err
}

// Queue tells of a queue and, in Children, of all below it. "root" is all of them.
func (c *Client) Queue(ctx context.Context, name string) (Queue, error) {
	var r struct {
		Queue *Queue `pb:"1"`
	}
	err := c.call(ctx, "queue", "getQueueInfo", struct {
		Name      string `pb:"1,required"`
		Apps      bool   `pb:"2"`
		Children  bool   `pb:"3"`
		Recursive bool   `pb:"4"`
	}{name, false, true, true}, &r)
	if err == nil && r.Queue == nil {
		err = &Error{Op: "queue", Text: fmt.Sprintf("there is no queue %q", name), Do: "`yarn queue -list all` lists them", Kind: ErrNotFound}
	}
	if err != nil {
		return Queue{}, err
	}
	return *r.Queue, nil
}

// Metrics counts the cluster's nodes.
func (c *Client) Metrics(ctx context.Context) (Metrics, error) {
	var r struct {
		Metrics Metrics `pb:"1"`
	}
	return r.Metrics, c.call(ctx, "metrics", "getClusterMetrics", empty{}, &r)
}

// ResourceTypes lists what the cluster counts: memory-mb, vcores and others.
func (c *Client) ResourceTypes(ctx context.Context) ([]ResourceType, error) {
	var r struct {
		Types []ResourceType `pb:"1"`
	}
	return r.Types, c.call(ctx, "resource types", "getResourceTypeInfo", empty{}, &r)
}

// DelegationToken asks for a token with which a process without a Kerberos ticket can log in to the
// ResourceManager. renewer is who may renew it: the ResourceManager itself for what an application carries. The
// ResourceManager gives none to who logged in with a token. Its Service is empty: whoever puts it into credentials that
// Java reads sets it to ip:port of the ResourceManager.
func (c *Client) DelegationToken(ctx context.Context, renewer string) (Token, error) {
	var r struct {
		Token *Token `pb:"1"`
	}
	err := c.call(ctx, "delegation token", "getDelegationToken", struct {
		Renewer string `pb:"1,required"`
	}{renewer}, &r)
	if err == nil && r.Token == nil {
		err = &Error{Op: "delegation token", Text: "the ResourceManager gave none", Do: "a cluster without Kerberos needs none", Kind: ErrRefused}
	}
	if err != nil {
		return Token{}, err
	}
	return *r.Token, nil
}

// Renew renews a delegation token, and gives the time at which it then expires. Only its renewer may.
func (c *Client) Renew(ctx context.Context, t Token) (time.Time, error) {
	var r struct {
		Expires time.Time `pb:"1"`
	}
	err := c.call(ctx, "renew", "renewDelegationToken", struct {
		Token Token `pb:"1,required"`
	}{t}, &r)
	return r.Expires, err
}

// CancelToken makes a delegation token worthless. Connections that used it go on.
func (c *Client) CancelToken(ctx context.Context, t Token) error {
	return c.call(ctx, "cancel token", "cancelDelegationToken", struct {
		Token Token `pb:"1,required"`
	}{t}, nil)
}

// isUnknownMethod tells whether the ResourceManager does not know the method: it is of an older Hadoop.
func isUnknownMethod(err error) bool {
	var r *rpc.RemoteError
	return errors.As(err, &r) && r.Detail == rpc.DetailNoMethod
}
