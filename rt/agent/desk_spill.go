package agent

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/objstore/spill"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// deskSpill is the disk behind a deskStore. Reads and writes have goroutines of their own, which end with the disk's answer;
// done counts them.
type deskSpill struct {
	files   *spill.Files
	off     string // why there are none
	done    sync.WaitGroup
	wrote   disk
	read    disk
	busy    busy
	parts   []func()        // pieces for other agents that wait to be read, in order
	given   int64           // bytes of those that were read and are not sent yet
	reading map[string]bool // directories from which one of them is being read
	said    int64           // bytes that had been written when that was said last
	limit   int64           // bytes that may lie there, of all directories; 0: as many as they hold
	far     []spill.FS      // what outlives nodes
	base    string          // there, the folder of this cluster
	away    time.Time       // when it was said last that what lies there can't be had
	over    chan struct{}
}

// givenMost is how many bytes of files may wait in memory to be sent to other agents.
const givenMost = 64 << 20

// disk is what went one way.
type disk struct{ bytes, nanos atomic.Int64 }

// busy is the time in which anything was written or read, however much at once.
type busy struct {
	mu    sync.Mutex
	n     int
	since time.Time
	took  time.Duration
}

func (b *busy) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n == 1 {
		b.since = time.Now()
	}
}

func (b *busy) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n--; b.n == 0 {
		b.took += time.Since(b.since)
	}
}

// seconds is how much of it there was, what is under way not counted.
func (b *busy) seconds() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.took.Seconds()
}

func (d *disk) add(bytes int64, since time.Time) {
	d.bytes.Add(bytes)
	d.nanos.Add(int64(time.Since(since)))
}

// speed is in bytes per second of the time that reads or writes took.
func (d *disk) speed() int64 {
	if n := d.nanos.Load(); n > 0 {
		return int64(float64(d.bytes.Load()) / (float64(n) / 1e9))
	}
	return 0
}

const (
	spillBase    = "maniple-"      // so the folders of clusters begin
	spillNone    = "none"          // in place of directories: nothing is written to disk
	spillOwn     = 0.80            // so full may the file system become of a directory that nobody named,
	spillNamed   = 0.95            // and of one that somebody did
	spillEnd     = 2 * time.Second // so long a disk that hangs is waited for at the end
	spillNames   = 100             // folders of other clusters that are named
	spillDoubled = 1 << 30         // once so much is written it is said again whenever that has doubled
	spillAgain   = 2 * time.Second // what can't be had from a file system that nodes share is asked for again,
	spillAway    = time.Minute     // and that is said so often
)

// openSpill finds where to write values when memory is short: the directories that were named, else this node's own, if they are on
// disks of the node. Without one nothing is spilled.
func openSpill(cfg *Config, agent uint32, far func(string, func(string) string) (SpillFS, error), warn func(string, ...any)) *deskSpill {
	s := &deskSpill{limit: cfg.SpillLimit, base: spillBase + cfg.Cluster[:min(len(cfg.Cluster), 12)], over: make(chan struct{}), reading: map[string]bool{}}
	var dirs []spill.Directory
	switch {
	case len(cfg.Spill) == 1 && cfg.Spill[0] == spillNone:
		s.off = "it was switched off by --object-spilling-directory=none"
		return s
	case len(cfg.Spill) > 0:
		for _, path := range cfg.Spill {
			fs, err := farFS(path, far)
			if err != nil {
				warn("values can't be written to what was named", "directory", path, "error", err)
				continue
			}
			if fs != nil {
				s.far = append(s.far, fs)
				d := spill.Directory{FS: fs, Path: s.folder(agent), Full: spillNamed}
				if cfg.HeadLocal { // and what agents that died had there
					d.Ends = s.base
				}
				dirs = append(dirs, d)
				continue
			}
			if why := notDisk(path); why != "" {
				warn("values will be written to what is no disk of this node", "directory", path, "why", why)
			}
			dirs = append(dirs, spill.Directory{Path: path, Full: spillNamed})
		}
	default:
		var why []string
		for i, path := range append(slices.Clone(cfg.Disks), filepath.Dir(cfg.Socket), "/var/tmp") {
			if i >= len(cfg.Disks) && len(dirs) > 0 {
				break // all disks are used, but of the others the first
			}
			if no := notDisk(path); no != "" {
				why = append(why, no)
				continue
			}
			dirs = append(dirs, spill.Directory{Path: path, Full: spillOwn})
		}
		if len(dirs) == 0 {
			s.off = "no directory of the node is on a disk (" + strings.Join(why, "; ") + "): name one with --object-spilling-directory"
			return s
		}
	}
	files, err := spill.Open(dirs)
	if err != nil {
		warn("a directory for values can't be written to", "error", err)
		if files == nil {
			s.off = err.Error()
		}
	}
	s.files = files
	return s
}

