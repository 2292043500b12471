package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// daemon is the agent or the head: a role that is filled by one process after another.
type daemon struct {
	k       *keeper
	role    fb.Role
	name    string // agent, head
	child   *child // nil while none runs
	starts  uint32
	deaths  []time.Time // of late
	startAt time.Time   // when the next is due
	number  uint32      // agent: the last one that it said
	waiting []waiting   // connections that came while none ran
}

// child is one process of a daemon. Its end is dealt with when it is reaped and all that it had written
// is read: its last words count.
type child struct {
	pid    int
	since  time.Time
	conn   *uds.FDConn
	out    chan outgoing // to the goroutine that writes
	reaped bool
	eof    bool
	how    string    // it ended
	clean  bool      // with status 0
	act    time.Time // when the loop helps: kills what hung up, hangs up on what died
}

// outgoing is a frame and its descriptors; those of own are closed once it is sent. Without a frame the
// descriptors are only closed: after all frames before, which may carry them.
type outgoing struct {
	m     wire.Message
	files []*os.File
	own   bool
}

type waiting struct {
	f     *os.File
	what  *fb.KeeperConnT
	until time.Time
}

// A daemon that dies this often within this time will not get better.
const (
	loopDeaths  = 5
	loopTime    = 10 * time.Second
	hangUpTime  = 2 * time.Second
	backoffUnit = 100 * time.Millisecond
)

// startDaemons starts what is not running and may: the agent needs to know where the head is.
func (k *keeper) startDaemons() {
	if k.head != nil && k.head.starts == 0 {
		k.head.start()
	}
	if k.agent.starts == 0 && (k.hosts || len(k.doc.Head) > 0) {
		k.agent.start()
	}
}

// daemonsDue does what the time has come for, and sees to the next wake-up.
func (k *keeper) daemonsDue(now time.Time) {
	for _, d := range []*daemon{k.head, k.agent} {
		if d == nil {
			continue
		}
		for len(d.waiting) > 0 && !k.at(d.waiting[0].until) {
			d.waiting[0].f.Close()
			d.waiting = d.waiting[1:]
		}
		if d.child == nil {
			if !d.startAt.IsZero() && k.stop == nil && !k.at(d.startAt) {
				d.start()
			}
			continue
		}
		if !k.at(d.child.act) {
			if d.child.reaped {
				_ = d.child.conn.Close() // a process that it left holds the other end
			} else {
				k.log.Warn("killed: it does not read or has hung up", "daemon", d.name, "pid", d.child.pid)
				_ = unix.Kill(d.child.pid, unix.SIGKILL)
			}
			d.child.act = time.Time{}
		}
	}
}

// start runs the next process of the daemon.
func (d *daemon) start() {
	d.startAt = time.Time{}
	d.starts++
	c, err := d.spawn()
	if err != nil {
		d.died(err.Error())
		if !d.k.at(d.startAt) { // nothing else that happens would wake the loop, and what failed just now fails again
			d.startAt = time.Now().Add(backoffUnit)
			d.k.at(d.startAt)
		}
		return
	}
	d.child = c
	for _, w := range d.waiting {
		d.connect(w.f, w.what)
	}
	d.waiting = nil
	if d.role == fb.RoleAgent && d.k.going != nil && !d.k.going.Undo {
		d.send(d.k.going)
	}
	if d.role == fb.RoleAgent && d.k.drain != nil {
		d.send(d.k.drain.frame)
	}
}

func (d *daemon) spawn() (*child, error) {
	k := d.k
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	log, err := d.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	defer null.Close()
	ours, theirs, err := uds.Pair()
	if err != nil {
		return nil, fmt.Errorf("keeper: socket to the %s: %w", d.name, err)
	}
	defer theirs.Close()
	conn, err := uds.NewFDConn(ours)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("keeper: socket to the %s: %w", d.name, err)
	}
	// Its own session: Ctrl-C at the launcher's terminal is the launcher's business.
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"maniple", d.name}, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd(), theirs.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("keeper: start the %s: %w", d.name, err)
	}
	k.log.Info("started", "daemon", d.name, "pid", pid, "starts", d.starts)
	c := &child{pid: pid, since: time.Now(), conn: conn}
	first := []outgoing{{m: config}}
	if d.role == fb.RoleAgent {
		for _, p := range k.order {
			first = append(first, outgoing{m: p.state(), files: p.files()})
		}
	}
	c.out = make(chan outgoing, maxQueue+len(first))
	for _, o := range first {
		c.out <- o
	}
	k.readers.Add(2)
	go func() {
		defer k.readers.Done()
		k.write(d, c)
	}()
	go func() {
		defer k.readers.Done()
		k.read(d, c)
	}()
	return c, nil
}

