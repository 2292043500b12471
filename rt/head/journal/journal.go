package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxRecord is how many bytes type and body of a record may have.
const MaxRecord = 64 << 20

const (
	magic      = "maniple journal\x01"
	headerSize = 16
)

// DefaultReserve is enough for the ends of thousands of ranks.
const DefaultReserve = 1 << 20

var (
	// ErrFull: the disk has no room. What was added since the last commit is not in the file.
	ErrFull = errors.New("no room on the disk")
	// ErrCorrupt: the file is damaged before its end.
	ErrCorrupt = errors.New("the file is damaged")
	// ErrLocked: another process has the journal open.
	ErrLocked = errors.New("another head has it open")
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Options say how a journal is written. The zero value is what the head uses.
type Options struct {
	// Reserve is how many bytes are kept promised beyond the end of the file. Zero: DefaultReserve;
	// negative: none.
	Reserve int64
	// Sync makes each commit wait for the disk, so that the journal outlives the machine.
	Sync bool
	// Copy is given what a commit wrote before Commit returns, and with whole all that there is, when the file was compacted.
	// Its error is Commit's, after which nothing more is written. Nil: nobody has a copy.
	Copy func(data []byte, whole bool) error
}

// Journal is an open journal. Use: Open, Replay once, then Add and Commit.
type Journal struct {
	path string
	opt  Options
	f    *os.File

	size     int64 // of all that was committed
	promised int64 // the file system has promised room up to here
	low      error // the reserve could not be renewed
	seq      uint64
	buf      []byte // added, not committed
	bufSeq   uint64
	replayed bool
	failed   error // the file is in an unknown state
}

// Open opens or makes the journal at path, mode 0600, for this process alone.
func Open(path string, opt Options) (*Journal, error) {
	if opt.Reserve == 0 {
		opt.Reserve = DefaultReserve
	}
	f, err := openLocked(path)
	if err != nil {
		return nil, fmt.Errorf("journal: %s: %w", path, err)
	}
	return &Journal{path: path, opt: opt, f: f}, nil
}

func openLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, named(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// named adds ErrFull to the errors that mean it.
func named(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Add puts a record behind those that the next Commit writes. body is copied.
func (j *Journal) Add(typ uint16, body []byte) error {
	if len(body)+2 > MaxRecord {
		return fmt.Errorf("journal: a record of %d bytes; at most %d can be kept", len(body), MaxRecord-2)
	}
	j.bufSeq++
	j.buf = appendRecord(j.buf, j.seq+j.bufSeq, typ, body)
	return nil
}

func appendRecord(b []byte, seq uint64, typ uint16, body []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)+2))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[at+4:], checksum(b[at:]))
	return b
}

// checksum is over a whole record but for the checksum itself.
func checksum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[:4], table), table, rec[8:])
}

// Commit writes what was added. With an error nothing of it is in the file (JRN-3), and it is dropped:
// ErrFull may pass, after any other the journal can't be written any more.
func (j *Journal) Commit() error {
	if len(j.buf) == 0 {
		return nil
	}
	if !j.replayed {
		return errors.New("journal: commit before replay: what is in the file would be lost")
	}
	buf, n := j.buf, j.bufSeq
	j.buf, j.bufSeq = j.buf[:0], 0
	if cap(j.buf) > 1<<20 {
		j.buf = nil
	}
	if j.failed != nil {
		return j.failed
	}
	if err := j.write(buf); err != nil {
		return fmt.Errorf("journal: %s: %w", j.path, err)
	}
	j.seq += n
	j.size += int64(len(buf))
	if j.opt.Copy != nil {
		if err := j.opt.Copy(buf, false); err != nil {
			j.failed = err
			return err
		}
	}
	if j.size+j.opt.Reserve/2 > j.promised {
		j.reserve()
	}
	return nil
}

