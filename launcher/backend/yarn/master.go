package yarn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/rt/head/journal"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
	"github.com/maniple-hpc/maniple/yarn/nm"
)

// Unbounded is the time that nodes have to join: the queue decides, and `status` says what it waits for.
const Unbounded = 10 * 365 * 24 * time.Hour

const (
	nodeAsk      = 1                // the ID of the one ask
	registerTime = 10 * time.Minute // as long as YARN keeps a master of which it hears nothing
	finishTime   = 10 * time.Minute
	heartbeat    = time.Second
	announceTime = 10 * time.Second // for the programs to be told that a node goes
)

// Master is the process in an application's first container: it hosts the head, runs the command, and is the backend that
// brings its nodes up.
type Master struct {
	Job     Job
	Attempt yarn.AttemptID
	Folder  string // in the container's own, for the files of the head's node

	Outside   bool      // YARN did not start it: it has no container, and none comes after it
	Submitted time.Time // as YARN says; zero: it does not

	Life uint32 // how often the program was begun anew: by masters that found nothing to go on with

	token  yarn.Token       // for the scheduler
	others yarn.Credentials // for the containers: what else was handed over, such as HDFS's token
	relay  *relay
	page   *page // nil: YARN's proxy is not known, or there is no port

	mu      sync.Mutex
	blamed  string        // why the application ends, if not by its command
	early   []am.Event    // what came before the session
	came    chan struct{} // something came; nil: nobody waits for it
	session *session      // nil: not yet
	exit    func(code int)

	announced func(context.Context) // nil: nobody wants to know

	relays  []string // the relay's addresses
	copies  *copies
	journal *journal.Keeper
	kept    []survivor // nodes of the master before this one
	ended   sync.Once  // YARN was told
	untold  error      // why it was not
	master  *am.Master
	nodes   *nm.Client
}

// Enter reads what submit handed to this container.
func Enter(getenv func(string) string) (*Master, error) {
	m := &Master{exit: os.Exit}
	c, err := unpack(getenv("HADOOP_TOKEN_FILE_LOCATION"), jobSecret, &m.Job)
	if err != nil {
		return nil, err
	}
	if m.Job.Version != jobVersion {
		return nil, fmt.Errorf("yarn: the job has version %d, this program knows %d", m.Job.Version, jobVersion)
	}
	id, err := yarn.ParseContainerID(getenv("CONTAINER_ID"))
	if err != nil {
		return nil, err
	}
	m.Attempt = id.Attempt
	if ms, err := strconv.ParseInt(getenv("APP_SUBMIT_TIME_ENV"), 10, 64); err == nil {
		m.Submitted = time.UnixMilli(ms)
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("yarn: the container's folder: %w", err)
	}
	m.Folder = folder(here)
	var ok bool
	if m.token, ok = c.Find(yarn.KindAMRM, ""); !ok {
		return nil, errors.New("yarn: the token file has no token for the scheduler")
	}
	m.others = yarn.Credentials{Tokens: maps.Clone(c.Tokens)}
	maps.DeleteFunc(m.others.Tokens, func(_ string, t yarn.Token) bool { return t.Kind == yarn.KindAMRM })
	var logs [2]string
	for i, f := range []*os.File{os.Stdout, os.Stderr} {
		logs[i] = written(f)
	}
	if m.relay, err = listen(m.Job.Cluster, m.Job.Secret, logs); err != nil {
		return nil, err
	}
	if len(m.Job.Proxies) > 0 {
		title := fmt.Sprintf("%s, %s", m.Job.Name, m.Attempt.Application)
		if m.page, err = openPage(title, getenv("APPLICATION_WEB_PROXY_BASE"), m.Job, logs); err != nil {
			m.say("%v: YARN's proxy has nothing to show", err)
		}
	}
	return m, nil
}

