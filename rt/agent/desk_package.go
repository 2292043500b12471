package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/maniple-hpc/maniple/rt/env"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// pack is a package of a job on its way to this node, or unpacked here. Its archive is in the job's directory because a
// process here put it there, or it is pulled from the agent whose job it is, piece by piece. Files are read and written on goroutines
// of their own, one at a time for each package; all else is the desk's.
type pack struct {
	hash  string
	waits []func(error) // what goes on once it is here, or can't be had
	here  bool          // unpacked
	piece []byte        // what came and is not written yet
	got   int64         // bytes that are, or are being written
	total int64         // 0: not known yet
	again bool          // it came damaged once
}

// workerSetup is what a worker that was asked for waits for before it is forked.
type workerSetup struct {
	fork  *fb.ForkT
	packs []*pack
	waits int   // for so many of them
	due   int64 // when that has taken too long
}

// jobsDir is the directory on a node that has one of each job that an agent knows; "": the node has no directory.
func jobsDir(cfg *Config, agent uint32) string {
	if cfg.Socket == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(cfg.Socket), "jobs", fmt.Sprint(agent))
}

// tidyDirs removes what agents before this one left of their jobs.
func (d *desk) tidyDirs() {
	mine := jobsDir(&d.l.core.cfg, d.agent)
	if mine == "" {
		return
	}
	d.l.goes(func() {
		others, _ := filepath.Glob(filepath.Join(filepath.Dir(mine), "*")) // the pattern is right
		for _, dir := range others {
			if dir != mine {
				_ = os.RemoveAll(dir) // the end of the node removes what remains
			}
		}
	})
}

func (j *job) archive(hash string) string { return filepath.Join(j.dir, hash+".zip") }

// busy does something that takes a disk's time on a goroutine, and then what that gives, as one of the desk's turns. The job's
// directory stays meanwhile.
func (d *desk) busy(j *job, f func() func()) {
	j.busy++
	d.l.goes(func() {
		then := f()
		d.post(mail{do: func() {
			j.busy--
			then()
		}})
	})
}

// setup has a worker forked once the packages of its environment are here.
func (d *desk) setup(ctx context.Context, h *hired, f *fb.ForkT, e *env.Environment) {
	h.setup = &workerSetup{fork: f, due: never}
	if limit := e.Timeout(); limit > 0 {
		h.setup.due = d.l.now() + int64(limit)
	}
	for _, hash := range e.Packages() {
		p := d.want(ctx, h.job, hash)
		h.setup.packs = append(h.setup.packs, p)
		if !p.here {
			h.setup.waits++
			p.waits = append(p.waits, func(err error) { d.packHere(h, p, err) })
		}
	}
	if h.setup.waits == 0 {
		d.ready(h)
	}
}

// want gives a package of a job, and begins with it if nobody has.
func (d *desk) want(ctx context.Context, j *job, hash string) *pack {
	i := slices.IndexFunc(j.packs, func(p *pack) bool { return p.hash == hash })
	if i < 0 {
		i = len(j.packs)
		j.packs = append(j.packs, &pack{hash: hash})
		d.obtain(ctx, j, j.packs[i])
	}
	return j.packs[i]
}

// packHere: a package that a worker waits for is here, or can't be had.
func (d *desk) packHere(h *hired, p *pack, err error) {
	switch {
	case h.setup == nil: // it failed or was killed meanwhile
	case err != nil:
		d.noSetup(h, fmt.Sprintf("the package %.12s of its runtime_env can't be had: %v", p.hash, err))
	default:
		if h.setup.waits--; h.setup.waits == 0 {
			d.ready(h)
		}
	}
}

// ready tells a job's template of a worker that waits for nothing more.
func (d *desk) ready(h *hired) {
	f := h.setup.fork
	h.setup = nil
	if by := d.forks(h.template); by != nil {
		d.fork(by, f)
	} else {
		h.template.queue = append(h.template.queue, f)
	}
}

// obtain begins with a package: it is unpacked if its archive is here, and else pulled. A damaged archive goes, so that it does not stand in the way
// of the next one; what was pulled is pulled once more.
func (d *desk) obtain(ctx context.Context, j *job, p *pack) {
	d.busy(j, func() func() {
		err := env.Unpack(ctx, j.archive(p.hash), p.hash, filepath.Join(j.dir, p.hash))
		missing, damaged := errors.Is(err, os.ErrNotExist), errors.Is(err, env.ErrDamaged)
		if damaged {
			err = errors.Join(err, os.Remove(j.archive(p.hash)))
		}
		return func() {
			switch {
			case damaged && j.errand != nil && !p.again:
				d.l.log.Warn("a package is damaged, and is brought again", "error", err)
				p.again, p.got, p.total = true, 0, 0
				d.pull(ctx, j, p)
			case !missing:
				d.obtained(j, p, err)
			case j.errand == nil:
				d.obtained(j, p, fmt.Errorf("it is not on node %s: whoever named it did not put it there, or is gone", d.node))
			default:
				d.pull(ctx, j, p)
			}
		}
	})
}

// obtained ends the way of a package: those who wait for it go on, or fail.
func (d *desk) obtained(j *job, p *pack, err error) {
	waits := p.waits
	p.waits, p.piece = nil, nil
	if p.here = err == nil; !p.here { // the next one who wants it tries again
		j.packs = slices.DeleteFunc(j.packs, func(q *pack) bool { return q == p })
	}
	for _, then := range waits {
		then(err)
	}
}

