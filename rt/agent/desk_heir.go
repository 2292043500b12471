package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/objstore/spill"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

// SpillFS is where values may be written that outlive a node, beside directories.
type SpillFS = spill.FS

// SpillReader is an open file of a SpillFS.
type SpillReader = spill.Reader

// ErrSpillRefused is what a SpillFS says of a file that it does not give, though it is there to answer.
var ErrSpillRefused = spill.ErrRefused

// inheritWait is how long it may take to see what an agent has left; then its values count as lost.
const inheritWait = 10 * time.Second

// heirs tells the core that another agent, peer, is gone, but first of those of its values that outlive it.
func (d *desk) heirs(peer uint32, gone work.ProcessGone) {
	var wanted []work.Estate
	if !gone.Cut && d.store != nil && len(d.store.spill.far) > 0 && d.core != nil {
		wanted = d.core.Estates(gone.Process)
	}
	if len(wanted) == 0 {
		d.brings(gone)
		return
	}
	s := d.store
	var left []*spill.Left
	s.moves(func() error {
		var err error
		left, err = s.spill.left(peer)
		return err
	}, func(err error) {
		if err != nil {
			d.l.log.Warn("values of a node that is gone can't be found where it had written them", "agent", peer, "error", err)
		}
		n := 0
		for _, x := range wanted {
			for _, l := range left {
				if s.inherit(x, l) {
					d.brings(work.Inherited{Process: gone.Process, Object: x.Object})
					n++
					break
				}
			}
		}
		if n > 0 {
			d.l.log.Info("values outlived their node", "agent", peer, "values", n, "of", len(wanted))
		}
		d.brings(gone)
	})
}

// left looks what an agent has left. A file system that does not answer is not waited for.
func (s *deskSpill) left(agent uint32) (list []*spill.Left, err error) {
	type answer struct {
		left *spill.Left
		err  error
	}
	late := time.After(inheritWait)
	for _, fs := range s.far {
		came := make(chan answer, 1)
		go func() { // ends with the file system's answer, or with the process
			l, err := spill.ReadLeft(fs, s.folder(agent))
			came <- answer{l, err}
		}()
		select {
		case a := <-came:
			list, err = append(list, a.left), errors.Join(err, a.err)
		case <-late:
			return list, errors.Join(err, fmt.Errorf("%s does not answer", fs))
		}
	}
	return list, err
}

// inherit takes in one value; false: it was not left, or is here in another way.
func (s *deskStore) inherit(x work.Estate, l *spill.Left) bool {
	at, size, found := l.Find(x.Object)
	if !found || uint64(size) != x.Size {
		return false
	}
	number, err := s.store.Inherit(x.Object, size, at, x.Job)
	if err != nil {
		return false
	}
	s.spill.files.Inherit(number, l, x.Object)
	return true
}
