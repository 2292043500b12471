package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
)

// spool keeps a program's unacknowledged output where a crash of the agent does not reach it: in a file
// that is mapped, so that what is written is with the kernel at once and costs no call.
//
//	page of words: magic, size of a ring, bytes of input written, the sink, its process, ranks in all,
//	               per stream: first offset, offset read to, offset acknowledged, intent
//	ring of stdout: the byte with offset o lies at (o - first) % size
//	ring of stderr
//
// A read from the pipe takes bytes that no other read gets again, so the agent may not die between it
// and its entry. Before a read, the place is filled with a pattern and its length written as the intent;
// a new agent that finds an intent and anything but the pattern knows that the read was done.
//
// One pump goroutine per stream writes its ring and words; acknowledgements and input come from the loop. Somebody else
// may cut the file short: then nothing survives from there on, and lost is told once.
type spool struct {
	path string
	data []byte // nil: no file could be had; nothing survives
	size int
	cut  atomic.Bool
	lost func(error)
}

// touch runs fn on what is mapped. False: there is no such file, or not any more.
func (s *spool) touch(fn func()) bool {
	if s == nil || s.data == nil || s.cut.Load() {
		return false
	}
	err := mapped.Touch(fn)
	if err != nil {
		s.lose(err)
	}
	return err == nil
}

// lose gives the file up.
func (s *spool) lose(err error) {
	if s.cut.CompareAndSwap(false, true) && s.lost != nil {
		s.lost(fmt.Errorf("agent: spool %s: %w", s.path, err))
	}
}

const (
	spoolMagic  = 0x314c4f4f50534e4d // "MNSPOOL1"
	spoolPage   = 4096
	spoolTail   = 2 * tailBytes // kept behind the window, for the tail of the next agent
	wordMagic   = 0
	wordSize    = 1
	wordInput   = 2
	wordSink    = 3 // sinkKnown | agent
	wordProcess = 4
	wordWorld   = 5
	sinkKnown   = 1 << 63
	wordStreams = 8
	perStream   = 8
	wordFirst   = 0
	wordRead    = 1
	wordAcked   = 2
	wordIntent  = 3
)

// spoolPattern is no text: a byte that UTF-8 never has, beside one that it has only behind others.
var spoolPattern = [8]byte{0xff, 0x80, 0xff, 0x81, 0xfe, 0x82, 0xff, 0x83}

func spoolPath(dir string, k Key) string {
	return filepath.Join(dir, fmt.Sprintf("spool-%s-%d-%d", k.Group, k.Incarnation, k.Rank))
}

// makeSpool makes the file for a new program. Errors leave a spool that keeps nothing.
func makeSpool(dir string, k Key, window int) (*spool, error) {
	s := &spool{path: spoolPath(dir, k)}
	size := (window + spoolTail + spoolPage - 1) / spoolPage * spoolPage
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return s, fmt.Errorf("agent: spool: %w", err)
	}
	defer f.Close()
	// Room is taken now: a page that the disk has no room for would end the agent with SIGBUS.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(spoolPage+2*size)); err != nil {
		_ = os.Remove(s.path)
		return s, fmt.Errorf("agent: spool %s: %w", s.path, err)
	}
	if err := s.mapFile(f, size); err != nil {
		return s, err
	}
	s.touch(func() {
		for i := range 2 {
			base := OffsetBase(k.Incarnation)
			s.word(i, wordFirst).Store(base)
			s.word(i, wordRead).Store(base)
			s.word(i, wordAcked).Store(base)
		}
		s.at(wordSize).Store(uint64(size))
		s.at(wordMagic).Store(spoolMagic)
	})
	return s, nil
}

// openSpool opens what the agent before this one left.
func openSpool(dir string, k Key) (*spool, error) {
	s := &spool{path: spoolPath(dir, k)}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return s, fmt.Errorf("agent: spool: %w", err)
	}
	defer f.Close()
	var head [16]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return s, fmt.Errorf("agent: spool %s: %w", s.path, err)
	}
	info, err := f.Stat()
	size := binary.NativeEndian.Uint64(head[8:])
	if err != nil || binary.NativeEndian.Uint64(head[:]) != spoolMagic || size == 0 || size > 1<<30 || info.Size() != int64(spoolPage+2*size) {
		return s, errors.Join(fmt.Errorf("agent: spool %s: not finished by whoever made it", s.path), err)
	}
	if err := s.mapFile(f, int(size)); err != nil {
		return s, err
	}
	if !s.touch(func() { s.settle(0); s.settle(1) }) {
		return s, fmt.Errorf("agent: spool %s: %w", s.path, mapped.ErrCut)
	}
	return s, nil
}

