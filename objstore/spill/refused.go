package spill

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRefused: a file system that nodes share is there, and says that it does not give a file. An FS whose errors do not tell that by themselves, as those of
// rights do, wraps it.
var ErrRefused = errors.New("it is refused")

const (
	refusedFor = 5 * time.Minute // what was refused for so long is lost: what merely comes late, such as a DataNode's report, has come by then
	refusedGap = 2 * time.Minute // so much of the time between two refusals counts at most: nobody may have asked meanwhile
)

// answers are errors of a directory that nodes share which its server gave. Those that a server's silence ends in, EIO of a soft mount among them, are not here.
var answers = []error{
	os.ErrPermission, ErrRefused, unix.ESTALE, unix.EBADMSG, unix.EUCLEAN, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.EKEYEXPIRED, unix.EKEYREVOKED, unix.EKEYREJECTED, unix.ENOKEY,
}

// refused tells a file system's answer from its silence.
func refused(err error) bool {
	return slices.ContainsFunc(answers, func(no error) bool { return errors.Is(err, no) })
}

// refusals are those of one object.
type refusals struct {
	last time.Time // zero: what came last was silence
	sum  time.Duration
}

// away tells an error of a file system that nodes share from the loss of an object there: one that is missing or shorter is lost, and so is one that was refused for
// long, while silence is waited for as long as it takes. What a disk of the node does not give it never will.
func (f *Files) away(x *file, p *part, err error) error {
	for _, lost := range []error{os.ErrNotExist, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, lost) {
			return err
		}
	}
	if x.kept == nil {
		return err
	}
	if now := time.Now(); f.gone(x, p, refused(err), errors.Is(err, os.ErrPermission), now) {
		return fmt.Errorf("it was refused for %v, and counts as lost: %w", refusedFor, err)
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// gone counts a refusal, and tells whether it was one too many; the time of a silence does not count. Where rights were taken from one object for so long, and
// nothing was read since, they are from the next one, too.
func (f *Files) gone(x *file, p *part, refused, rights bool, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &p.no
	if !n.last.IsZero() && refused {
		n.sum += min(now.Sub(n.last), refusedGap)
	}
	if n.last = (time.Time{}); refused {
		n.last = now
	}
	fs := x.kept.fs.String()
	since, shut := f.shut[fs]
	lost := refused && (n.sum >= refusedFor || rights && shut && now.Sub(since) < refusedFor)
	if lost && rights {
		f.shut[fs] = now
	}
	return lost
}

// had: an object was read, so that nobody refuses it now.
func (f *Files) had(x *file, p *part) {
	if x.kept == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p.no = refusals{}
	delete(f.shut, x.kept.fs.String())
}
