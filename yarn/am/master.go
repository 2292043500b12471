package am

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Config says which attempt is registered, where. Schedulers, Token and Attempt are needed, the rest may be zero.
type Config struct {
	Schedulers []string       // host:port of the scheduler port (8030); with high availability of all ResourceManagers
	Token      yarn.Token     // of kind yarn.KindAMRM: from the token file, or the Report of an unmanaged application
	Attempt    yarn.AttemptID // in a container: that of its CONTAINER_ID

	Host        string // where this master can be reached by the application's clients; "": nowhere
	Port        int32  // 0: nowhere
	TrackingURL string // what YARN's proxy shows; "": nothing

	Protection []string // as in yarn.Config
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)

	Interval      time.Duration // between heartbeats; 0: 1 s; while containers are awaited it is a quarter of that
	RetryFor      time.Duration // how long heartbeats are tried while no ResourceManager answers; 0: 10 min, after which YARN counts an attempt as dead
	RetryInterval time.Duration // between rounds over the ResourceManagers, growing to 15 s; 0: 1 s
	OnEvent       func(Event)   // nil: none are told
}

const masterProtocol = "org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB"

// Master is a registered attempt. What it knows is under its lock, which nothing holds for the time of a call.
type Master struct {
	cfg  Config
	rpc  *rpc.Client
	told Registered

	stop   context.CancelFunc
	done   chan struct{} // closed when the heartbeat has ended
	wakeup chan struct{}

	mu       sync.Mutex
	core     *core
	token    yarn.Token
	progress float32
	url      string
	answered time.Time // see Answered
}