// farFS is what a directory names that nodes share; nil: it is a disk's.
func farFS(name string, far func(string, func(string) string) (SpillFS, error)) (spill.FS, error) {
	if path, found := strings.CutPrefix(name, bootdoc.SpillShared); found {
		return spill.Dir(path), nil
	}
	if !strings.Contains(name, "://") {
		return nil, nil
	}
	if far == nil {
		return nil, errors.New("this program knows directories only")
	}
	return far(name, os.Getenv)
}

// folder is that of an agent's files where they outlive it.
func (s *deskSpill) folder(agent uint32) string { return fmt.Sprintf("%s/%d", s.base, agent) }

// others are folders of other clusters there, some of them where there are many. Which of those are over nobody knows here.
func (s *deskSpill) others() (folders []string) {
	for _, fs := range s.far {
		names, _ := fs.List("", spillBase, spillNames) // Probe has said what is wrong
		for _, name := range names {
			if strings.HasPrefix(name, spillBase) && name != s.base && len(folders) < spillNames {
				folders = append(folders, fs.String()+"/"+name)
			}
		}
	}
	return folders
}

// notDisk says why a directory is not on a disk of the node; "": it is.
func notDisk(path string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Sprintf("%s: %v", path, err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return path + " is memory (tmpfs)"
	}
	if err := bootdoc.CheckLocal(path); err != nil {
		return err.Error()
	}
	return ""
}

// config says what a Store may spill.
func (s *deskSpill) config(cfg objstore.Config) objstore.Config {
	if s.files != nil {
		cfg.Spill, cfg.Writers = math.MaxInt64/2, len(s.files.Directories())
		if s.limit > 0 {
			cfg.Spill = s.limit
		}
	}
	return cfg
}

// spillEffect does what the store wants of files, and of those who look at what is to go there.
func (s *deskStore) spillEffect(e objstore.Effect) {
	switch e := e.(type) {
	case objstore.RecallView:
		if c := s.d.conns[e.Process]; c != nil {
			s.d.send(c, &fb.ViewRecallT{Task: taskT(e.Object.Task), Index: e.Object.Index}, 0, nil)
			return
		}
		out, _ := s.store.Keeps(s.d.l.now(), e.Process, e.Object, nil) // as long as it lives
		s.do(out, nil)
	case objstore.Spill:
		s.moves(func() error { return s.write(e) }, func(err error) {
			if err != nil {
				s.d.l.log.Warn("values could not be written to disk", "error", err)
				s.do(s.store.SpillFailed(s.d.l.now(), e.File, err, nil))
				return
			}
			s.do(s.store.Spilled(s.d.l.now(), e.File, nil))
			s.sayWritten()
		})
	case objstore.Restore:
		s.moves(func() error { return s.bringBack(e) }, func(err error) {
			if errors.Is(err, spill.ErrAway) { // this agent ends
				return
			}
			if err != nil {
				s.d.l.log.Error("a value on disk is lost", "object", e.Object, "error", err)
			}
			s.do(s.store.Restored(s.d.l.now(), e.Object, e.File, err, nil))
		})
	case objstore.Loaded:
		ev := work.Brought{Object: e.Object}
		if e.Err != nil {
			var full *objstore.FullError
			ev.Why, ev.Full = s.named(e.Err.Error()), errors.As(e.Err, &full)
		}
		s.d.brings(ev)
	case objstore.Unlink:
		s.moves(func() error { s.spill.files.Remove(e.File); return nil }, func(error) {})
	}
}

// moves has something done that takes as long as a disk does, and then the rest, in a turn.
func (s *deskStore) moves(work func() error, then func(error)) {
	s.spill.done.Add(1)
	go func() {
		defer s.spill.done.Done()
		err := work()
		s.d.post(mail{do: func() { then(err) }})
	}()
}

