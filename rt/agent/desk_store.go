package agent

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/shm"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// deskStore is the shared memory of a node's processes: the shell around an objstore.Store and a shm.Memory, and the
// work core's Store. All of it is used in the desk's turns, but for the making of arenas, which takes long.
//
// A process maps what it was lent and what it looks at for as long as it lives, whatever becomes of its connection.
// So what is open to it, and what it held, goes only with the process (OBJ-4): a worker's end its template tells, a
// driver's a descriptor of its process.
type deskStore struct {
	d      *desk
	store  *objstore.Store
	memory shm.Memory
	spill  *deskSpill
	bulk   *deskBulk
	spares map[uint64]spareArena // that are made and that nobody waits for
	copies map[id.Object]bool    // large ones of other nodes' values
	kept   []kept                // those of them that nobody here needs any more, in the order in which they go
	landed []id.Object           // what was fetched, until the core has been told of it
	gone   map[id.Object]bool    // what was evicted, likewise
}

const (
	storeShare    = 30                   // percent of a node's memory that values may take,
	storeMost     = 80                   // and if more was asked for
	versionsApart = 0x9E3779B1           // times an agent's number is where it counts its values from: far from where others do
	lineageShare  = 64                   // what part of a node's memory is for lineage,
	lineageMost   = 1 << 30              // but so many bytes at most
	lingerEvery   = int64(1_000_000_000) // between two looks at processes that have closed their connections
	streamShare   = 8                    // what part of that a stream may have, of which nothing was taken,
	streamLeast   = 64 << 20             // but at least so many bytes, if they are no more than half of it,
	streamFloor   = 4 << 20              // and anyway so many, which is several times what readers don't tell
)

// storeBudget is how much of a node's memory is for values: memory of memfds is the system's, so the size of
// /dev/shm does not bound it.
func storeBudget(cfg *Config) int64 {
	percent := amountOf(cfg.Resources, "memory") / 100 / whole
	if cfg.Store > 0 {
		return min(cfg.Store, percent*storeMost)
	}
	return percent * storeShare
}

// streamBytes is how much of the memory for values a task may have given of a stream that nobody has taken: enough to keep a fast network busy, and a
// part of all in which several have room.
func streamBytes(budget int64) uint64 {
	return uint64(min(max(budget/streamShare, streamLeast), max(budget/2, streamFloor)))
}

// lineageBudget is how much memory what was run may take for the sake of being run again; 0: the core's default, of a node that says nothing.
func lineageBudget(cfg *Config) int {
	return int(min(amountOf(cfg.Resources, "memory")/whole/lineageShare, lineageMost))
}

func newDeskStore(d *desk, budget int64) *deskStore {
	s := openSpill(&d.l.core.cfg, d.agent, d.l.far, d.l.log.Warn)
	if s.off != "" {
		d.l.log.Info("values are never written to disk", "why", s.off)
	}
	x := &deskStore{d: d, store: objstore.New(s.config(objstore.Config{Budget: budget, Ahead: true, Version: d.agent * versionsApart})), spill: s, bulk: newDeskBulk(d.agent), spares: map[uint64]spareArena{}, copies: map[id.Object]bool{}, gone: map[id.Object]bool{}}
	if len(s.far) > 0 {
		var others []string
		x.moves(func() error {
			err := s.files.Probe()
			if d.l.core.cfg.HeadLocal {
				others = s.others()
			}
			return err
		}, func(err error) {
			if err != nil {
				d.l.log.Warn("values can't be written to what nodes share", "error", err)
			}
			if len(others) > 0 {
				d.l.log.Warn("other clusters have values where this one may write its own: what those have left that are over is yours to remove", "folders", others)
			}
		})
	}
	return x
}

// do does what the store wants. What went wrong is no process's doing.
func (s *deskStore) do(out []objstore.Effect, err error) {
	if err != nil {
		s.d.l.log.Error("the object store", "error", err)
	}
	for _, e := range out {
		if err := s.effect(e); err != nil {
			s.d.l.log.Error("the object store", "effect", fmt.Sprintf("%T", e), "error", err)
		}
	}
}

func (s *deskStore) effect(e objstore.Effect) error {
	switch e := e.(type) {
	case objstore.Grow:
		s.growStore(e)
	case objstore.Hurry:
		if x, ok := s.spares[e.Arena]; ok {
			close(x.hurry)
			delete(s.spares, e.Arena)
		}
	case objstore.Drop:
		for _, c := range s.d.sorted() {
			if c.met[e.Arena] {
				delete(c.met, e.Arena)
				s.d.send(c, &fb.ArenaGoneT{Arena: e.Arena}, 0, nil)
			}
		}
		s.count()
		s.d.fabric.arenaGone(e.Arena)
		return s.memory.Drop(e.Arena)
	case objstore.Punch:
		s.count()
		return s.memory.Punch(e.Arena, e.Offset, e.Size)
	case objstore.Lent:
		if e.Process == objstore.Agent {
			s.d.fetchLent(e)
			return nil
		}
		return s.lend(e)
	case objstore.Refused:
		if e.Process == objstore.Agent {
			s.d.fetchRefused(e)
		}
		if c := s.d.conns[e.Process]; c != nil {
			s.d.send(c, &fb.SlabT{Error: s.named(e.Err.Error()), Code: code(e.Err)}, 0, nil)
		}
	case objstore.Recall:
		if c := s.d.conns[e.Process]; c != nil {
			s.d.send(c, &fb.SlabRecallT{Slab: e.Slab}, 0, nil)
		}
	case objstore.Evicted:
		s.evicted(e.Object)
	default:
		s.spillEffect(e)
	}
	return nil
}

