package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/rt/native"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// keeperFD is the socket that the keeper leaves its children.
const keeperFD = 3

// Main is `maniple agent`, which only a keeper starts. build is the version of the binary; far opens what --object-spilling-directory
// names by a URI, with the process's environment.
func Main(args []string, build string, far func(uri string, getenv func(string) string) (SpillFS, error)) int {
	if len(args) > 0 {
		fmt.Fprintf(os.Stderr, "maniple: agent: it takes no arguments; a keeper starts it\n")
		return 64
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	code, err := run(context.Background(), os.NewFile(keeperFD, "keeper"), build, log, far)
	if err != nil {
		log.Error("ended", "error", err)
	}
	return code
}

// procs is how many processors an agent uses: of a node with 192 cores the programs want the most.
func procs() int { return min(runtime.GOMAXPROCS(0), 8) }

// run serves one node until its core says Exit.
func run(ctx context.Context, f *os.File, build string, log *slog.Logger, far func(string, func(string) string) (SpillFS, error)) (int, error) {
	// The step's signals reach every process of it; what they mean is the keeper's to say.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	runtime.GOMAXPROCS(procs())
	thrift()
	keeper, err := uds.NewFDConn(f)
	if err != nil {
		return 70, fmt.Errorf("agent: no keeper on descriptor %d: %w", keeperFD, err)
	}
	l, err := prepare(keeper, build, log)
	if err != nil {
		_ = keeper.Close()
		return 78, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.far = far
	l.restore(ctx, l.config.Programs)
	written := make(chan struct{})
	go l.writeKeeper(written)
	l.dialHead(ctx)
	l.goes(func() { l.readKeeper(ctx) })
	exit := l.run(ctx)
	log.Info("exit", "code", exit.Code, "reason", exit.Reason)
	close(l.toKeeper)
	select { // KeeperStop must arrive
	case <-written:
	case <-time.After(time.Second):
	}
	cancel()
	l.native.Close()
	if l.probing.fabric != nil {
		l.probing.fabric.Close()
	}
	for k := range l.programs {
		l.programs[k].stop(false, &l.wait)
	}
	for p := range l.peers {
		l.dropPeer(p)
	}
	for _, c := range l.clients {
		if !c.desk {
			c.link.Kill(transport.ErrClosed)
		}
	}
	l.head.link.Kill(transport.ErrClosed)
	_ = keeper.Close()
	l.wait.Wait()
	l.ring.close()
	return exit.Code, nil
}

// prepare reads the keeper's configuration and finds out what this node is.
func prepare(keeper *uds.FDConn, build string, log *slog.Logger) (*loop, error) {
	first, files, err := keeper.Recv()
	closeAll(files)
	if err != nil {
		return nil, fmt.Errorf("agent: the keeper's configuration: %w", err)
	}
	kc, ok := first.M.(*fb.KeeperConfigT)
	if !ok {
		return nil, fmt.Errorf("agent: the keeper began with %s, not its configuration", wire.TypeOf(first.M))
	}
	doc, err := bootdoc.Parse([]byte(kc.Boot))
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	authority, err := tcp.NewAuthority(doc.Cluster, doc.Secret)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	cred, err := authority.Credential(fb.RoleAgent)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	cfg, gauge, err := configure(kc, doc, build, log)
	if err != nil {
		return nil, err
	}
	l := &loop{
		core: NewCore(cfg), config: kc, doc: doc, build: build, cred: cred, log: log, gauge: gauge,
		gate: &transport.Gate{Cluster: doc.Cluster, Job: doc.Job, Epoch: doc.Epoch},
		ring: openRing(filepath.Join(kc.NodeDir, ringName)), now: bootdoc.Clock(cfg.Name, os.Getenv),
		inbox: make(chan item, inboxSize), keeper: keeper, toKeeper: make(chan wire.Message, 8*inboxSize),
		peers: map[uint32]*peerLinks{}, clients: map[uint32]*clientLink{},
		programs: map[Key]*stdio{}, spools: map[Key]*spool{}, sinks: map[Key]Remember{},
	}
	l.native = &native.Client{Log: log}
	l.probing = newProbing(probeFabric(&cfg, l.native, log))
	l.desk = newDesk(l)
	l.gate.Dead, l.gate.Agent = l.core.Dead, l.core.Agent
	return l, nil
}

// configure puts together what the core must know, and what tells how much memory is used.
func configure(kc *fb.KeeperConfigT, doc *bootdoc.Doc, build string, log *slog.Logger) (Config, *device.Gauge, error) {
	options := device.Options{Node: doc.Node, Interfaces: doc.Interfaces, Loopback: doc.Loopback}
	facts, err := device.Detect(options)
	if err != nil {
		return Config{}, nil, fmt.Errorf("agent: what this node has: %w", err)
	}
	for _, w := range facts.Warnings {
		log.Warn(w)
	}
	var r fb.RegisterT
	facts.Fill(&r)
	name, err := doc.NodeName()
	if err != nil {
		return Config{}, nil, fmt.Errorf("agent: %w", err)
	}
	clear, err := bootdoc.Networks(doc.Clear)
	if err != nil {
		return Config{}, nil, fmt.Errorf("agent: %w", err)
	}
	home, boot := os.Getenv("HOME"), bootID()
	if doc.NoHandover {
		boot = ""
	}
	return Config{
		Name: name, NodeKey: kc.NodeKey, Cluster: doc.Cluster, Build: build, Grant: facts.Grant(),
		Socket:    filepath.Join(kc.NodeDir, bootdoc.SocketName),
		Addresses: facts.HostPorts(int(kc.ListenPort)), Resources: r.Resources, Labels: r.Labels, Devices: r.Devices, CPUs: r.Cpus, Topology: r.Topology,
		Previous: kc.Previous, Programs: kc.Programs, Restarts: kc.Restarts,
		HeadLocal: headLocal(doc.Head, kc.ListenPort),
		Interface: facts.Interfaces[0].Name, Home: home, HomeRO: home != "" && !writable(home),
		Patience: int64(doc.Patience), Bind: !doc.Node.Fake && doc.Node.Grant == "", Store: doc.Store, Spill: doc.Spill, SpillLimit: doc.SpillLimit, Fabric: doc.Fabric, Clear: clear, Interfaces: doc.Interfaces, Hosts: fabricHosts(&facts, doc.Interfaces), Boot: boot, Disks: doc.Node.Disks, Dir: doc.Node.Dir, Env: doc.Node.Env,
	}, device.NewGauge(options, &facts, os.Getppid()), nil
}

// headLocal: the head's keeper is this node's, which then names it by its loopback address first.
func headLocal(head []string, port uint16) bool {
	if len(head) == 0 {
		return false
	}
	host, p, err := net.SplitHostPort(head[0])
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback() && p == strconv.Itoa(int(port))
}

// homePatience is how long a home directory may take to answer before it counts as fine.
const homePatience = 2 * time.Second

// writable tells whether dir can be written; one that hangs is not looked at any longer.
func writable(dir string) bool {
	answer := make(chan bool, 1)
	go func() { // ends with the file system's answer, or with the process
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		answer <- err == nil
	}()
	select {
	case ok := <-answer:
		return ok
	case <-time.After(homePatience):
		return true
	}
}

// restore tells the core of output that the agent before this one had read.
func (l *loop) restore(ctx context.Context, programs []*fb.ProgramStateT) {
	keep := map[string]bool{}
	for _, p := range programs {
		k := Key{taskOf(p.Group), p.Incarnation, p.Rank}
		keep[spoolPath(l.config.NodeDir, k)] = true
		s, err := openSpool(l.config.NodeDir, k)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				l.log.Warn("output may be lost", "program", k, "error", err)
			}
			continue
		}
		l.spools[k] = s
		for i := range 2 {
			var r Restored
			if s.touch(func() { r = s.restored(k, i) }) {
				l.step(ctx, r)
			}
		}
	}
	l.orphanSpools(keep)
}

// writeKeeper sends what the loop queues, until the queue is closed.
func (l *loop) writeKeeper(done chan<- struct{}) {
	defer close(done)
	for m := range l.toKeeper {
		if err := l.keeper.Send(m, 0, nil); err != nil {
			l.log.Warn("can't send to the keeper", "error", err)
		}
	}
}

// readKeeper brings what the keeper says, until it is gone.
func (l *loop) readKeeper(ctx context.Context) {
	for {
		m, files, err := l.keeper.Recv()
		if err != nil {
			closeAll(files)
			l.post(ctx, item{ev: KeeperGone{}})
			return
		}
		if c, ok := m.M.(*fb.KeeperConfigT); ok {
			closeAll(files)
			l.headMoved(c)
			continue
		}
		if c, ok := m.M.(*fb.KeeperConnT); ok {
			if len(files) == 1 {
				l.connected(ctx, c, files[0])
			} else {
				closeAll(files)
			}
			continue
		}
		if !l.post(ctx, item{ev: FromKeeper{M: m.M}, files: files}) {
			closeAll(files)
			return
		}
	}
}