func (j *Journal) write(buf []byte) error {
	err := writeAt(j.f, buf, j.size)
	if err == nil && j.opt.Sync {
		err = unix.Fdatasync(int(j.f.Fd()))
		if err != nil { // what the disk has is unknown, and asking again doesn't say
			j.failed = err
			return named(err)
		}
	}
	if err == nil {
		return nil
	}
	// Whatever was written is taken back, so that the next commit begins where this one did. That
	// also gives back the reserve, which is asked for again.
	if terr := j.f.Truncate(j.size); terr != nil {
		j.failed = fmt.Errorf("%w; and what was written can't be taken back: %w", err, terr)
		return j.failed
	}
	j.promised = j.size
	j.reserve()
	return named(err)
}

// writeAt writes all of buf. A small write goes to memory, and is asked of the kernel without the notice of Go's scheduler, which
// would wake the runtime's watchdog for it, a thread that then looks around every 20 us.
func writeAt(f *os.File, buf []byte, at int64) error {
	if len(buf) > maxQuick {
		_, err := f.WriteAt(buf, at)
		return err
	}
	fd := f.Fd()
	for len(buf) > 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_PWRITE64, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), uintptr(at), 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0:
			return os.NewSyscallError("pwrite", e)
		case n == 0:
			return io.ErrShortWrite
		default:
			buf, at = buf[n:], at+int64(n)
		}
	}
	return nil
}

// maxQuick is how many bytes are a small write.
const maxQuick = 64 << 10

