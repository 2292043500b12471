package objstore

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// When all that is idle is gone and memory is still short, processes are asked whether they look at copies of theirs, which go when they do not. After that
// primary objects are written to files, several to one, and leave memory. Which: of the job that has most in memory (OBJ-11), what nobody has used for longest. What processes may look at has
// to be asked back first. A file is deleted with the last object in it; so what was loaded again leaves memory a second
// time without being written.

// ErrSpillLimit: as much lies in files as may.
var ErrSpillLimit = errors.New("no more may be spilled (--object-spilling-limit)")

// diskRest is how long nothing is written after a file could not be.
const diskRest = int64(5 * time.Second)

// job is what one job has in memory.
type job struct {
	number    uint32
	objects   int   // here, wherever they are
	bytes     int64 // of primary objects in arenas
	spillable chain
	viewed    chain // by processes that were not asked whether they look
}

// file holds objects that were spilled together.
type file struct {
	number uint64
	size   int64
	parts  []*object // while it is written,
	since  int64     // from then on
	live   int       // objects that are in it, or to be
}

// Traffic is how much went to files and came back, or did not have to.
type Traffic struct {
	Spilled, Restored Tally
	Dropped           Tally // copies that went for want of memory
	Failed            int   // files that could not be written, or objects that could not be read
}

// chain is a list of objects, by time since the last use.
type chain struct{ oldest, newest *object }

// unchain takes an object from the list that it is in.
func (s *Store) unchain(o *object) {
	c := o.in
	if c == nil {
		return
	}
	if o.older != nil {
		o.older.newer = o.newer
	} else {
		c.oldest = o.newer
	}
	if o.newer != nil {
		o.newer.older = o.older
	} else {
		c.newest = o.older
	}
	o.older, o.newer, o.in = nil, nil, nil
}

// rank puts an object in the list where it is looked for when memory is short, as the one used last.
func (s *Store) rank(o *object) {
	var c *chain
	switch spills := s.cfg.Spill > 0; {
	case o.at == nil || o.restoring || o.spilling || o.tasks > 0:
	case len(o.views) == 0 && (o.secondary || o.file != nil):
		c = &s.idle
	case len(o.views) == 0 && spills && !o.released:
		c = &o.job.spillable
	case !spills && !o.secondary || !slices.ContainsFunc(o.views, func(v view) bool { return !v.recalled && v.process.number != Agent }):
	case o.secondary && !(spills && o.late()):
		c = &s.viewed
	default:
		c = &o.job.viewed
	}
	if len(o.views) == 0 || c != nil {
		s.noAnswer(o)
	}
	if c == o.in {
		return
	}
	s.unchain(o)
	if c == nil {
		return
	}
	o.in, o.older = c, c.newest
	if c.newest != nil {
		c.newest.newer = o
	} else {
		c.oldest = o
	}
	c.newest = o
}

// jobOf gives the job of a new object. With a new job, those of which nothing is left are forgotten.
func (s *Store) jobOf(number uint32) *job {
	for _, j := range s.jobs {
		if j.number == number {
			j.objects++
			return j
		}
	}
	s.jobs = slices.DeleteFunc(s.jobs, func(j *job) bool { return j.objects == 0 })
	j := &job{number: number, objects: 1}
	s.jobs = append(s.jobs, j)
	return j
}

// most gives the job that has most in memory, of those that have something in the list; of several alike the oldest.
func (s *Store) most(list func(*job) *chain) (best *job) {
	for _, j := range s.jobs {
		if list(j).oldest != nil && (best == nil || j.bytes > best.bytes) {
			best = j
		}
	}
	return best
}

// spill has objects written to files, and views asked back, until n bytes are on their way. What it can't do now it tries again a
// little later.
func (s *Store) spill(now, n int64, out []Effect) []Effect {
	spills := s.cfg.Spill > 0
	n -= s.coming(now)
	if n > 0 && s.viewed.oldest != nil {
		s.askAgain(now)
		out, n = s.askViews(now, n, s.viewedCopy, out)
	}
	for spills && n > 0 && len(s.writing) < s.cfg.Writers && now >= s.diskAfter {
		e, size, ok := s.batch(now)
		if !ok {
			break
		}
		out = append(out, e)
		n -= size
	}
	if spills && n > 0 {
		s.askAgain(now)
		out, _ = s.askViews(now, n, s.viewedOfMost, out)
	}
	if spills || len(s.asked) > 0 {
		s.againAt = now + answerTime
	}
	if len(s.asked) > 0 && s.asked[0].askedAt+answerTime > now {
		s.againAt = s.asked[0].askedAt + answerTime
	}
	return out
}

