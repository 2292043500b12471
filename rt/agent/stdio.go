package agent

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
)

// stdio is a program's ends of pipes (or its terminal), and the goroutines on them: one pump per stream,
// which reads when the core permits it, and one feeder for input. They end when stop closes their
// files; wait counts them. The loop owns all but what runs in those goroutines.
type stdio struct {
	key     Key
	spool   *spool
	dir     string
	out     [2]*pump
	in      *feeder
	wait    sync.WaitGroup
	written uint64
	sink    *Remember
	lost    func(error) // told when the spool is; nil: nobody is
}

// pump is the reader of one stream.
type pump struct {
	file    *os.File
	permits chan ReadMore // capacity 1: the core has one out at a time
	closed  bool          // by the loop
}

func (p *pump) close() {
	if !p.closed {
		p.closed = true
		_ = p.file.Close()
		close(p.permits)
	}
}

// A stream that trickles is read in gulps: after a small read the next one waits for company.
const (
	smallRead = 2 << 10
	gulpWait  = time.Millisecond
)

// poster takes an event to the loop; false: the loop is over.
type poster func(Event) bool

// newStdio starts the goroutines on the descriptors that came with the first ProgramState.
func newStdio(k Key, s *spool, dir string, stdin bool, pty bool, files []*os.File, post poster) *stdio {
	d := &stdio{key: k, spool: s, dir: dir}
	s.touch(func() { d.written = s.at(wordInput).Load() })
	var in *os.File
	switch {
	case pty && len(files) == 1:
		in, files = files[0], files[:1]
	case stdin && len(files) == 3:
		in, files = files[0], files[1:]
	}
	for i := range d.out {
		if i >= len(files) {
			break
		}
		p := &pump{file: files[i], permits: make(chan ReadMore, 1)}
		d.out[i] = p
		d.wait.Add(1)
		go func() {
			defer d.wait.Done()
			d.read(p, i, pty, post)
		}()
	}
	if in != nil {
		d.in = &feeder{file: in, terminal: pty, work: make(chan []byte, 1)}
		d.wait.Add(1)
		go func() {
			defer d.wait.Done()
			d.in.run(k, post)
		}()
	}
	return d
}

// permit lets a stream's pump read; a stream that is not there is at its end.
func (d *stdio) permit(r ReadMore, post poster) {
	p := d.out[r.Stream-1]
	if p == nil {
		post(OutputEOF{Key: r.Key, Stream: r.Stream})
		return
	}
	if d.spool == nil {
		d.spool, _ = makeSpool(d.dir, d.key, r.Window) // without one output is lost with this agent, not now
		if d.sink != nil {
			d.spool.remember(*d.sink)
		}
	}
	d.spool.lost = d.lost
	d.spool.start(int(r.Stream)-1, r.Offset)
	if !p.closed {
		p.permits <- r
	}
}

func (d *stdio) read(p *pump, i int, pty bool, post poster) {
	defer p.file.Close()
	var wait *time.Timer
	for r := range p.permits {
		data, err := d.readOnce(p.file, i, pty, r)
		if len(data) > 0 {
			if !post(Output{Key: d.key, Stream: r.Stream, Data: data}) {
				return
			}
			if len(data) < smallRead && err == nil {
				if wait == nil {
					wait = time.NewTimer(gulpWait)
				} else {
					wait.Reset(gulpWait)
				}
				<-wait.C
			}
		}
		if err != nil {
			post(OutputEOF{Key: d.key, Stream: r.Stream})
			return
		}
	}
}

// readOnce waits for output and takes what there is, through the spool if there is one.
func (d *stdio) readOnce(f *os.File, i int, pty bool, r ReadMore) (data []byte, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf := []byte(nil)
	offset := r.Offset
	rerr := conn.Read(func(fd uintptr) bool {
		n, e := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		if e != nil || n <= 0 { // nothing, or the end
			var poll = []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(poll, 0)
			if poll[0].Revents == 0 {
				return false
			}
			if poll[0].Revents&unix.POLLIN == 0 || e != nil {
				err = io.EOF
				return true
			}
			n = 1 // came between the two calls
		}
		n = min(n, r.Max)
		buf = make([]byte, n)
		for done := 0; done < n; {
			var place []byte
			kept := !pty && d.spool.touch(func() {
				place = d.spool.place(i, offset, n-done)
				d.spool.begin(i, place)
			})
			if !kept {
				place = buf[done:]
			}
			m, e := ignoreEINTR(int(fd), place)
			if e == unix.EFAULT && kept { // nothing was read
				d.spool.lose(mapped.ErrCut)
				continue
			}
			if m > 0 && kept && !d.spool.touch(func() { copy(buf[done:], place[:m]) }) { // what was read went with the file
				continue
			}
			if m > 0 {
				done += m
				offset += uint64(m)
			}
			if kept {
				d.spool.touch(func() { d.spool.done(i, offset) })
			}
			if e == unix.EAGAIN && done == 0 {
				return false
			}
			if m <= 0 {
				buf = buf[:done]
				if e != unix.EAGAIN {
					err = io.EOF
				}
				return true
			}
			if m < len(place) {
				buf = buf[:done]
				return true
			}
		}
		return true
	})
	if rerr != nil && err == nil {
		err = rerr
	}
	if pty && len(buf) > 0 {
		d.spool.touch(func() { d.spool.keep(i, r.Offset, buf) })
	}
	return buf, err
}

// keep books bytes that were read without an intent.
func (s *spool) keep(stream int, offset uint64, data []byte) {
	for len(data) > 0 {
		n := copy(s.place(stream, offset, len(data)), data)
		data, offset = data[n:], offset+uint64(n)
	}
	s.done(stream, offset)
}

func ignoreEINTR(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// closeStream closes a stream that nobody wants any more.
func (d *stdio) closeStream(stream uint8) {
	if p := d.out[stream-1]; p != nil {
		p.close()
	}
}

// stop ends the goroutines; the last of them lets go of the spool, whose file goes too with forget.
func (d *stdio) stop(forget bool, owner *sync.WaitGroup) {
	for _, p := range d.out {
		if p != nil {
			p.close()
		}
	}
	if d.in != nil {
		d.in.close()
	}
	owner.Add(1)
	go func() {
		defer owner.Done()
		d.wait.Wait()
		d.spool.close(forget)
	}()
}

// feeder writes input.
type feeder struct {
	file     *os.File
	terminal bool // shared with a pump; not ended by closing it
	work     chan []byte
	closed   bool // by the loop
}

func (f *feeder) run(k Key, post poster) {
	for data := range f.work {
		n, err := f.file.Write(data)
		if !post(InputWritten{Key: k, N: n, Gone: err != nil}) {
			return
		}
	}
}

// end says to the program that no input follows.
func (f *feeder) end() {
	switch {
	case f.closed:
	case f.terminal:
		f.work <- []byte{endOfFile}
	default:
		f.close()
	}
}

// close also ends a write that waits.
func (f *feeder) close() {
	if !f.closed {
		f.closed = true
		close(f.work)
		if !f.terminal {
			_ = f.file.Close()
		}
	}
}

// endOfFile is what ends input on a terminal.
const endOfFile = 4
