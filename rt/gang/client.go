package gang

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Endpoint is where an agent can be reached: one of Socket, Addresses and Dial.
type Endpoint struct {
	Socket    string   // path of a node's unix socket
	Addresses []string // host:port of a node, for TCP with TLS
	Cluster   string   // cluster ID; needed with Addresses
	CA        []byte   // PEM: the cluster's authority
	Cert, Key []byte   // PEM: a client's credential
	// Dial opens any other stream that ends at an agent's unix socket (a bridge); called again after a break.
	Dial func(context.Context) (io.ReadWriteCloser, error)

	Name  string // of this client, in status: "maniple run"
	Build string // version of the binary
}

// How long a client tries to come back before it gives up (GANG-5). A keeper that lives has its agent
// running again within a second; the head cancels the groups of a client that is away for 10 s.
const (
	awayLimit = 12 * time.Second
	goneLimit = 2 * time.Second // where nobody listens any more: the keeper itself is gone
)

// Client is an attachment to an agent. It re-attaches by itself after the agent's restart.
type Client struct {
	ep   Endpoint
	link *transport.Link
	stop context.CancelFunc
	done chan struct{} // the dialler has ended

	mu      sync.Mutex
	id      *fb.AttachedT // nil: not attached in this session
	first   chan struct{} // closed when attached the first time
	came    bool          // first is closed
	dead    chan struct{} // closed when there will be no more
	err     error         // why
	last    error         // of the last try to connect
	away    time.Time     // since when it is not connected
	counter uint64
	corr    uint64
	queries map[uint64]*query
	boxes   []*mailbox
	end     string // the agent said that all ends, and why
	endCode int    // and with which code
	fate    string // the agent said that its node is dying, and why
}

type query struct {
	m     wire.Message
	reply chan transport.Msg // capacity 1
}

// localTry is how long one try waits for an agent of this node: whose process is gone the kernel tells at once, and who has
// two hundred others to answer is not helped by those who begin anew.
const localTry = 30 * time.Second

// Connect attaches to the agent at ep. The error says why not, and what to do.
func Connect(ctx context.Context, ep Endpoint) (*Client, error) {
	dial, addresses, err := ep.dialler()
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Client{
		ep: ep, stop: stop, done: make(chan struct{}), first: make(chan struct{}), dead: make(chan struct{}),
		queries: map[uint64]*query{}, away: time.Now(),
	}
	c.link = transport.NewLink(transport.LinkConfig{
		Name: "agent", OnMessage: c.onMessage, OnUp: c.onUp, OnDown: c.onDown, OnDead: c.over,
	})
	var try time.Duration // the usual
	if ep.Socket != "" {
		try = localTry
	}
	d := &transport.Dialer{
		Link: c.link, Addresses: func() []string { return addresses }, Dial: dial, Timeout: try,
		Hello: func() *fb.HelloT {
			return &fb.HelloT{Build: ep.Build, Cluster: ep.Cluster, Role: fb.RoleClient, Purpose: fb.PurposeControl}
		},
		OnError: c.failed, MaxDelay: 500 * time.Millisecond,
	}
	go func() {
		defer close(c.done)
		err := d.Run(run)
		if err == nil || run.Err() != nil || errors.Is(err, transport.ErrDead) {
			return // of a session that is over, OnDead says why
		}
		c.link.Kill(c.why(err))
	}()
	select {
	case <-c.first:
		return c, nil
	case <-c.dead:
		err = c.Err()
	case <-ctx.Done():
		err = fmt.Errorf("gang: the agent at %s did not answer: %w; see maniple status, or the logs in the node's directory", ep.where(), c.lastError(ctx.Err()))
	}
	c.shut()
	return nil, err
}

// dialler gives the function that opens a connection and the addresses for it.
func (ep *Endpoint) dialler() (func(context.Context, string) (transport.Conn, error), []string, error) {
	switch {
	case ep.Dial != nil:
		return func(ctx context.Context, _ string) (transport.Conn, error) {
			rw, err := ep.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return &streamConn{ReadWriteCloser: rw}, nil
		}, []string{"bridge"}, nil
	case ep.Socket != "":
		return uds.Dial, []string{ep.Socket}, nil
	case len(ep.Addresses) > 0:
		cred, err := tcp.ParseCredential(ep.CA, ep.Cert, ep.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("gang: the cluster's credential: %w", err)
		}
		if ep.Cluster == "" {
			ep.Cluster = cred.Cluster()
		}
		return func(ctx context.Context, addr string) (transport.Conn, error) {
			return tcp.Dial(ctx, addr, cred, transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeControl})
		}, ep.Addresses, nil
	}
	return nil, nil, errors.New("gang: no address of an agent; start a cluster with maniple up")
}