// Register registers an attempt and starts its heartbeat. ctx is for the registration only.
func Register(ctx context.Context, cfg Config) (*Master, error) {
	allowed, err := sasl.Protections(cfg.Protection)
	if err != nil {
		return nil, fmt.Errorf("yarn: %w", err)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = time.Second
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = 10 * time.Minute
	}
	m := &Master{
		cfg: cfg, done: make(chan struct{}), wakeup: make(chan struct{}, 1),
		core: newCore(cfg.Attempt.Number), token: cfg.Token, url: cfg.TrackingURL,
	}
	m.rpc, err = rpc.New(rpc.Config{
		Addresses: cfg.Schedulers, Protocol: masterProtocol, Dial: cfg.Dial, Retry: rpc.Retry{For: cfg.RetryFor, Interval: cfg.RetryInterval},
		Auth: func() (rpc.Auth, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return rpc.Auth{Token: &rpc.Token{Identifier: m.token.Identifier, Password: m.token.Password}, Allowed: allowed}, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("yarn: register: %w", err)
	}
	if m.told, _, err = m.register(ctx); err != nil {
		m.rpc.Close()
		return nil, err
	}
	beat, stop := context.WithCancel(context.Background())
	m.stop = stop
	go m.heartbeats(beat)
	return m, nil
}

// register registers the attempt, and gives what a further registration has to tell.
func (m *Master) register(ctx context.Context) (r Registered, news []Event, err error) {
	began, port := time.Now(), m.cfg.Port
	if port == 0 {
		port = -1
	}
	err = m.rpc.Call(ctx, "registerApplicationMaster", registerRequest{m.cfg.Host, port, m.cfg.TrackingURL}, &r)
	if err != nil {
		return r, nil, yarn.ErrorOf("register", err)
	}
	m.mu.Lock()
	news = m.core.registered(r)
	m.answered = began
	m.mu.Unlock()
	return r, news, nil
}

// Registered is what the ResourceManager told at the registration.
func (m *Master) Registered() Registered { return m.told }

// Set says what is wanted from now on: it replaces what was set under the same ID. What can't be granted at
// all is refused here.
func (m *Master) Set(a Ask) error {
	if err := a.check(m.told.Max, m.told.Types); err != nil {
		return err
	}
	m.mu.Lock()
	m.core.set(a)
	m.mu.Unlock()
	m.wake()
	return nil
}

// Release gives containers back, started or not. They are told as Ended like others.
func (m *Master) Release(ids ...yarn.ContainerID) {
	m.mu.Lock()
	for _, id := range ids {
		m.core.release(id)
	}
	m.mu.Unlock()
	m.wake()
}

// Avoid says on which hosts no container is wanted, instead of what was said before.
func (m *Master) Avoid(hosts ...string) {
	m.mu.Lock()
	m.core.setAvoided(hosts)
	m.mu.Unlock()
	m.wake()
}

// SetProgress says how far the application is, from 0 to 1. It goes with the next heartbeat.
func (m *Master) SetProgress(p float32) {
	m.mu.Lock()
	m.progress = min(max(p, 0), 1)
	m.mu.Unlock()
}

// Headroom is what the queue would still give, and how many nodes the cluster has, as of the last heartbeat.
func (m *Master) Headroom() (yarn.Resource, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.core.headroom, int(m.core.nodeCount)
}

// Answered is when the last heartbeat was sent, or the registration, that the ResourceManager has answered with anything but that this attempt
// is over: until it has not heard for yarn.am.liveness-monitor.expiry-interval-ms after that it starts no other one for want of heartbeats.
func (m *Master) Answered() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answered
}

// NMToken is what a NodeManager wants to see. It comes with the first container on the node.
func (m *Master) NMToken(node yarn.NodeID) (yarn.Token, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.core.nmTokens[node]
	return t, ok
}

// wake brings the next heartbeat forward.
func (m *Master) wake() {
	select {
	case m.wakeup <- struct{}{}:
	default:
	}
}

// heartbeats runs until ctx ends or YARN ends the attempt.
func (m *Master) heartbeats(ctx context.Context) {
	defer close(m.done)
	for {
		last := time.Now()
		if err := m.beat(ctx); err != nil {
			if ctx.Err() == nil {
				m.tell(Over{err})
			}
			return
		}
		m.mu.Lock()
		wait := m.cfg.Interval
		if m.core.wanting() {
			wait /= 4
		}
		m.mu.Unlock()
		t := time.NewTimer(wait - time.Since(last))
		select {
		case <-t.C:
		case <-m.wakeup:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// beat sends one heartbeat and tells what came of it. An error is the end of the attempt.
func (m *Master) beat(ctx context.Context) error {
	began := time.Now()
	m.mu.Lock()
	req := m.core.request(m.progress, m.url)
	m.mu.Unlock()
	var resp allocateResponse
	err := yarn.ErrorOf("heartbeat", m.rpc.Call(ctx, "allocate", req, &resp))
	switch {
	case err == nil && resp.Command == commandShutdown:
		return &yarn.Error{Op: "heartbeat", Text: "the ResourceManager tells this attempt to end", Kind: yarn.ErrOver}
	case err == nil && resp.Command != commandResync:
		m.mu.Lock()
		events := m.core.answer(resp)
		m.answered = began
		if resp.Token != nil {
			m.token = *resp.Token
		}
		m.mu.Unlock()
		m.tell(events...)
		return nil
	case err == nil || errors.Is(err, yarn.ErrNotRegistered):
		m.mu.Lock()
		m.core.resync()
		m.mu.Unlock()
		_, news, err := m.register(ctx)
		if err != nil {
			return err
		}
		m.wake()
		m.tell(Resynced{})
		m.tell(news...)
		return nil
	case errors.Is(err, yarn.ErrRefused):
		m.mu.Lock()
		asks := m.core.refused()
		m.mu.Unlock()
		for _, a := range asks {
			m.tell(Refused{a, err})
		}
		if len(asks) > 0 {
			return nil
		}
	}
	m.mu.Lock()
	m.core.lost()
	m.mu.Unlock()
	return err
}

func (m *Master) tell(events ...Event) {
	if m.cfg.OnEvent != nil {
		for _, e := range events {
			m.cfg.OnEvent(e)
		}
	}
}

// Finish says how the application ended, ends the heartbeat and the Master. It waits until YARN has noted the
// end, or ctx ends. url is where the application's history is; "" for nowhere.
func (m *Master) Finish(ctx context.Context, final yarn.FinalStatus, diagnostics, url string) error {
	m.halt()
	defer m.rpc.Close()
	for wait := 50 * time.Millisecond; ; wait = min(wait*3/2, time.Second) {
		var r finishResponse
		err := yarn.ErrorOf("finish", m.rpc.Call(ctx, "finishApplicationMaster", finishRequest{diagnostics, url, final}, &r))
		if errors.Is(err, yarn.ErrNotRegistered) {
			_, _, err = m.register(ctx)
		}
		if err != nil || r.Done {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// Close ends the heartbeat without a word to YARN, which then takes this attempt for dead after a while and
// starts another one. After Finish it does nothing.
func (m *Master) Close() error {
	m.halt()
	return m.rpc.Close()
}

func (m *Master) halt() {
	m.stop()
	<-m.done
}