// count tells who watches the node's memory how much values take.
func (s *deskStore) count() {
	if s.d.memory != nil {
		s.d.memory.arenas.Store(s.store.Used(objstore.Arenas))
	}
}

func (s *deskStore) made(arena uint64, err error) {
	now := s.d.l.now()
	delete(s.spares, arena)
	if err != nil {
		if errors.Is(err, shm.ErrGivenUp) { // and who came to wait for it meanwhile waits for memory
			err = objstore.ErrShort
		} else {
			s.d.l.log.Warn("no memory for values", "error", err)
		}
		s.do(s.store.GrowFailed(now, arena, err, nil))
		s.count()
		return
	}
	s.do(s.store.Grown(now, arena, nil))
}

var numbered = regexp.MustCompile(`process \d+`)

// named says in a text of the store which processes are meant.
func (s *deskStore) named(text string) string {
	return numbered.ReplaceAllStringFunc(text, func(process string) string {
		for _, c := range append(s.d.sorted(), s.d.lingering...) {
			if objstore.ProcessName(c.process) == process {
				return fmt.Sprintf("%s (%s, pid %d)", process, strings.ToLower(c.kind.String()), c.pid)
			}
		}
		return process
	})
}

// lend tells a process what it may write. Of one whose connection is over, the process is soon, too.
func (s *deskStore) lend(e objstore.Lent) error {
	c := s.d.conns[e.Process]
	m := &fb.SlabT{Slab: e.Slab, Arena: e.Arena, Start: uint64(e.Start), Size: uint64(e.Size), From: uint64(e.From), To: uint64(e.To)}
	if !e.New {
		if c != nil {
			s.d.send(c, m, 0, nil)
		}
		return nil
	}
	f, err := s.memory.Lend(e.Process, e.Slab, e.Arena, e.Start, e.Size)
	if err != nil {
		return err
	}
	defer f.Close()
	if c == nil {
		return nil
	}
	if err := s.meet(c, e.Arena); err != nil {
		return err
	}
	return s.d.sendFile(c, m, f)
}

// meet gives a process an arena to read, before it is told of anything in there.
func (s *deskStore) meet(c *workConn, arena uint64) error {
	if c.met[arena] {
		return nil
	}
	f, err := s.memory.Reader(arena)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	c.met[arena] = true
	return s.d.sendFile(c, &fb.ArenaT{Arena: arena, Size: uint64(st.Size())}, f)
}

// sendFile is send for a message with a descriptor, which stays the caller's.
func (d *desk) sendFile(c *workConn, m Message, f *os.File) error {
	frame, err := carrier.AppendMessage(nil, m, 0, nil)
	if err != nil {
		return err
	}
	err = c.conn.AppendFile(f, frame)
	if errors.Is(err, carrier.ErrFull) || errors.Is(err, carrier.ErrClosed) {
		c.conn.Cut()
		return nil
	}
	if err == nil {
		d.soil(c)
	}
	return err
}

// told takes what a process says of its slabs.
func (s *deskStore) told(p id.Process, m Message) error {
	now := s.d.l.now()
	var out []objstore.Effect
	var err error
	switch m := m.(type) {
	case *fb.SlabWantedT:
		if m.Size == 0 {
			out, err = s.store.Withdraw(now, p, nil)
		} else {
			out, err = s.store.Lend(now, p, int64(m.Size), nil)
		}
	case *fb.SlabForgoT:
		out, err = s.store.Forgo(now, p, m.Slab, int64(m.Offset), int64(m.Size), nil)
	case *fb.SlabReturnT:
		if out, err = s.store.Return(now, p, m.Slab, nil); err == nil {
			err = s.memory.Return(m.Slab) // before anything of it is lent again, by out
		}
	}
	s.do(out, nil)
	return err
}

// Seal is work.Store's.
func (s *deskStore) Seal(p id.Process, o id.Object, m *fb.SealT) (arena uint64, offset int64, err error) {
	x := objstore.Sealed{Object: o, Slab: m.Slab, Offset: int64(m.Offset), Size: int64(m.Size), Format: uint32(m.Format)}
	if c := s.d.conns[p]; c != nil {
		x.Job = c.job
	}
	s.letGoOf(func(k kept) bool { return k.object == o }) // a copy of what is made again here
	if err := s.store.Seal(s.d.l.now(), p, x); err != nil {
		return 0, 0, err
	}
	info, _ := s.store.Lookup(o)
	return info.Location.Arena, info.Location.Offset, nil
}