// noSetup ends a worker whose environment can't be made.
func (d *desk) noSetup(h *hired, why string) {
	h.setup, h.final = nil, true
	h.state = &fb.WorkerStateT{Key: h.key, Phase: fb.RankPhaseEnded, Error: why}
	d.workerOver(h)
}

// settleSetups ends workers whose environment took too long.
func (d *desk) settleSetups(now int64) int64 {
	next := never
	for _, h := range d.sortedHired() {
		switch {
		case h.setup == nil:
		case now < h.setup.due:
			next = min(next, h.setup.due)
		default:
			what := ""
			for _, p := range h.setup.packs {
				if !p.here {
					what += fmt.Sprintf("; of the package %.12s %d of %d bytes have come", p.hash, p.got, p.total)
				}
			}
			d.noSetup(h, "its runtime_env was not made within its setup_timeout_seconds"+what)
		}
	}
	return next
}

// pull asks the agent whose job it is for the next piece of a package.
func (d *desk) pull(ctx context.Context, j *job, p *pack) {
	if j.errand == nil {
		d.obtained(j, p, errors.New("the agent that had it is gone"))
		return
	}
	d.tellPeer(ctx, j.errand.peer, &fb.PullT{Errand: j.errand.number, Back: j.errand.back, Package: p.hash, Offset: uint64(p.got), Size: pullSize}, nil)
}

// packagePulled sends another agent a piece of a package.
func (d *desk) packagePulled(ctx context.Context, e *errand, m *fb.PullT) {
	if e.job == nil {
		return
	}
	j, part := e.job, fb.PartT{Errand: e.number, Back: e.back, Package: m.Package, Offset: m.Offset}
	d.busy(j, func() func() {
		piece, total, err := readPiece(j, m)
		return func() {
			if !slices.Contains(d.errands, e) {
				return
			}
			if errors.Is(err, os.ErrNotExist) && j.errand != nil { // it is on its way here itself, or has to be
				if p := d.want(ctx, j, m.Package); !p.here {
					p.waits = append(p.waits, func(why error) {
						if why == nil {
							d.packagePulled(ctx, e, m)
							return
						}
						part.Error = why.Error()
						d.tellPeer(ctx, e.peer, &part, nil)
					})
					return
				}
			}
			if err != nil {
				part.Error = "node " + d.node + ": " + err.Error()
				d.tellPeer(ctx, e.peer, &part, nil)
				return
			}
			for part.Total = uint64(total); len(piece) > 0; {
				n, next := min(partSize, len(piece)), part
				d.tellPeer(ctx, e.peer, &next, piece[:n:n])
				part.Offset += uint64(n)
				piece = piece[n:]
			}
		}
	})
}

// readPiece reads what another agent asks for of a job's package.
func readPiece(j *job, m *fb.PullT) ([]byte, int64, error) {
	if !env.IsHash(m.Package) || m.Size > pullSize {
		return nil, 0, fmt.Errorf("%d bytes of %q is nothing that may be asked for", m.Size, m.Package)
	}
	f, err := os.Open(j.archive(m.Package))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if m.Offset >= uint64(info.Size()) {
		return nil, 0, fmt.Errorf("package %.12s has %d bytes, and those from %d were asked for", m.Package, info.Size(), m.Offset)
	}
	piece := make([]byte, min(m.Size, uint64(info.Size())-m.Offset))
	if _, err := f.ReadAt(piece, int64(m.Offset)); err != nil && err != io.EOF {
		return nil, 0, err
	}
	return piece, info.Size(), nil
}

// packageCame takes what came of a package, and writes a piece once all of it has.
func (d *desk) packageCame(ctx context.Context, e *errand, m *fb.PartT, part []byte) {
	j := e.job
	if j == nil {
		return
	}
	i := slices.IndexFunc(j.packs, func(p *pack) bool { return p.hash == m.Package && !p.here })
	if i < 0 {
		return
	}
	p := j.packs[i]
	switch at := p.got + int64(len(p.piece)); {
	case m.Error != "":
		d.obtained(j, p, errors.New(m.Error))
		return
	case int64(m.Offset) != at || len(part) == 0 || m.Total == 0 || p.total != 0 && p.total != int64(m.Total) || at+int64(len(part)) > int64(m.Total):
		d.obtained(j, p, fmt.Errorf("its bytes came as %d at %d of %d, where %d of %d were next", len(part), m.Offset, m.Total, at, p.total))
		return
	}
	p.total = int64(m.Total)
	p.piece = append(p.piece, part...)
	if int64(len(p.piece)) < min(pullSize, p.total-p.got) {
		return
	}
	piece, from := p.piece, p.got
	p.piece, p.got = nil, p.got+int64(len(piece))
	last := p.got == p.total
	d.busy(j, func() func() {
		err := writePiece(j, p.hash, piece, from, last)
		return func() {
			switch {
			case err != nil:
				d.obtained(j, p, err)
			case last:
				d.obtain(ctx, j, p)
			default:
				d.pull(ctx, j, p)
			}
		}
	})
}

// writePiece puts a piece behind those before it; with the last one the archive has its name.
func writePiece(j *job, hash string, piece []byte, at int64, last bool) error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	coming := j.archive(hash) + ".coming"
	flags := os.O_WRONLY | os.O_CREATE
	if at == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(coming, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(piece, at)
	if err = errors.Join(err, f.Close()); err != nil || !last {
		return err
	}
	return os.Rename(coming, j.archive(hash))
}