// config is the first frame of every process.
func (d *daemon) config() (*fb.KeeperConfigT, error) {
	k := d.k
	doc := *k.doc
	if k.hosts { // its agent is next to it
		local := fmt.Sprintf("127.0.0.1:%d", k.port)
		doc.Head = []string{local}
		for _, a := range k.addresses {
			if a != local {
				doc.Head = append(doc.Head, a)
			}
		}
	}
	boot, err := json.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("keeper: boot document: %w", err)
	}
	c := &fb.KeeperConfigT{
		Role: d.role, Boot: string(boot), NodeKey: k.key, NodeDir: k.dir.path, ListenPort: uint16(k.port),
		Restarts: d.starts - 1, Previous: d.number, KeeperPid: uint32(os.Getpid()),
	}
	if d.role == fb.RoleAgent {
		for _, p := range k.order {
			c.Programs = append(c.Programs, p.state())
		}
	}
	return c, nil
}

// openLog opens the daemon's log.
func (d *daemon) openLog() (*os.File, error) {
	path := filepath.Join(d.k.dir.path, d.name+".log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, explainDir(err)
	}
	return f, nil
}

// write sends what the loop queues; it ends when the queue is closed.
func (k *keeper) write(d *daemon, c *child) {
	for o := range c.out {
		if o.m == nil {
			closeFiles(o.files)
			continue
		}
		err := c.conn.Send(o.m, 0, nil, o.files...)
		if what, ok := o.m.(*fb.KeeperConnT); ok && err != nil { // for the next process
			if k.post(func() { k.connected(o.files[0], what) }) {
				continue
			}
		}
		if o.own {
			closeFiles(o.files)
		}
		if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, io.EOF) {
			k.log.Warn("send", "to", c.pid, "error", err)
		}
	}
}