// batch gathers objects for a file.
func (s *Store) batch(now int64) (Spill, int64, bool) {
	f := &file{number: s.lastFile + 1}
	e := Spill{File: f.number}
	for f.size < s.cfg.Batch {
		j := s.most(func(j *job) *chain { return &j.spillable })
		if j == nil {
			break
		}
		o := j.spillable.oldest
		if s.fileBytes+f.size+o.at.size > s.cfg.Spill {
			if len(f.parts) == 0 {
				s.diskErr = fmt.Errorf("%s lie in files: %w", Bytes(s.fileBytes), ErrSpillLimit)
				s.diskAfter = now + answerTime
			}
			break
		}
		s.unchain(o)
		o.spilling, o.offset = true, f.size
		f.parts = append(f.parts, o)
		e.Parts = append(e.Parts, Part{Object: o.name, Arena: o.at.arena.number, Offset: o.at.off, Size: o.size, At: f.size})
		f.size += o.at.size
	}
	if len(f.parts) == 0 {
		return e, 0, false
	}
	if errors.Is(s.diskErr, ErrSpillLimit) {
		s.diskErr = nil
	}
	f.live = len(f.parts)
	s.lastFile = f.number
	s.files[f.number] = f
	f.since = now
	s.writing = append(s.writing, f)
	s.writingBytes += f.size
	s.fileBytes += f.size
	return e, f.size, true
}

// viewedCopy gives the copy, or the like, that nobody has used for longest, of what processes may look at; nil: there is none. What one may look at that did not answer
// when it was asked last is asked for later, with what is to be written.
func (s *Store) viewedCopy() *object {
	for o := s.viewed.oldest; o != nil; o = s.viewed.oldest {
		if s.cfg.Spill == 0 || !o.late() {
			return o
		}
		s.rank(o)
	}
	return nil
}

// late tells whether a process may look at an object that did not answer when it was asked last.
func (o *object) late() bool {
	return slices.ContainsFunc(o.views, func(v view) bool { return v.process.late })
}

// answers: a process says what it looks at. So copies that were left to the end because of it are asked for early again.
func (s *Store) answers(p *process) {
	if !p.late {
		return
	}
	p.late = false
	for _, j := range s.jobs {
		for o := j.viewed.oldest; o != nil; {
			next := o.newer
			if o.secondary && !o.late() {
				s.rank(o)
			}
			o = next
		}
	}
}

// viewedOfMost gives what nobody has used for longest of the job that has most, of what processes may look at; nil: there is nothing.
func (s *Store) viewedOfMost() *object {
	if j := s.most(func(j *job) *chain { return &j.viewed }); j != nil {
		return j.viewed.oldest
	}
	return nil
}

// askViews asks processes whether they look at objects of theirs, until n bytes may be on their way, and gives how many may not be.
func (s *Store) askViews(now, n int64, next func() *object, out []Effect) ([]Effect, int64) {
	for n > 0 {
		o := next()
		if o == nil {
			break
		}
		s.unchain(o)
		for i := range o.views {
			if v := &o.views[i]; !v.recalled && v.process.number != Agent {
				v.recalled = true
				out = append(out, RecallView{v.process.number, o.name})
			}
		}
		o.asked, o.askedAt = true, now
		s.asked = append(s.asked, o)
		s.askedBytes += o.at.size
		n -= o.at.size
	}
	return out, n
}

// askAgain: those who have not answered in time are not waited for, and may be asked once more; about copies not before anything is written, until they answer.
func (s *Store) askAgain(now int64) {
	for len(s.asked) > 0 && now-s.asked[0].askedAt >= answerTime {
		o := s.asked[0]
		for i := range o.views {
			v := &o.views[i]
			v.process.late = v.process.late || v.recalled && !v.kept
			v.recalled = v.kept
		}
		s.noAnswer(o)
		s.rank(o)
	}
}

// noAnswer: the views of an object do not count any more as memory that may come.
func (s *Store) noAnswer(o *object) {
	if o.asked {
		o.asked = false
		s.asked = slices.DeleteFunc(s.asked, func(x *object) bool { return x == o })
		s.askedBytes -= o.at.size
	}
}

// Keeps answers RecallView: the process looks at the object.
func (s *Store) Keeps(now int64, p id.Process, object id.Object, out []Effect) ([]Effect, error) {
	proc := s.processes[p]
	o, i := s.viewedBy(proc, object), -1
	if o != nil {
		i = slices.IndexFunc(o.views, func(v view) bool { return v.process == proc })
	}
	if i < 0 {
		return out, fmt.Errorf("objstore: %s keeps %s: %w", ProcessName(p), name(object), ErrUnknown)
	}
	v := &o.views[i]
	v.recalled, v.kept = true, true
	s.answers(proc)
	s.noAnswer(o)
	s.rank(o)
	return s.serve(now, out), nil
}

