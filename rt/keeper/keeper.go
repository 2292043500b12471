package keeper

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// keeper is the state of the loop; only the loop's goroutine touches it, but for what says otherwise.
type keeper struct {
	out      *events
	hosts    bool // it hosts the head
	doc      *bootdoc.Doc
	signals  chan os.Signal
	children chan os.Signal // SIGCHLD
	posts    chan func()    // what other goroutines want done by the loop
	done     chan struct{}  // closed when the loop is over: posts go nowhere
	readers  sync.WaitGroup // the goroutines that end when what they read is closed

	name string // of the node
	key  string // of the node, as long as this keeper lives
	dir  directory
	log  *slog.Logger
	port int
	// addresses of the port for other nodes, the best first
	addresses []string
	tcp       net.Listener
	unix      net.Listener
	agent     *daemon
	head      *daemon // nil when another node hosts it

	programs map[key]*program
	order    []*program // by launch
	pids     map[int]*program
	trees    trees
	held     map[incarnation]*hold
	oom      oomScore
	limits   []device.Finding // which limits stay short for programs
	retired  []*os.File       // closed when the agent that did not read is gone

	ends   time.Time      // when the site takes the node, zero: unknown
	drain  *drain         // asked for
	going  *fb.NodeDrainT // this node goes, or not any more, as its launcher says; nil: it said nothing
	stop   *ended         // decided: the loop ends
	terms  int            // TERM signals so far
	hard   bool           // end at once
	wake   time.Time
	served bool // the head's event was printed
}

// incarnation names one life of a gang.
type incarnation struct {
	group  fb.TaskIDT
	number uint32
}

// key names one rank of it.
type key struct {
	incarnation
	rank uint32
}

// drain is a request under way.
type drain struct {
	reason string
	code   int
	bound  time.Time // when the keeper ends the node itself
	frame  *fb.DrainT
}

// run brings the node up, runs the loop, and takes the node down. lines are those of standard input.
func (k *keeper) run(lines <-chan []byte) error {
	k.programs, k.pids, k.held = make(map[key]*program), make(map[int]*program), make(map[incarnation]*hold)
	defer func() {
		close(k.done)
		if fault := recover(); fault != nil {
			panic(fault) // readers may wait for what will not be done any more
		}
		k.readers.Wait()
	}()
	k.agent = &daemon{k: k, role: fb.RoleAgent, name: "agent"}
	if k.hosts {
		k.head = &daemon{k: k, role: fb.RoleHead, name: "head"}
	}
	if err := k.open(); err != nil {
		return err
	}
	defer k.dir.close()
	k.readers.Add(2)
	go func() {
		defer k.readers.Done()
		k.relayLines(lines)
	}()
	go func() {
		defer k.readers.Done()
		k.sweepLeftovers()
	}()
	k.startDaemons()
	for k.stop == nil {
		k.turn(time.Time{})
	}
	return k.finish()
}

// open takes directory, port and socket: all that can fail before anything runs.
func (k *keeper) open() (err error) {
	if k.name, err = k.doc.NodeName(); err != nil {
		return &fault{"BOOT_DOC", exitConfig, err}
	}
	k.doc.Node.Name = k.name
	if end, err := strconv.ParseInt(os.Getenv("SLURM_JOB_END_TIME"), 10, 64); err == nil && end > 0 && k.doc.Job != "" {
		k.ends = time.Unix(end, 0)
	}
	if k.key, err = newKey(); err != nil {
		return &fault{"RANDOM", exitOS, err}
	}
	held := heldTime
	if !k.hosts {
		held = heldElsewhere
	}
	if k.dir, err = openDirectory(k.doc, k.name, held); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			k.closeListeners()
			k.dir.remove(k.key)
			k.dir.close()
		}
	}()
	if k.tcp, k.port, err = listenTCP(k.doc); err != nil {
		return &fault{"PORT", exitCreate, err}
	}
	if k.addresses, err = device.Addresses(device.Options{Interfaces: k.doc.Interfaces, Loopback: k.doc.Loopback}, k.port); err != nil {
		return &fault{"ADDRESS", exitConfig, err}
	}
	if k.unix, err = listenUnix(filepath.Join(k.dir.path, bootdoc.SocketName)); err != nil {
		return &fault{"SOCKET", exitCreate, err}
	}
	if err = k.dir.claim(k.key, k.port); err != nil {
		return err
	}
	k.log = slog.New(slog.NewTextHandler(k.dir.log, nil))
	for _, f := range k.limits {
		k.log.Warn(f.Text, "code", f.Code, "do", f.Do)
	}
	k.oom = openOOMScore(k.log)
	k.log.Info("node is up", "node", k.name, "cluster", k.doc.Name, "port", k.port, "head", k.hosts)
	k.serve()
	return nil
}

