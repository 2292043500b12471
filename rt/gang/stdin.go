package gang

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// inputWindow is how many bytes of input may be on their way to the program; readInput is one read.
const (
	inputWindow = 256 << 10
	readInput   = 32 << 10
)

// stdin is the user's input on its way to the program. The run's loop owns it, but for the goroutine
// that reads: it reads only while there is room, and a file only once it has something, so that what
// it does not take stays for whoever comes after us. close ends it; behind a reader that is no file
// it ends with that reader's next answer.
type stdin struct {
	chunks chan []byte   // nil chunk: the end
	room   chan struct{} // capacity 1: a permit for one read
	quit   chan struct{}
	wake   *os.File // makes the poll return
	wait   sync.WaitGroup

	queue [][]byte // not acknowledged; the first begins at base
	base  uint64
	next  int    // index in queue of the first that was not sent
	at    uint64 // its offset
	held  int    // bytes in queue
	eof   bool   // all was read
	told  bool   // and the program's agent was told so
	wants bool   // a permit is out
}

// newStdin starts to read r; nil: there is no input, but perhaps a terminal's size.
func newStdin(r io.Reader) *stdin {
	s := &stdin{chunks: make(chan []byte), room: make(chan struct{}, 1), quit: make(chan struct{})}
	if r == nil {
		s.eof = true
		return s
	}
	s.wants = true
	s.room <- struct{}{}
	f := fileReader(r)
	var woken *os.File
	if f != nil {
		var err error
		if woken, s.wake, err = os.Pipe(); err != nil {
			f = nil
		}
	}
	if f != nil {
		s.wait.Add(1)
		go func() {
			defer s.wait.Done()
			defer woken.Close()
			s.read(r, func() bool { return readable(f, woken) })
		}()
		return s
	}
	go s.read(r, func() bool { return true })
	return s
}

func fileReader(r io.Reader) *os.File {
	f, _ := r.(*os.File)
	return f
}

// readable waits until f has something (or its end); false: it is not wanted any more.
func readable(f, woken *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(woken.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return true // a file that can't be polled is read
		case fds[1].Revents != 0:
			return false
		case fds[0].Revents != 0:
			return true
		}
	}
}

func (s *stdin) read(r io.Reader, ready func() bool) {
	for {
		select {
		case <-s.room:
		case <-s.quit:
			return
		}
		if !ready() {
			return
		}
		buf := make([]byte, readInput)
		n, err := r.Read(buf)
		if n > 0 && !s.hand(buf[:n]) {
			return
		}
		if err != nil {
			s.hand(nil)
			return
		}
		if n == 0 && !s.hand([]byte{}) {
			return
		}
	}
}

func (s *stdin) hand(data []byte) bool {
	select {
	case s.chunks <- data:
		return true
	case <-s.quit:
		return false
	}
}

// data is where input comes from.
func (s *stdin) data() <-chan []byte {
	if s == nil {
		return nil
	}
	return s.chunks
}

// take takes in one chunk.
func (s *stdin) take(data []byte) {
	s.wants = false
	if data == nil {
		s.eof = true
		return
	}
	if len(data) > 0 {
		s.queue = append(s.queue, data)
		s.held += len(data)
	}
	s.permit()
}

func (s *stdin) permit() {
	if !s.wants && !s.eof && s.held+readInput <= inputWindow {
		s.wants = true
		s.room <- struct{}{}
	}
}

// send gives what was not sent to f, which may decline.
func (s *stdin) send(f func(offset uint64, data []byte, eof bool) bool) {
	for s.next < len(s.queue) {
		data := s.queue[s.next]
		if !f(s.at, data, false) {
			return
		}
		s.at += uint64(len(data))
		s.next++
	}
	if s.eof && !s.told && f(s.at, nil, true) {
		s.told = true
	}
}

// sent is the offset behind what was sent.
func (s *stdin) sent() uint64 { return s.at }

// acked: the program took everything before offset.
func (s *stdin) acked(offset uint64) {
	for len(s.queue) > 0 && s.next > 0 && s.base+uint64(len(s.queue[0])) <= offset {
		s.base += uint64(len(s.queue[0]))
		s.held -= len(s.queue[0])
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.next--
	}
	s.permit()
}

// resend sends again what was not acknowledged: some of it may have been lost on the way.
func (s *stdin) resend() {
	if s != nil {
		s.next, s.at, s.told = 0, s.base, false
	}
}

// restart begins anew for the gang's next incarnation, with what the one before did not take.
func (s *stdin) restart() {
	if s != nil {
		s.base, s.next, s.at, s.told = 0, 0, 0, false
	}
}

func (s *stdin) close() {
	close(s.quit)
	if s.wake != nil {
		_ = s.wake.Close()
	}
	s.wait.Wait()
}