// written is where the file that f writes to can be opened by others: by the descriptor, since a NodeManager that has forgotten its containers gives their folders other
// names, and removes them. "": it is none.
func written(f *os.File) string {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

// Show has the application's page ask for what the head says; nil: it can't be asked any more.
func (m *Master) Show(standing func(context.Context) (Standing, error)) {
	if m.page != nil {
		m.page.asks(standing)
	}
}

// Announced has do called whenever YARN says that it is going to take a node; nil: no more.
func (m *Master) Announced(do func(context.Context)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.announced = do
}

// Waits takes in whether the program waits to be placed, so that nothing of it runs: then nodes are not kept for ever for those that are missing.
func (m *Master) Waits(on bool) {
	m.mu.Lock()
	s := m.session
	m.mu.Unlock()
	if s != nil { // else it was not started here
		s.post(func() { s.waiting(on) })
	}
}

// announce tells of such a node.
func (m *Master) announce() {
	m.mu.Lock()
	do := m.announced
	m.mu.Unlock()
	if do != nil {
		ctx, cancel := context.WithTimeout(context.Background(), announceTime)
		defer cancel()
		do(ctx)
	}
}

// Name is "yarn".
func (*Master) Name() string { return "yarn" }

// Start starts the head here, registers with YARN and asks for the nodes that there are not. It returns once they are asked for.
func (m *Master) Start(ctx context.Context, req backend.Request) (backend.Session, error) {
	doc := *req.Doc
	s := &session{
		m: m, events: make(chan backend.Event, 16), posts: make(chan func(), 64), done: make(chan struct{}), over: make(chan struct{}), own: make(chan backend.Event, 8),
		links: map[string]*link{}, launched: map[string]time.Time{}, away: map[string]time.Time{}, said: map[string]bool{}, goes: map[string]going{},
		gang: newGang(m.Job.Nodes, m.Job.MinNodes, m.Job.Wait, rand.Uint64()),
	}
	s.gang.doubts = m.Job.Doubt
	for i := range m.Job.Nodes {
		s.names = append(s.names, nodeName(i))
	}
	doc.Expect, doc.JoinTimeout, doc.Replaced = s.names, Unbounded, true
	if m.copies == nil {
		m.copies = newCopies(nil, 0)
	}
	m.copies.answered, m.copies.trust = m.answered, cmp.Or(m.Job.Trust, maxTrust)
	var err error
	if !m.Outside { // else no other one could make use of it
		if doc.Journal, err = m.keepJournal(); err != nil {
			return nil, err
		}
	}
	own := bootdoc.Node{Name: headNode, Bare: true, Grant: "YARN", Memory: m.Job.Room}
	s.head, err = (&local.Backend{}).Start(ctx, backend.Request{Doc: &doc, Nodes: []bootdoc.Node{own}, Head: true, Binary: req.Binary, Env: req.Env, Stderr: req.Stderr})
	if err != nil {
		return nil, err
	}
	first, err := headEvent(ctx, s.head)
	if err == nil && m.master == nil {
		err = m.register(ctx)
	}
	if err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = s.head.Stop(stop) // the first error is the one that counts
		return nil, err
	}
	doc.Head, s.doc = first.Addresses, &doc
	s.work.Go(func() { s.followHead(first) })
	s.resume()
	go s.run()
	m.relay.joined = s.joined
	m.relay.head = func() where { return where{first.Addresses, s.waits()} }
	m.relay.serve()
	if m.page != nil {
		m.page.tells(s.waits)
	}
	m.catchUp(s)
	return s, nil
}

// catchUp has the session take in what came before it, in its order. It holds no lock meanwhile: the session may want it, and takes in as
// much as it can.
func (m *Master) catchUp(s *session) {
	for {
		m.mu.Lock()
		early := m.early
		if m.early = nil; len(early) == 0 {
			m.session = s
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		for _, e := range early {
			s.fromYARN(e)
		}
	}
}

// keepJournal opens the socket at which the head has its journal copied.
func (m *Master) keepJournal() (socket string, err error) {
	if err := os.MkdirAll(m.Folder, 0o700); err != nil {
		return "", fmt.Errorf("yarn: %w", err)
	}
	socket = filepath.Join(m.Folder, "journal.sock")
	m.journal, err = journal.Keep(socket, m.copies.data, m.copies.keep)
	return socket, err
}

// headEvent waits for the head's address.
func headEvent(ctx context.Context, s backend.Session) (backend.Event, error) {
	said := ""
	for {
		select {
		case ev, ok := <-s.Events():
			switch {
			case !ok:
				return ev, fmt.Errorf("yarn: the head does not start: %s", said)
			case ev.Kind == backend.KindHead:
				return ev, nil
			case ev.Text != "" && said == "":
				said = ev.Text
			}
		case <-ctx.Done():
			return backend.Event{}, context.Cause(ctx)
		}
	}
}

// reachable is the host of the first address that means something on another machine.
func reachable(addresses []string) string {
	first := ""
	for _, a := range addresses {
		host, _, _ := net.SplitHostPort(a) // it was made by addresses
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			return host
		}
		if first == "" {
			first = host
		}
	}
	return first
}