func (ep *Endpoint) where() string {
	switch {
	case ep.Dial != nil:
		return "the other end of the bridge"
	case ep.Socket != "":
		return ep.Socket
	}
	return fmt.Sprint(ep.Addresses)
}

// failed judges a try to connect that failed; true gives up.
func (c *Client) failed(_ string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
	var refused *transport.RefusedError
	if errors.As(err, &refused) && refused.Final() {
		return true
	}
	away := time.Since(c.away)
	if nobody(err) && c.ep.Socket != "" && (!c.came || c.end+c.fate != "" || away > goneLimit) {
		return true
	}
	return c.came && away > awayLimit
}

// nobody: no process listens on a node's socket.
func nobody(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// why makes the error that users see of the one that ended the dialler.
func (c *Client) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var refused *transport.RefusedError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("gang: the agent at %s refuses this client: %w", c.ep.where(), err)
	case !c.came:
		return fmt.Errorf("gang: no agent at %s: %w; is the cluster up? see maniple status", c.ep.where(), err)
	case c.ep.Socket != "" && nobody(err): // the keeper listens as long as it lives
		return &NodeDiedError{Node: c.node(), Why: "its keeper and its agent are gone"}
	}
	// How the last try failed (no such file, refused) is for reading: it says nothing about the caller's files.
	return fmt.Errorf("gang: node %s is gone: its agent at %s does not come back (%v): %w", c.node(), c.ep.where(), err, transport.ErrDead)
}

func (c *Client) lastError(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil {
		return c.last
	}
	return err
}

// onUp: a connection stands. A new session knows nothing of us.
func (c *Client) onUp(resumed bool) {
	if !resumed {
		_ = c.link.Send(&fb.AttachT{Name: c.ep.Name, Pid: uint32(os.Getpid()), Build: c.ep.Build}, 0, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(linkUp)
}

func (c *Client) onDown(error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = time.Now()
	c.tell(linkDown)
}

// over: there will be no other session.
func (c *Client) over(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	var bye *transport.GoodbyeError
	switch { // what was said counts, even if the connection then broke before the goodbye
	case c.fate != "":
		err = &NodeDiedError{Node: c.node(), Why: c.fate}
	case c.end != "":
		err = &EndedError{Reason: c.end, Code: c.endCode}
	case errors.As(err, &bye):
		err = &EndedError{Reason: bye.Reason}
	}
	c.err = err
	close(c.dead)
	for _, b := range c.boxes {
		b.put(item{err: err})
	}
}

// Err tells why the client is over, nil while it is not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// onMessage sorts what comes; it runs on the link's reader.
func (c *Client) onMessage(m transport.Msg) {
	switch t := m.M.(type) {
	case *fb.AttachedT:
		c.attached(t)
	case *fb.StateReplyT:
		c.mu.Lock()
		q := c.queries[m.Corr]
		delete(c.queries, m.Corr)
		c.mu.Unlock()
		if q != nil {
			q.reply <- m
		}
	case *fb.ShutdownT:
		c.mu.Lock()
		c.end = t.Reason
		c.mu.Unlock()
	case *fb.NodeLeavingT:
		c.mu.Lock()
		c.fate = t.Reason
		c.mu.Unlock()
	case *fb.GroupUpdateT:
		c.sort(t.Group, m)
	case *fb.RankOutputT:
		c.sort(t.Group, m)
	case *fb.RankInputAckT:
		c.sort(t.Group, m)
	case *fb.NoticeT:
		c.sort(t.Group, m)
	case *fb.DrainT:
		if !t.Now {
			c.sort(nil, m)
			break
		}
		c.mu.Lock()
		c.end, c.endCode = t.Reason, int(t.ExitCode)
		c.mu.Unlock()
	}
}

// sort puts a message into the boxes of its group, or of all.
func (c *Client) sort(group *fb.TaskIDT, m transport.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := group == nil || *group == fb.TaskIDT{}
	for _, b := range c.boxes {
		if all || b.group == *group {
			b.put(item{msg: m})
		}
	}
}

// attached: the agent knows us. Whatever was open is asked again.
func (c *Client) attached(a *fb.AttachedT) {
	c.mu.Lock()
	again := c.came
	c.id = a
	if !c.came {
		c.came = true
		close(c.first)
	}
	corrs := make([]uint64, 0, len(c.queries))
	for corr := range c.queries {
		corrs = append(corrs, corr)
	}
	slices.Sort(corrs)
	for _, corr := range corrs {
		_ = c.link.Send(c.queries[corr].m, corr, nil)
	}
	if again {
		for _, b := range c.boxes {
			b.put(item{again: true})
		}
	}
	c.mu.Unlock()
}

// Close detaches. Groups of this client that are not detached are cancelled by the agent.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := c.link.Close(ctx, "done")
	c.shut()
	if errors.Is(err, transport.ErrDead) {
		return nil
	}
	return err
}

// shut ends the goroutines.
func (c *Client) shut() {
	c.stop()
	c.link.Kill(transport.ErrClosed)
	<-c.done
	<-c.link.Done()
}

func (c *Client) node() string {
	if c.id == nil {
		return ""
	}
	return c.id.Node
}

// mint makes the ID of a new group.
func (c *Client) mint() id.Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counter++
	return id.Task{Agent: id.Agent(c.id.Agent), Process: id.Process(c.id.Process), Counter: c.counter}
}