// Discard is work.Store's.
func (s *deskStore) Discard(p id.Process, m *fb.SealT) {
	s.do(s.store.Forgo(s.d.l.now(), p, m.Slab, int64(m.Offset), int64(m.Size), nil))
}

// View is work.Store's.
func (s *deskStore) View(p id.Process, o id.Object) (arena uint64, offset int64, there bool) {
	if s.d.conns[p] == nil {
		return 0, 0, true // it is told nothing any more
	}
	l, err := s.store.Deliver(p, o)
	if s.gone[o] && errors.Is(err, objstore.ErrUnknown) {
		return 0, 0, false
	}
	s.do(nil, err)
	return l.Arena, l.Offset, l.Kind != objstore.InFile
}

// Unview is work.Store's. What a process held whose connection is over it holds until it ends.
func (s *deskStore) Unview(p id.Process, o id.Object) {
	if s.d.conns[p] != nil {
		s.do(s.store.Undeliver(s.d.l.now(), p, o, 1, nil))
	}
}

// Leave is work.Store's.
func (s *deskStore) Leave(p id.Process, o id.Object) {
	if s.d.conns[p] != nil {
		s.do(s.store.Leave(s.d.l.now(), p, o, nil), nil)
	}
}

// Rest is work.Store's.
func (s *deskStore) Rest(o id.Object) bool {
	return s.demote(o, false)
}

func (s *deskStore) demote(o id.Object, copied bool) bool {
	out, done := s.store.Demote(s.d.l.now(), o, copied, nil)
	s.do(out, nil)
	return done
}

// Loosen is work.Store's.
func (s *deskStore) Loosen(o id.Object) { s.demote(o, true) }

// Reuse is work.Store's.
func (s *deskStore) Reuse(o id.Object) bool { return s.store.Promote(s.d.l.now(), o) == nil }

// Free is work.Store's.
func (s *deskStore) Free(o id.Object) {
	s.bulk.freed = append(s.bulk.freed, o)
	if s.keep(o) {
		return
	}
	out, err := s.store.Release(s.d.l.now(), o, nil)
	if s.gone[o] && errors.Is(err, objstore.ErrUnknown) {
		err = nil
	}
	s.do(out, err)
}

// storeUp makes a process known to the store. pid: a driver's, 0: it is not known.
func (d *desk) storeUp(c *workConn, pid int) {
	if d.store == nil {
		return
	}
	c.met = map[uint64]bool{}
	d.store.do(nil, d.store.store.Attach(c.process))
	if pid > 0 {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil { // kernels before 5.3 can't
			c.pidfd = os.NewFile(uintptr(fd), "process")
		}
	}
}

// peerPID is the process at the other end of a unix connection, 0 if it can't be told.
func peerPID(conn transport.Conn) int {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// storeEnded: a driver's connection is over. If its process is not, what it may look at stays.
func (d *desk) storeEnded(c *workConn) {
	if d.store == nil || c.met == nil { // or it was refused
		return
	}
	if c.pidfd != nil && !ended(c.pidfd) {
		d.lingering = append(d.lingering, c)
		return
	}
	d.storeDied(c.process)
	closeAll([]*os.File{c.pidfd})
}

// ended tells whether a process is over.
func ended(pidfd *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// storeDied takes back what a process had, now that it is over.
func (d *desk) storeDied(p id.Process) {
	if d.store != nil {
		d.store.memory.Died(p)
		d.store.do(d.store.store.Died(d.l.now(), p, nil))
	}
}

func (d *desk) settleStore() int64 {
	if d.store == nil {
		return never
	}
	s, now, next := d.store, d.l.now(), d.store.settleKept()
	if due := s.store.NextDeadline(); due != 0 && due <= now {
		s.do(s.store.Tick(now, nil), nil)
	}
	if due := s.store.NextDeadline(); due != 0 {
		next = min(next, due)
	}
	d.lingering = slices.DeleteFunc(d.lingering, func(c *workConn) bool {
		over := ended(c.pidfd)
		if over {
			d.storeDied(c.process)
			_ = c.pidfd.Close()
		}
		return over
	})
	if len(d.lingering) > 0 {
		next = min(next, now+lingerEvery)
	}
	return next
}

// endStore gives all memory back.
func (d *desk) endStore() {
	for _, c := range append(d.sorted(), d.lingering...) {
		if c.pidfd != nil {
			_ = c.pidfd.Close()
		}
	}
	if d.store != nil {
		d.store.memory.GiveUp() // or the end would wait for what is made ahead
		clear(d.store.spares)
	}
	leave := d.over == "" || d.lost
	if d.store != nil && d.store.spill.end(leave) { // else a disk that hangs may still read of it
		if err := d.store.memory.Close(); err != nil {
			d.l.log.Warn("the object store's end", "error", err)
		}
	} else if d.store != nil && !leave && len(d.store.spill.far) > 0 {
		d.l.log.Warn("what was written to shared storage may be left there: remove it once the cluster is over", "folder", d.store.spill.folder(d.agent), "of", d.store.spill.far)
	}
}