// sweepLeftovers does for dead nodes of this user what nobody was left to do: their keeper and agent were
// killed at once. It has nothing to do with this node, and goes on beside it.
func (k *keeper) sweepLeftovers() {
	sweep.Leftovers(filepath.Dir(filepath.Dir(k.dir.path)), func(dir string, ended int, err error) {
		k.log.Warn("swept what a dead node left", "dir", dir, "processes", ended, "error", err)
	})
}

func (k *keeper) closeListeners() {
	for _, l := range []net.Listener{k.tcp, k.unix} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// turn waits for something to happen, but not beyond until (zero: for ever), and does it.
func (k *keeper) turn(until time.Time) {
	wait := k.wake
	if !until.IsZero() && (wait.IsZero() || until.Before(wait)) {
		wait = until
	}
	var due <-chan time.Time
	if !wait.IsZero() {
		timer := time.NewTimer(time.Until(wait))
		defer timer.Stop()
		due = timer.C
	}
	k.wake = time.Time{}
	select {
	case do := <-k.posts:
		do()
	case <-k.children:
		k.reap()
	case s := <-k.signals:
		k.signalled(s.(unix.Signal))
	case <-due:
	}
	// What else is there already: a gang's requests come together and cost one look at the processes.
	for range cap(k.posts) {
		select {
		case do := <-k.posts:
			do()
			continue
		default:
		}
		break
	}
	now := time.Now()
	k.daemonsDue(now)
	k.treesDue(now)
	k.at(k.dir.tend(now))
	if k.drain != nil && k.stop == nil && !k.at(k.drain.bound) {
		k.end(k.drain.code, k.drain.reason+"; the agent did not end the node in time")
	}
}

// at has the loop wake at t, the zero time excepted. False: t is over, and nothing wakes the loop for it.
func (k *keeper) at(t time.Time) bool {
	if t.IsZero() {
		return true
	}
	if !t.After(time.Now()) {
		return false
	}
	if k.wake.IsZero() || t.Before(k.wake) {
		k.wake = t
	}
	return true
}

// post has the loop do something; false when the loop is over. Called by other goroutines.
func (k *keeper) post(do func()) bool {
	select {
	case k.posts <- do:
		return true
	case <-k.done:
		return false
	}
}

// end decides that the node ends. The first decision stays.
func (k *keeper) end(code int, reason string) {
	if code < 0 || code > 255 {
		code = exitBug // a status has eight bits; 256 would read as success
	}
	if k.stop == nil {
		k.stop = &ended{code, reason}
		k.log.Info("the node ends", "code", code, "reason", reason)
	}
}

// signalled handles a signal to the keeper.
func (k *keeper) signalled(s unix.Signal) {
	switch s {
	case unix.SIGHUP, unix.SIGPIPE: // a terminal or a launcher that went away is the end of input, or nothing
		return
	case unix.SIGTERM:
		k.terms++
		if k.terms > 1 && k.doc.Job != "" {
			// Slurm itself sends TERM twice at a time limit or a requeue (slurmctld's and srun's), and KILL
			// when it means now.
			return
		}
		if k.terms > 1 || k.stop != nil {
			k.hard = true
			k.end(128+int(s), "second "+unix.SignalName(s)+" to the keeper of "+k.name)
			return
		}
	}
	if k.doc.Replaced && s == unix.SIGTERM { // who starts nodes takes this one, and starts another
		k.abandon(unix.SignalName(s) + " to the keeper of " + k.name + "; another node will take its place")
		return
	}
	code, reason, deadline := 128+int(s), fmt.Sprintf("%s to the keeper of %s", unix.SignalName(s), k.name), time.Time{}
	if s == unix.SIGUSR1 { // a site's early warning (sbatch --signal): all that is left of the time is the program's
		code = exitTry
		if k.ends.After(time.Now()) {
			deadline = k.ends
			reason += ": the walltime ends at " + deadline.Format(time.RFC3339)
		}
	}
	k.startDrain(reason, code, deadline, false)
}

// Time that a drain gets when nobody said how much, and what the keeper adds before it acts itself.
const (
	defaultGrace = 30 * time.Second
	drainMargin  = 5 * time.Second
	drainNowTime = 3 * time.Second
)

// startDrain passes a wish to drain on to the agent, and sets the time by which the node is over anyway.
func (k *keeper) startDrain(reason string, code int, deadline time.Time, now bool) {
	if k.stop != nil {
		return
	}
	if deadline.IsZero() {
		grace := k.doc.Grace
		if grace <= 0 {
			grace = defaultGrace
		}
		deadline = time.Now().Add(grace)
	}
	bound := deadline.Add(drainMargin)
	if now {
		bound = time.Now().Add(drainNowTime)
	}
	if k.drain == nil || bound.Before(k.drain.bound) {
		k.drain = &drain{reason: reason, code: code, bound: bound}
		k.drain.frame = &fb.DrainT{Deadline: deadline.UnixNano(), Reason: reason, ExitCode: int32(code), Now: now}
		k.log.Info("drain", "reason", reason, "deadline", deadline, "now", now)
		k.agent.send(k.drain.frame)
		if k.agent.child == nil {
			k.head.send(k.drain.frame)
		}
	}
	if k.agent.starts == 0 { // it waits for the address of a head
		k.end(code, reason)
	}
}

// readLines reads standard input and closes lines at its end. It may wait in a read when the process ends.
func (k *keeper) readLines(r io.Reader, lines chan<- []byte) {
	defer close(lines)
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		if len(in.Bytes()) == 0 {
			continue
		}
		select {
		case lines <- append([]byte(nil), in.Bytes()...):
		case <-k.done:
			return
		}
	}
}