// read posts what the process writes to the loop; it ends with the socket.
func (k *keeper) read(d *daemon, c *child) {
	for {
		msg, files, err := c.conn.Recv()
		if err != nil {
			k.post(func() { k.hungUp(d, c) })
			return
		}
		closeFiles(files) // nothing that a daemon says carries descriptors
		if !k.post(func() {
			if d.child == c {
				k.told(d, msg.M)
			}
		}) {
			return
		}
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// send queues a frame; without a daemon or a process it is dropped, since the next one is told everything.
func (d *daemon) send(m wire.Message, files ...*os.File) { d.queue(outgoing{m: m, files: files}) }

func (d *daemon) queue(o outgoing) {
	if d == nil || d.child == nil || d.child.reaped {
		if o.own {
			closeFiles(o.files)
		}
		return
	}
	select {
	case d.child.out <- o:
	default: // it reads nothing: the one after it will
		if o.own {
			closeFiles(o.files)
		}
		if d.child.act.IsZero() {
			d.child.act = time.Now()
		}
	}
}

// retire closes descriptors that frames in the queue may still carry.
func (d *daemon) retire(files ...*os.File) {
	if len(files) == 0 {
		return
	}
	if d.child != nil {
		select {
		case d.child.out <- outgoing{files: files}:
			return
		default:
		}
		d.k.retired = append(d.k.retired, files...)
		return
	}
	closeFiles(files)
}

// connect hands a connection over, or keeps it for the next process.
func (d *daemon) connect(f *os.File, what *fb.KeeperConnT) {
	if d.child != nil && !d.child.reaped && !d.child.eof {
		d.queue(outgoing{m: what, files: []*os.File{f}, own: true})
		return
	}
	if len(d.waiting) >= maxWaiting {
		d.waiting[0].f.Close()
		d.waiting = d.waiting[1:]
	}
	d.waiting = append(d.waiting, waiting{f, what, time.Now().Add(waitingTime)})
}

// hungUp: the process closed its end, or is dead.
func (k *keeper) hungUp(d *daemon, c *child) {
	c.eof = true
	if c.reaped {
		d.over(c)
	} else if k.stop == nil {
		c.act = time.Now().Add(hangUpTime)
	}
}

// exited: the process was reaped.
func (d *daemon) exited(c *child, status unix.WaitStatus) {
	c.reaped = true
	c.clean = status.Exited() && status.ExitStatus() == 0
	c.how = describe(status)
	if c.eof {
		d.over(c)
	} else {
		c.act = time.Now().Add(hangUpTime)
	}
}

// over: nothing of the process is left; there will be another, unless the node ends.
func (d *daemon) over(c *child) {
	close(c.out)
	_ = c.conn.Close()
	d.child = nil
	closeFiles(d.k.retired)
	d.k.retired = nil
	d.k.treesStir()
	d.k.log.Warn("ended", "daemon", d.name, "pid", c.pid, "how", c.how, "after", time.Since(c.since))
	if d.k.stop != nil {
		return
	}
	if d.role == fb.RoleHead && c.clean { // a head that fails does not exit with 0: the cluster is over
		d.k.startDrain("the head of the cluster has ended", 0, time.Now(), true)
		return
	}
	if time.Since(c.since) > loopTime {
		d.deaths = nil
	}
	d.died(c.how)
}

// died plans the next start: at once the first time, then later and later; or ends the node.
func (d *daemon) died(how string) {
	now := time.Now()
	recent := d.deaths[:0]
	for _, t := range d.deaths {
		if now.Sub(t) < loopTime {
			recent = append(recent, t)
		}
	}
	d.deaths = append(recent, now)
	n := len(d.deaths)
	if n >= loopDeaths && starved(how, d.said()) {
		d.k.fail(&fault{"PROCESS_LIMIT", exitCreate,
			fmt.Errorf("keeper: the %s of %s can't be started: there may be no more processes and threads; raise ulimit -u, or the cgroup's pids.max, or end other programs", d.name, d.k.name)})
		return
	}
	if n >= loopDeaths {
		d.k.fail(&fault{strings.ToUpper(d.name) + "_CRASH_LOOP", exitBug,
			fmt.Errorf("keeper: the %s of %s ended %d times in %.0f s, the last time with %s%s; report it with the log",
				d.name, d.k.name, n, loopTime.Seconds(), how, d.lastWords())})
		return
	}
	d.startAt = now
	if n > 1 {
		d.startAt = now.Add(backoffUnit << (n - 2))
	}
}

// starved tells whether a daemon ended so for want of processes: the kernel refuses a fork, or a thread, of which Go's
// runtime dies with these words.
func starved(how, said string) bool {
	return strings.Contains(how, unix.EAGAIN.Error()) || strings.Contains(said, "failed to create new OS thread")
}

// said is the daemon's log.
func (d *daemon) said() string {
	data, _ := os.ReadFile(filepath.Join(d.k.dir.path, d.name+".log")) // one that is not there says nothing
	return string(data)
}

// lastWords is the end of the daemon's log, for the error: the directory will be gone.
func (d *daemon) lastWords() string {
	lines := strings.Split(strings.TrimSpace(d.said()), "\n")
	// A Go program's stack ends in what tells least: prefer the line with the panic.
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "panic:") || strings.HasPrefix(lines[i], "fatal error:") {
			return ", saying: " + shorten(lines[i])
		}
	}
	if last := lines[len(lines)-1]; last != "" {
		return ", saying: " + shorten(last)
	}
	return ""
}

func shorten(line string) string {
	if len(line) > 500 {
		return line[:500] + "..."
	}
	return line
}

// fail tells an error and ends the node with it.
func (k *keeper) fail(f *fault) {
	fmt.Fprintln(os.Stderr, "maniple:", f)
	k.out.emit(event{Event: "error", Node: k.name, Code: f.name, Text: f.Error()})
	if _, err := os.Stat(k.dir.path); k.hosts && k.doc.Journal != "" && errors.Is(err, os.ErrNotExist) { // it has been removed with what it is in, and another head has a place to live
		k.abandon(f.Error())
		return
	}
	k.end(f.code, f.Error())
}

func describe(s unix.WaitStatus) string {
	if s.Signaled() {
		return "signal " + unix.SignalName(s.Signal())
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}