func (s *spool) mapFile(f *os.File, size int) error {
	data, err := unix.Mmap(int(f.Fd()), 0, spoolPage+2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("agent: spool %s: %w", s.path, err)
	}
	s.data, s.size = data, size
	return nil
}

func (s *spool) at(word int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&s.data[8*word]))
}

func (s *spool) word(stream, word int) *atomic.Uint64 {
	return s.at(wordStreams + perStream*stream + word)
}

func (s *spool) ring(stream int) []byte {
	return s.data[spoolPage+stream*s.size:][:s.size]
}

// place is where the bytes from offset on go, as much of it as lies in one piece.
func (s *spool) place(stream int, offset uint64, most int) []byte {
	at := int((offset - s.word(stream, wordFirst).Load()) % uint64(s.size))
	return s.ring(stream)[at:min(at+most, s.size)]
}

// begin prepares a read of len(place) bytes, done books it. Like all that follows they are for within touch.
func (s *spool) begin(stream int, place []byte) {
	for i := range place {
		place[i] = spoolPattern[i%len(spoolPattern)]
	}
	s.word(stream, wordIntent).Store(uint64(len(place)))
}

func (s *spool) done(stream int, offset uint64) {
	s.word(stream, wordRead).Store(offset)
	s.word(stream, wordIntent).Store(0)
}

// start sets the first offset, before anything is read: lines of our own may come before.
func (s *spool) start(stream int, offset uint64) {
	s.touch(func() {
		if s.word(stream, wordRead).Load() == s.word(stream, wordFirst).Load() {
			s.word(stream, wordFirst).Store(offset)
			s.word(stream, wordRead).Store(offset)
			s.word(stream, wordAcked).Store(offset)
		}
	})
}

func (s *spool) acked(stream int, offset uint64) {
	s.touch(func() { s.word(stream, wordAcked).Store(offset) })
}

func (s *spool) input(written uint64) {
	s.touch(func() { s.at(wordInput).Store(written) })
}

func (s *spool) remember(r Remember) {
	s.touch(func() {
		s.at(wordProcess).Store(uint64(r.Process))
		s.at(wordWorld).Store(uint64(r.World))
		s.at(wordSink).Store(sinkKnown | uint64(r.Agent))
	})
}

// settle decides whether the read that the dead agent was at took place.
func (s *spool) settle(stream int) {
	n, read := s.word(stream, wordIntent).Load(), s.word(stream, wordRead).Load()
	if n == 0 || n > uint64(s.size) {
		return
	}
	place := s.place(stream, read, int(n))
	for i, b := range place {
		if b != spoolPattern[i%len(spoolPattern)] {
			read += n
			break
		}
	}
	s.done(stream, read)
}

// restored is what a new agent has to know about a stream.
func (s *spool) restored(k Key, stream int) Restored {
	first, read, acked := s.word(stream, wordFirst).Load(), s.word(stream, wordRead).Load(), s.word(stream, wordAcked).Load()
	if acked < first || acked > read || read-acked > uint64(s.size) {
		acked = read // nobody wrote this: trust the end only
	}
	from := max(first, read-min(read-first, uint64(s.size)), acked-min(acked-first, tailBytes))
	return Restored{
		Key: k, Stream: uint8(stream) + 1, Offset: acked, Data: s.copy(stream, acked, read),
		Tail: s.copy(stream, from, acked), Input: s.at(wordInput).Load(),
		Known: s.at(wordSink).Load()&sinkKnown != 0,
		Sink:  Remember{Key: k, Agent: uint32(s.at(wordSink).Load()), Process: uint32(s.at(wordProcess).Load()), World: int(s.at(wordWorld).Load())},
	}
}

func (s *spool) copy(stream int, from, to uint64) []byte {
	var out []byte
	for from < to {
		piece := s.place(stream, from, int(to-from))
		out = append(out, piece...)
		from += uint64(len(piece))
	}
	return out
}

// close unmaps the file; remove: and deletes it.
func (s *spool) close(remove bool) {
	if s == nil {
		return
	}
	if s.data != nil {
		_ = unix.Munmap(s.data)
		s.data = nil
	}
	if remove {
		_ = os.Remove(s.path)
	}
}
