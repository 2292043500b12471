package work

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Poll reads many connections of this machine on one goroutine. A frame that comes at rest then wakes one thread,
// which reads it and does what it asks for. Go's own poller wakes a second one, to look for more, and a goroutine for
// each connection; between idle processors that is most of what a round trip costs.
type Poll struct {
	after func()
	fd    int // of epoll
	bell  int // an eventfd: it is to end
	ended chan struct{}

	chain chain

	mu    sync.Mutex
	conns map[int32]*Conn // by descriptor
}

// NewPoll starts one. after is called each time when all connections that had something have been read once, on the
// Poll's goroutine, and on that of a connection that it can't read.
func NewPoll(after func()) (*Poll, error) {
	p := &Poll{after: after, fd: -1, bell: -1, ended: make(chan struct{}), conns: map[int32]*Conn{}}
	var err error
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
			err = unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, p.bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.bell)})
		}
	}
	if err != nil {
		p.free()
		return nil, fmt.Errorf("work: poll: %w", err)
	}
	go p.run()
	return p, nil
}

// Close ends it, and waits for that. Its connections have ended.
func (p *Poll) Close() {
	_, _ = unix.Write(p.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-p.ended
	p.free()
}

func (p *Poll) free() {
	for _, fd := range []int{p.fd, p.bell} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (p *Poll) run() {
	defer close(p.ended)
	events := make([]unix.EpollEvent, 64)
	ready := make([]*Conn, len(events))
	defer p.chain.release()
	for {
		began := time.Now()
		n, err := unix.EpollWait(p.fd, events, p.chain.timeout())
		if err == unix.EINTR {
			continue
		}
		if err != nil { // no descriptor of ours is bad but by a fault of ours
			panic("work: poll: " + os.NewSyscallError("epoll_wait", err).Error())
		}
		p.mu.Lock()
		for i := range n {
			ready[i] = p.conns[events[i].Fd]
		}
		p.mu.Unlock()
		var alone *Conn
		if n == 1 {
			alone = ready[0]
		}
		p.chain.heard(alone, time.Since(began))
		for i := range n {
			if int(events[i].Fd) == p.bell {
				return
			}
			if ready[i] != nil { // else it has just ended
				ready[i].ready()
				ready[i] = nil
			}
		}
		p.after()
	}
}

// join has the connection read here. It is over if that fails.
func (p *Poll) join(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[int32(c.polled.fd)] = c
	return p.watchLocked(c.polled, unix.EPOLLIN, true)
}

// leave ends that: no step begins from here on, and none is under way.
func (p *Poll) leave(c *Conn) {
	p.mu.Lock()
	_ = p.watchLocked(c.polled, unix.EPOLLIN|unix.EPOLLOUT, false)
	delete(p.conns, int32(c.polled.fd))
	p.mu.Unlock()
	c.stepping.Lock()
	c.left = true
	c.stepping.Unlock()
}

// watch waits for that of a socket (EPOLLIN, EPOLLOUT), or does not any more. A socket that nothing is wanted of is not
// looked at: that its peer has gone would be told again and again.
func (p *Poll) watch(s *polled, what uint32, on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[int32(s.fd)]; c == nil || c.polled != s { // it has left, and its number may be another's
		return nil
	}
	return p.watchLocked(s, what, on)
}

func (p *Poll) watchLocked(s *polled, what uint32, on bool) error {
	before := s.watched
	if s.watched = before &^ what; on {
		s.watched = before | what
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case s.watched == before:
		return nil
	case before == 0:
		op = unix.EPOLL_CTL_ADD
	case s.watched == 0:
		op = unix.EPOLL_CTL_DEL
	}
	return unix.EpollCtl(p.fd, op, s.fd, &unix.EpollEvent{Events: s.watched, Fd: int32(s.fd)})
}

// watches tells what is waited for.
func (p *Poll) watches(s *polled) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.watched
}

// ready is called when its socket is: on the goroutine of its Poll.
func (c *Conn) ready() {
	watched := c.polled.poll.watches(c.polled)
	if watched&unix.EPOLLOUT != 0 { // whoever writes looks for himself
		_ = c.polled.poll.watch(c.polled, unix.EPOLLOUT, false)
		select {
		case c.polled.room <- struct{}{}:
		default:
		}
	}
	if watched&unix.EPOLLIN == 0 {
		return
	}
	c.stepping.Lock()
	defer c.stepping.Unlock()
	if c.left || (!c.in.has(false) && !c.park()) {
		return
	}
	if err := c.in.step(); err != nil && err != errAgain {
		_ = c.polled.poll.watch(c.polled, unix.EPOLLIN, false) // it would tell of that until it has left
		c.fail(err)
	}
}

// park stops reading until the owner has released a buffer. true: it just has.
func (c *Conn) park() bool {
	_ = c.polled.poll.watch(c.polled, unix.EPOLLIN, false)
	c.parked.Store(true)
	if !c.in.has(false) {
		return false
	}
	c.unpark()
	return true
}

func (c *Conn) unpark() {
	if !c.parked.CompareAndSwap(true, false) {
		return
	}
	if err := c.polled.poll.watch(c.polled, unix.EPOLLIN, true); err != nil {
		c.fail(wrap("poll", err))
	}
}