// named is a group's ID that no other cluster has: "3f9a1c20.1.2.1".
func (c *Client) named(group id.Task) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id.Cluster[:min(8, len(c.id.Cluster))] + "." + group.String()
}

// Query asks for state; what is "nodes", "groups", "group", "explain", "cluster" or "log" (docs/spec/state.md).
func (c *Client) Query(ctx context.Context, what, id string) (json.RawMessage, error) {
	return c.question(ctx, "query "+what, &fb.StateQueryT{What: what, Id: id})
}

// question asks the head something, which it answers with a StateReply. It is asked again of an agent or a head that was started again.
func (c *Client) question(ctx context.Context, title string, m wire.Message) (json.RawMessage, error) {
	q := &query{m: m, reply: make(chan transport.Msg, 1)}
	c.mu.Lock()
	c.corr++
	corr := c.corr
	c.queries[corr] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.queries, corr)
		c.mu.Unlock()
	}()
	if err := c.link.Send(q.m, corr, nil); err != nil && !errors.Is(err, transport.ErrDead) {
		return nil, fmt.Errorf("gang: %s: %w", title, err)
	}
	select {
	case m := <-q.reply:
		if e := m.M.(*fb.StateReplyT).Error; e != "" {
			return nil, fmt.Errorf("gang: %s: %s", title, e)
		}
		return json.RawMessage(m.Payload), nil
	case <-c.dead:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, fmt.Errorf("gang: %s: %w", title, ctx.Err())
	}
}

// Drain asks the whole cluster to end: at the deadline (zero: the default grace), or now. It returns
// once the head has taken it up, or the cluster has ended.
func (c *Client) Drain(ctx context.Context, reason string, deadline time.Time, code int, now bool) error {
	m := &fb.DrainT{Reason: reason, ExitCode: int32(code), Now: now}
	if !deadline.IsZero() {
		m.Deadline = deadline.UnixNano()
	}
	if err := c.send(m); err != nil {
		return err
	}
	return c.barrier(ctx)
}

// Cancel ends (or signals) a group. It returns once the head has taken it up.
func (c *Client) Cancel(ctx context.Context, group id.Task, how fb.GroupCancelT) error {
	how.Group = taskT(group)
	if err := c.send(&how); err != nil {
		return err
	}
	return c.barrier(ctx)
}

// barrier returns when the head has seen what was sent before: questions travel in the same order.
func (c *Client) barrier(ctx context.Context) error {
	_, err := c.Query(ctx, "cluster", "")
	if errors.Is(err, transport.ErrDead) && c.ended() {
		return nil
	}
	return err
}

// ended: the agent said that all is ending.
func (c *Client) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end != ""
}

func (c *Client) send(m wire.Message) error {
	if err := c.link.Send(m, 0, nil); err != nil {
		if e := c.Err(); e != nil {
			err = e
		}
		return fmt.Errorf("gang: %w", err)
	}
	return nil
}

// Watch waits for the end of any group; each update of it is given to see, if not nil.
func (c *Client) Watch(ctx context.Context, group id.Task, see func(*fb.GroupUpdateT)) (End, error) {
	b := c.open(group)
	defer c.close(b)
	ask := func() error { return c.send(&fb.GroupWatchT{Group: taskT(group)}) }
	if err := ask(); err != nil {
		return End{}, err
	}
	for {
		select {
		case <-b.ready:
		case <-ctx.Done():
			return End{}, fmt.Errorf("gang: watch %s: %w", group, ctx.Err())
		}
		for _, it := range b.take() {
			switch {
			case it.err != nil:
				return End{}, it.err
			case it.again:
				if err := ask(); err != nil {
					return End{}, err
				}
			}
			u, ok := it.msg.M.(*fb.GroupUpdateT)
			if !ok {
				continue
			}
			if see != nil {
				see(u)
			}
			if u.Phase == fb.GroupPhaseEnded {
				return endOf(group, u, 0), nil
			}
		}
	}
}

func taskT(t id.Task) *fb.TaskIDT {
	return &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}
}