// relayLines has the loop handle the lines after the first, and the end of input.
func (k *keeper) relayLines(lines <-chan []byte) {
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				k.post(k.inputEnded)
				return
			}
			if !k.post(func() { k.command(line) }) {
				return
			}
		case <-k.done:
			return
		}
	}
}

func (k *keeper) inputEnded() {
	switch {
	case k.hosts && k.doc.Journal != "":
		k.abandon("the launcher of " + k.name + " is gone; another head will take its place")
		return
	case k.doc.Replaced:
		k.abandon("the launcher of " + k.name + " is gone; another node will take its place")
		return
	}
	if k.doc.Owner == "stdin" {
		k.startDrain("the launcher of "+k.name+" is gone", 128+int(unix.SIGTERM), time.Now(), true)
	}
}

// abandon leaves the cluster to what will come in this node's place: nobody is told anything, since a drain would be that of the cluster.
func (k *keeper) abandon(why string) {
	for _, d := range []*daemon{k.head, k.agent} {
		if d != nil && d.child != nil && !d.child.reaped {
			_ = unix.Kill(d.child.pid, unix.SIGKILL)
		}
	}
	k.hard = true
	k.end(128+int(unix.SIGTERM), why)
}

// moved takes in where the head is, from now on.
func (k *keeper) moved(head []string) {
	again := k.agent.starts > 0 && !slices.Equal(head, k.doc.Head)
	k.doc.Head = head
	if !again {
		k.startDaemons()
		return
	}
	config, err := k.agent.config()
	if err != nil {
		k.log.Error("the agent is not told of the head's place", "error", err)
		return
	}
	k.log.Info("the head is elsewhere", "addresses", head)
	k.agent.send(config) // one that is started just now finds it in its own
}

// command handles a line of standard input.
func (k *keeper) command(line []byte) {
	var c struct {
		Head  []string `json:"head"`
		End   int64    `json:"end_ns"`
		Drain *struct {
			Deadline int64  `json:"deadline_ns"`
			Reason   string `json:"reason"`
			Now      bool   `json:"now"`
		} `json:"drain"`
		DrainNode *struct {
			Deadline int64  `json:"deadline_ns"`
			Reason   string `json:"reason"`
			Undo     bool   `json:"undo"`
		} `json:"drain_node"`
		Abandon string `json:"abandon"`
	}
	if err := json.Unmarshal(line, &c); err != nil {
		k.log.Warn("standard input: not a line for a keeper", "error", err)
		return
	}
	if c.Abandon != "" {
		k.abandon(c.Abandon)
		return
	}
	if len(c.Head) > 0 && !k.hosts {
		k.moved(c.Head)
	}
	if c.End > 0 {
		k.ends = time.Unix(0, c.End)
	}
	if d := c.DrainNode; d != nil {
		k.log.Info("this node goes", "reason", d.Reason, "deadline_ns", d.Deadline, "undo", d.Undo)
		k.going = &fb.NodeDrainT{Reason: d.Reason, Deadline: d.Deadline, Goes: true, Undo: d.Undo}
		k.agent.send(k.going)
	}
	if d := c.Drain; d != nil {
		var deadline time.Time
		if d.Deadline > 0 {
			deadline = time.Unix(0, d.Deadline)
		}
		if d.Reason == "" {
			d.Reason = "asked for by the launcher"
		}
		k.startDrain(d.Reason, exitTry, deadline, d.Now)
	}
}