func (s *deskStore) write(e objstore.Spill) error {
	parts, total, began := make([]spill.Part, 0, len(e.Parts)), int64(0), time.Now()
	for _, p := range e.Parts {
		b, err := s.memory.Bytes(p.Arena, p.Offset, p.Size)
		if err != nil {
			return err
		}
		parts = append(parts, spill.Part{Object: p.Object, At: p.At, Bytes: b})
		total += p.Size
	}
	s.spill.busy.begin()
	defer s.spill.busy.end()
	if err := s.spill.files.Write(e.File, parts); err != nil {
		return err
	}
	s.spill.wrote.add(total, began)
	return nil
}

func (s *deskStore) bringBack(e objstore.Restore) error {
	s.spill.busy.begin()
	defer s.spill.busy.end()
	began := time.Now()
	err := s.read(e.File, e.At, 0, e.Size, func(at int64, b []byte) error {
		return s.memory.Write(e.Arena, e.Offset+at, b)
	})
	if err == nil {
		s.spill.read.add(e.Size, began)
	}
	return err
}

// read reads a part of a value's file. From a file system that nodes share it is asked for until it can be had, or was refused for long: the value is whole, and
// who wants it waits, or goes.
func (s *deskStore) read(file uint64, at, from, n int64, give func(int64, []byte) error) error {
	for {
		err := s.spill.files.Read(file, at, from, n, give)
		if !errors.Is(err, spill.ErrAway) {
			return err
		}
		s.d.post(mail{do: func() { s.sayAway(err) }})
		select {
		case <-s.spill.over:
			return err
		case <-time.After(spillAgain):
		}
	}
}

// sayAway tells why values that were written can't be had: the drivers of this node, and those elsewhere whose tasks or values are here.
func (s *deskStore) sayAway(why error) {
	if time.Since(s.spill.away) < spillAway {
		return
	}
	s.spill.away = time.Now()
	s.d.l.log.Warn("a value can't be read back yet", "error", why)
	m := &fb.NoticeT{Level: fb.LevelWarning, Code: "SPILLED_AWAY", Wall: s.d.l.now(), Text: "waits for a value that it wrote away, and tries again: " + why.Error()}
	for _, j := range s.d.jobs {
		if j.errand != nil && !j.over {
			s.d.errandSend(j.errand, m, nil) // there this node's name is put before it
		}
	}
	m.Text = "node " + s.d.node + ": " + m.Text
	for _, c := range s.d.sorted() {
		if c.kind == fb.AttachKindDriver {
			s.d.send(c, m, 0, nil)
		}
	}
}

// sayWritten tells that values go to disk: the log, and at first those whose programs they are.
func (s *deskStore) sayWritten() {
	x := s.store.Explain()
	n := x.Moved.Spilled.Bytes
	if s.spill.said > 0 && (n < spillDoubled || n < 2*s.spill.said) {
		return
	}
	first := s.spill.said == 0
	s.spill.said = max(n, 1)
	s.d.l.log.Info("values go to disk", "spilled", objstore.Bytes(n), "objects", x.Moved.Spilled.Objects, "MiB/s", s.spill.wrote.speed()>>20,
		"restored", objstore.Bytes(x.Moved.Restored.Bytes), "MiB/s back", s.spill.read.speed()>>20, "directories", s.spill.files.Directories())
	for _, c := range s.d.sorted() {
		if first && c.kind == fb.AttachKindDriver {
			s.d.send(c, &fb.NoticeT{Level: fb.LevelWarning, Code: "SPILLING", Wall: s.d.l.now(),
				Text: fmt.Sprintf("node %s writes values to disk (%s): its memory for them, %s, is full; --object-store-memory makes it larger",
					s.d.node, strings.Join(s.spill.files.Directories(), ", "), objstore.Bytes(x.Limit))}, 0, nil)
		}
	}
}

// Seen is work.Store's. A process may have let go of the object before it knew that it is asked.
func (s *deskStore) Seen(p id.Process, o id.Object, places uint32) error {
	now := s.d.l.now()
	var out []objstore.Effect
	var err error
	switch {
	case !s.store.Holds(p, o):
		return nil
	case places == 0:
		out, err = s.store.Keeps(now, p, o, nil)
	default:
		out, err = s.store.Undeliver(now, p, o, places, nil)
	}
	s.do(out, nil)
	return err
}

// Bring is work.Store's.
func (s *deskStore) Bring(o id.Object) {
	out, there, err := s.store.Load(s.d.l.now(), o, nil)
	s.do(out, nil)
	switch {
	case err != nil:
		s.d.brings(work.Brought{Object: o, Why: err.Error()})
	case there:
		s.d.brings(work.Brought{Object: o})
	}
}