// Spilled answers Spill.
func (s *Store) Spilled(now int64, number uint64, out []Effect) ([]Effect, error) {
	f := s.files[number]
	if f == nil || f.parts == nil {
		return out, fmt.Errorf("objstore: file %d was written: %w", number, ErrUnknown)
	}
	s.diskErr = nil
	parts := s.written(f)
	for _, o := range parts {
		s.moved.Spilled.Objects++
		s.moved.Spilled.Bytes += o.size
		o.file = f
		s.filed.Objects++
		s.filed.Bytes += o.size
	}
	for _, o := range parts {
		out = s.settled(now, o, out)
	}
	return s.serve(now, out), nil
}

// SpillFailed answers Spill: of the file nothing is left.
func (s *Store) SpillFailed(now int64, number uint64, cause error, out []Effect) ([]Effect, error) {
	f := s.files[number]
	if f == nil || f.parts == nil {
		return out, fmt.Errorf("objstore: file %d was not written: %w", number, ErrUnknown)
	}
	s.diskErr, s.diskAfter = cause, now+diskRest
	s.moved.Failed++
	for _, o := range s.written(f) {
		out = s.settled(now, o, out)
	}
	delete(s.files, number)
	s.fileBytes -= f.size
	return s.serve(now, out), nil
}

// written ends the writing of a file, and gives what was to be in it.
func (s *Store) written(f *file) []*object {
	parts := f.parts
	f.parts = nil
	s.writing = slices.DeleteFunc(s.writing, func(x *file) bool { return x == f })
	s.writingBytes -= f.size
	for _, o := range parts {
		o.spilling = false
	}
	return parts
}

// unfile: an object that is gone does not need its file.
func (s *Store) unfile(f *file, out []Effect) []Effect {
	if f.live--; f.live > 0 {
		return out
	}
	delete(s.files, f.number)
	s.fileBytes -= f.size
	return append(out, Unlink{f.number})
}

// Inherit takes in an object that another node has written to a file which outlives it. The number that it gives stands for that file from now on, until
// Unlink; what lies in it is not counted.
func (s *Store) Inherit(object id.Object, size, offset int64, job uint32) (uint64, error) {
	if s.objects[object] != nil {
		return 0, fmt.Errorf("objstore: inherit %s: %w", name(object), ErrExists)
	}
	s.lastFile++
	f := &file{number: s.lastFile, live: 1}
	s.files[f.number] = f
	o := s.newObject(object, size, 0)
	o.file, o.offset, o.job = f, offset, s.jobOf(job)
	s.objects[object] = o
	s.filed.Objects++
	s.filed.Bytes += size
	return f.number, nil
}

// Load has an object in memory, and keeps it there until Unawait, as Await does. If it is not there yet, Loaded follows.
func (s *Store) Load(now int64, object id.Object, out []Effect) ([]Effect, bool, error) {
	o := s.objects[object]
	if o == nil {
		return out, false, fmt.Errorf("objstore: load %s: %w", name(object), ErrUnknown)
	}
	s.unchain(o)
	o.tasks++
	switch {
	case o.file == nil || o.at != nil && !o.restoring:
		return out, true, nil
	case o.restoring || slices.ContainsFunc(s.queue, func(r *request) bool { return r.restore == o }):
		return out, false, nil
	}
	return s.wait(now, &request{process: s.processes[Agent], restore: o, size: o.size}, out), false, nil
}

// lodge finds a place for an object that is to be read from its file.
func (s *Store) lodge(o *object) (Effect, bool) {
	size := roundUp(o.size, Align)
	sp := s.pool.find(size, Align)
	if sp == nil {
		return nil, false
	}
	off, _ := sp.usable(Align)
	o.at = s.become(sp, off, size, live, nil, o)
	o.restoring = true
	s.tally(o, 1)
	return Restore{Object: o.name, File: o.file.number, At: o.offset, Size: o.size, Arena: o.at.arena.number, Offset: off}, true
}

// Restored answers Restore, of an object and its file. A cause says that the object can't be read: it is lost, and goes with its references.
func (s *Store) Restored(now int64, object id.Object, file uint64, cause error, out []Effect) ([]Effect, error) {
	o := s.objects[object]
	for _, x := range s.former {
		if x.name == object && x.restoring && x.file.number == file {
			o = x
		}
	}
	if o == nil || !o.restoring || o.file.number != file {
		return out, fmt.Errorf("objstore: %s was read from file %d: %w", name(object), file, ErrUnknown)
	}
	o.restoring = false
	if cause != nil {
		s.moved.Failed++
		s.leave(now, o)
	} else {
		s.moved.Restored.Objects++
		s.moved.Restored.Bytes += o.size
	}
	if o.tasks > 0 {
		out = append(out, Loaded{object, cause})
	}
	out = s.settled(now, o, out)
	return s.serve(now, out), nil
}
