package keeper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// hold is a bound port that nobody listens on.
type hold struct {
	port int
	fd   int
}

// portHold answers a request for a port for an incarnation's rank 0.
func (k *keeper) portHold(m *fb.PortHoldT) *fb.PortHeldT {
	held := &fb.PortHeldT{Group: m.Group, Incarnation: m.Incarnation}
	of := incarnation{*m.Group, m.Incarnation}
	if h, ok := k.held[of]; ok && !m.Free {
		held.Port = uint16(h.port)
		return held
	}
	if len(k.held) >= maxHeld {
		held.Error = fmt.Sprintf("keeper: %d ports are held on %s already; the bound is %d", len(k.held), k.name, maxHeld)
		return held
	}
	low, high := portRange(k.doc.PortRange, ephemeral())
	fd, port, err := bindAny(low, high, false)
	if err == nil && !m.Free {
		// Only now: a second keeper's bind fails whatever it sets, a program's with this option succeeds.
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			k.held[of] = &hold{port, fd}
			held.Port = uint16(port)
			return held
		}
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	if err != nil {
		held.Error = "keeper: hold a port on " + k.name + ": " + err.Error()
		return held
	}
	held.Port = uint16(port)
	return held
}

func (k *keeper) portRelease(of incarnation) {
	if h, ok := k.held[of]; ok {
		unix.Close(h.fd)
		delete(k.held, of)
	}
}

// ephemeral is the range from which the kernel gives ports to connections.
func ephemeral() (r [2]int) {
	r = [2]int{32768, 60999}
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if fields := strings.Fields(string(data)); err == nil && len(fields) == 2 {
		low, err1 := strconv.Atoi(fields[0])
		high, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			r = [2]int{low, high}
		}
	}
	return r
}

// portRange is where held ports come from: as the document says, else outside the ephemeral range, where
// no connection takes one between two incarnations; on a site that made everything ephemeral, within.
func portRange(asked, ephemeral [2]int) (low, high int) {
	const usual, enough = 20000, 1000
	switch {
	case asked != [2]int{}:
		return asked[0], asked[1]
	case ephemeral[0]-usual >= enough:
		return usual, ephemeral[0] - 1
	case 65535-ephemeral[1] >= enough:
		return ephemeral[1] + 1, 65535
	case ephemeral[0]-1024 >= enough:
		return 1024, ephemeral[0] - 1
	}
	return usual, 32767
}

// bindAny binds the first free port of a range, from a random start. low 0: any port, as the kernel likes.
func bindAny(low, high int, loopback bool) (fd, port int, err error) {
	if low == 0 {
		return bind(0, loopback)
	}
	n := high - low + 1
	start := rand.IntN(n)
	for i := range n {
		port = low + (start+i)%n
		fd, _, err = bind(port, loopback)
		if err == nil {
			return fd, port, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EACCES) {
			return -1, 0, err
		}
	}
	return -1, 0, fmt.Errorf("none of the %d ports %d-%d is free (the last: %w); widen the range of ports", n, low, high, err)
}

// bind makes a TCP socket bound to port on all addresses, or on 127.0.0.1, without SO_REUSEADDR: it
// fails if any other socket is bound there, listening or not.
func bind(port int, loopback bool) (fd, bound int, err error) {
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	family := unix.AF_INET
	if !loopback {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err == nil {
		err = unix.Bind(fd, to)
	}
	if family == unix.AF_INET6 && (err == unix.EAFNOSUPPORT || err == unix.EADDRNOTAVAIL || err == unix.ENOPROTOOPT) {
		if fd >= 0 {
			unix.Close(fd)
		}
		to = &unix.SockaddrInet4{Port: port}
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Bind(fd, to)
		}
	}
	if err == nil {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			switch sa := sa.(type) {
			case *unix.SockaddrInet4:
				return fd, sa.Port, nil
			case *unix.SockaddrInet6:
				return fd, sa.Port, nil
			}
			err = errors.New("the kernel gave an address of no internet family")
		}
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	if err == unix.EMFILE || err == unix.ENFILE {
		err = fmt.Errorf("%w: raise ulimit -n", err)
	}
	return -1, 0, fmt.Errorf("bind port %d: %w", port, err)
}