// Done is work.Store's.
func (s *deskStore) Done(o id.Object) {
	out, err := s.store.Unawait(s.d.l.now(), o, nil)
	s.do(out, nil)
	if err != nil && !errors.Is(err, objstore.ErrUnknown) {
		s.do(nil, err)
	}
}

// part gives a piece of an object, as it lies in memory, or from its file; then is called with it, at once or in a later turn.
func (s *deskStore) part(o id.Object, offset, size int64, then func(bulk.Piece, error)) {
	info, ok := s.store.Lookup(o)
	l := info.Location
	switch {
	case !ok:
		then(bulk.Piece{}, errors.New("it is not in this node's memory any more"))
	case offset > l.Size || size > l.Size-offset:
		then(bulk.Piece{}, fmt.Errorf("it has %d bytes, of which %d at %d were asked for", l.Size, size, offset))
	case l.Kind == objstore.InFile && (s.spill.reading[s.spill.files.Where(l.File)] || s.spill.given >= givenMost): // or they would take memory that there is not
		s.spill.parts = append(s.spill.parts, func() { s.part(o, offset, size, then) })
	case l.Kind == objstore.InFile:
		piece, began, from := make([]byte, size), time.Now(), s.spill.files.Where(l.File)
		s.spill.reading[from] = true
		s.moves(func() error {
			err := s.spill.files.Read(l.File, l.Offset, offset, size, func(at int64, b []byte) error {
				copy(piece[at:], b)
				return nil
			})
			s.spill.read.add(size, began)
			return err
		}, func(err error) {
			delete(s.spill.reading, from)
			if errors.Is(err, spill.ErrAway) { // others of that directory may be there
				s.partLater(err, func() { s.part(o, offset, size, then) }, func() { then(bulk.Piece{}, err) })
				return
			}
			now, _ := s.store.Lookup(o)
			if err != nil && now.Location.Kind == objstore.InFile && now.Location.File == l.File {
				s.d.l.log.Error("a value on disk is lost", "object", o, "error", err)
				s.d.brings(work.Damaged{Object: o, Why: err.Error()})
			}
			if err != nil {
				then(bulk.Piece{}, err)
			} else {
				s.spill.given += size
				then(bulk.Piece{Bytes: piece, Version: info.Version, Done: func() { s.d.post(mail{do: func() { s.spill.given -= size; s.nextParts() }}) }}, nil)
			}
			s.nextParts()
		})
	default:
		if _, err := s.store.Deliver(objstore.Agent, o); err != nil {
			then(bulk.Piece{}, err)
			return
		}
		done := func() { s.do(s.store.Undeliver(s.d.l.now(), objstore.Agent, o, 1, nil)) }
		p, err := s.piece(l.Arena, l.Offset+offset, size)
		if err != nil {
			done()
			then(bulk.Piece{}, err)
			return
		}
		p.Version, p.Done = info.Version, func() { s.d.post(mail{do: done}) }
		then(p, nil)
	}
}

// piece is a part of an arena.
func (s *deskStore) piece(arena uint64, offset, size int64) (p bulk.Piece, err error) {
	if p.Bytes, err = s.memory.Bytes(arena, offset, size); err != nil {
		return bulk.Piece{}, err
	}
	p.Lies.Offset = offset
	p.Lies.File, err = s.memory.Reader(arena)
	return p, err
}

// end waits for the disk, false: it hangs. leave: what was written to a directory that nodes share stays, since the others think that this one is dead,
// and have inherited it.
func (s *deskSpill) end(leave bool) bool {
	close(s.over) // for those who wait for what can't be had
	over := make(chan struct{})
	go func() { // ends with the disk's answer, or with the process
		s.done.Wait()
		if s.files != nil {
			s.files.Close(leave)
		}
		close(over)
	}()
	select {
	case <-over:
		return true
	case <-time.After(spillEnd):
		return false
	}
}

// code is the code of the error that a process gets for memory that it could not have.
func code(e *objstore.FullError) string {
	if errors.Is(e, syscall.ENOSPC) || errors.Is(e, syscall.EDQUOT) || errors.Is(e, objstore.ErrSpillLimit) {
		return "DISK_FULL"
	}
	return "STORE_FULL"
}