// register makes this process the application's master. Clients find the relay by what it tells YARN.
func (m *Master) register(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	if m.relays, err = device.Addresses(device.Options{}, m.relay.port()); err != nil {
		return fmt.Errorf("yarn: the master's addresses: %w", err)
	}
	host, shown := reachable(m.relays), ""
	if m.page != nil {
		shown = m.page.url(host)
	}
	master, err := am.Register(ctx, am.Config{
		Schedulers: m.Job.Schedulers, Token: m.token, Attempt: m.Attempt, TrackingURL: shown, Host: host, Port: int32(m.relay.port()), Protection: m.Job.Protection,
		Interval: heartbeat, RetryFor: m.Job.Patience, OnEvent: m.fromYARN,
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.master = master
	m.mu.Unlock()
	m.nodes, err = nm.New(nm.Config{Token: m.master.NMToken, Protection: m.Job.Protection})
	return err
}

// answered is when the last heartbeat went out that YARN has answered.
func (m *Master) answered() time.Time {
	m.mu.Lock()
	master := m.master
	m.mu.Unlock()
	if master == nil { // nobody else can be
		return time.Now()
	}
	return master.Answered()
}

// fromYARN takes in what a heartbeat brought: for the session, as soon as there is one.
func (m *Master) fromYARN(e am.Event) {
	m.mu.Lock()
	s := m.session
	if s == nil {
		m.early = append(m.early, e)
		select {
		case m.came <- struct{}{}:
		default:
		}
	}
	m.mu.Unlock()
	if s != nil {
		s.fromYARN(e)
	}
}

// want asks for so many containers.
func (m *Master) want(count int) error {
	return m.master.Set(am.Ask{ID: nodeAsk, Count: int32(count), Resource: m.Job.Size, Priority: 1, NodeLabel: m.Job.Label})
}

// startContainer starts a node.
func (m *Master) startContainer(ctx context.Context, c yarn.Container, b boot) error {
	tokens, err := pack(yarn.Credentials{Tokens: m.others.Tokens}, bootSecret, b)
	if err != nil {
		return err
	}
	return m.nodes.Start(ctx, c, yarn.LaunchContext{
		Files: m.Job.Files, Tokens: tokens, Commands: []string{"exec ./" + program + " " + NodeCommand + " 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"},
	})
}

// leave ends this process at once: YARN has ended this attempt, and the application with it or not. Its nodes go on to the next master, or
// are ended by YARN.
func (m *Master) leave(why error) {
	m.say("%v", why)
	m.exit(exitLeft)
}

// exitLeft is the exit code of a master that is one no more. Nobody reads it.
const exitLeft = 75

// Blame says why the application ends, if it was not its command, and gives what counts: the first that was said.
func (m *Master) Blame(why string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blamed == "" {
		m.blamed = why
	}
	return m.blamed
}

// Environ is the environment of the command: that of the container without what is its own, and what the job brings.
func (m *Master) Environ(environ []string) []string {
	mine := own(environ)
	var list []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !contains(mine, kv) && !strings.HasPrefix(name, "APP") && name != "OLDPWD" && name != "SHLVL" && name != "_" {
			list = append(list, kv)
		}
	}
	return append(list, m.Job.Env...)
}

// say writes into the application's log.
func (m *Master) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "maniple: "+format+"\n", args...)
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// End tells YARN how the application ended: code is the command's, text what is to be said of it. It is told once, as soon as the end is known
// and before the nodes end: a master that dies after that is not followed by one that begins the program again, and one that dies before it is
// followed by one that finds the end in the journal. What runs here goes on until Close, and so do the containers.
func (m *Master) End(code int, text string) error {
	m.ended.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), finishTime)
		defer cancel()
		m.mu.Lock()
		if m.blamed != "" {
			text = m.blamed
		}
		m.mu.Unlock()
		if m.master == nil {
			if m.untold = m.register(ctx); m.untold != nil {
				return
			}
		}
		final := yarn.Succeeded
		if code != 0 {
			final = yarn.Failed
		}
		m.untold = m.master.Finish(ctx, final, diagnostics(code, text), "")
		if m.untold == nil && m.copies != nil {
			m.copies.close() // nobody comes after this one, and YARN is heard no more
		}
	})
	return m.untold
}

// Close lets those who follow the output have the rest of it, and ends all that the master has.
func (m *Master) Close() {
	m.relay.end()
	if m.page != nil {
		m.page.close()
	}
	if m.nodes != nil {
		_ = m.nodes.Close()
	}
	if m.journal != nil {
		m.copies.close()
		_ = m.journal.Close()
	}
}