// reserve has the file system promise room beyond the end of the file.
func (j *Journal) reserve() {
	if j.opt.Reserve < 0 {
		return
	}
	want := j.size + j.opt.Reserve
	if want <= j.promised {
		j.low = nil
		return
	}
	err := unix.Fallocate(int(j.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, want)
	switch {
	case err == nil:
		j.promised, j.low = want, nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		j.opt.Reserve = -1 // this file system promises nothing
		j.low = nil
	default:
		j.low = named(err)
	}
}

// Low says that the reserve is being used up because the disk has no room; nil: all is well. It asks
// again.
func (j *Journal) Low() error {
	if j.low != nil {
		j.reserve()
	}
	if j.low == nil {
		return nil
	}
	left := max(0, j.promised-j.size)
	return fmt.Errorf("journal: %s: %w: %d KiB are left of the %d that it needs; free %d KiB there, or set TMPDIR to another disk for the next start",
		j.path, j.low, left>>10, j.opt.Reserve>>10, (j.opt.Reserve-left+1023)>>10)
}

// Size is how many bytes the file has.
func (j *Journal) Size() int64 { return j.size }

// Close drops what was not committed and closes the file.
func (j *Journal) Close() error { return j.f.Close() }

// Compact replaces the file by one that has only the records that fill adds. With an error the old
// one is still in use.
func (j *Journal) Compact(fill func(add func(typ uint16, body []byte) error) error) error {
	if len(j.buf) > 0 {
		return errors.New("journal: compact before commit")
	}
	tmp := j.path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("journal: compact: %w", err)
	}
	f, err := openLocked(tmp)
	if err != nil {
		return fmt.Errorf("journal: compact: %s: %w", tmp, err)
	}
	n := &Journal{path: j.path, opt: j.opt, f: f, replayed: true}
	n.opt.Copy = nil
	if err := n.fill(fill); err != nil {
		_ = f.Close()
		_ = os.Remove(tmp)
		return fmt.Errorf("journal: compact: %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, j.path); err != nil {
		_ = f.Close()
		_ = os.Remove(tmp)
		return fmt.Errorf("journal: compact: %w", err)
	}
	_ = j.f.Close()
	n.opt.Copy = j.opt.Copy
	*j = *n
	if j.opt.Sync {
		if err := syncDir(filepath.Dir(j.path)); err != nil {
			return err
		}
	}
	return j.Share()
}

// Share gives Copy all that there is.
func (j *Journal) Share() error {
	if j.opt.Copy == nil {
		return nil
	}
	data, err := io.ReadAll(io.NewSectionReader(j.f, 0, j.size))
	if err == nil {
		err = j.opt.Copy(data, true)
	}
	if err != nil {
		j.failed = err
	}
	return err
}

func (j *Journal) fill(fill func(add func(typ uint16, body []byte) error) error) error {
	if err := j.begin(); err != nil {
		return err
	}
	if err := fill(j.Add); err != nil {
		return err
	}
	return j.Commit()
}

// begin writes the magic of an empty file.
func (j *Journal) begin() error {
	if _, err := j.f.WriteAt([]byte(magic), 0); err != nil {
		return named(err)
	}
	j.size = int64(len(magic))
	j.promised = j.size
	j.reserve()
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Cut says what Replay took off the end of the file.
type Cut struct {
	Bytes int64 // 0: nothing
	At    int64 // offset of the first of them
}

// Replay gives each record to fn, in order, and cuts a torn tail. fn's body is good until it returns.
// An error of fn ends it.
func (j *Journal) Replay(fn func(typ uint16, body []byte) error) (Cut, error) {
	data, err := io.ReadAll(io.NewSectionReader(j.f, 0, 1<<62))
	if err != nil {
		return Cut{}, fmt.Errorf("journal: %s: %w", j.path, err)
	}
	if len(data) < len(magic) && magic[:len(data)] == string(data) {
		cut := Cut{Bytes: int64(len(data))}
		if err := j.begin(); err != nil {
			return Cut{}, fmt.Errorf("journal: %s: %w", j.path, err)
		}
		j.replayed = true
		return cut, nil
	}
	at, n, err := scan(data, fn)
	if err != nil {
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("journal: %s: %w; move it away to start without it", j.path, err)
		}
		return Cut{}, err
	}
	j.seq = n
	cut := Cut{Bytes: int64(len(data) - at), At: int64(at)}
	if cut.Bytes > 0 {
		if err := j.f.Truncate(int64(at)); err != nil {
			return Cut{}, fmt.Errorf("journal: %s: cut the torn end: %w", j.path, err)
		}
	}
	j.size, j.promised, j.replayed = int64(at), int64(at), true
	j.reserve()
	return cut, nil
}

// scan gives the records of a file to fn and tells where the last whole one ends, and its number.
func scan(data []byte, fn func(typ uint16, body []byte) error) (at int, seq uint64, err error) {
	if len(data) < len(magic) || string(data[:len(magic)]) != magic {
		return 0, 0, fmt.Errorf("%w: it does not begin as a journal does", ErrCorrupt)
	}
	for at = len(magic); at < len(data); seq++ {
		n, err := check(data[at:], seq+1)
		if err != nil {
			if where := resumes(data, at, seq+1); where >= 0 {
				return 0, 0, fmt.Errorf("%w at byte %d of %d: %w, and records follow from byte %d, so something else has changed it", ErrCorrupt, at, len(data), err, where)
			}
			break
		}
		rec := data[at : at+n]
		if err := fn(binary.LittleEndian.Uint16(rec[headerSize:]), rec[headerSize+2:]); err != nil {
			return 0, 0, err
		}
		at += n
	}
	return at, seq, nil
}

// check tells how long the record at the start of b is, or what is wrong with it.
func check(b []byte, seq uint64) (int, error) {
	if len(b) < headerSize+2 {
		return 0, errors.New("a record is not whole")
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	switch {
	case n < 2 || n > MaxRecord:
		return 0, fmt.Errorf("a record of %d bytes", n)
	case binary.LittleEndian.Uint64(b[8:]) != seq:
		return 0, fmt.Errorf("record %d where %d should be", binary.LittleEndian.Uint64(b[8:]), seq)
	case uint64(len(b)) < headerSize+n:
		return 0, errors.New("a record is not whole")
	case checksum(b[:headerSize+n]) != binary.LittleEndian.Uint32(b[4:]):
		return 0, errors.New("a record has the wrong checksum")
	}
	return int(headerSize + n), nil
}

// resumes looks for a whole record behind a place that is none: with one, that place is no tail. -1:
// there is none.
func resumes(data []byte, at int, seq uint64) int {
	for i := at + 1; i+headerSize+2 <= len(data); i++ {
		n := binary.LittleEndian.Uint64(data[i+8:])
		if n < seq || n > seq+uint64(len(data)-at)/(headerSize+2) {
			continue
		}
		if _, err := check(data[i:], n); err == nil {
			return i
		}
	}
	return -1
}
