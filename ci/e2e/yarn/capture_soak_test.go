//go:build e2e && soak

package yarn

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// capture is all that goes over a testbed's network: between its namespaces, and between the daemons on its bridge.
type capture struct {
	t       *testing.T
	sockets []int
	stop    [2]int // a pipe
	running sync.WaitGroup

	mu     sync.Mutex
	flows  map[flow][]segment
	begun  map[flow]int // connections between two ports
	others [][]byte     // what is not TCP
	bytes  int
}

// flow is one direction of a connection, the nth between two ports.
type flow struct {
	from, to netip.AddrPort
	nth      int
}

// segment is a part of it.
type segment struct {
	at   uint32 // TCP's number of its first byte
	data []byte
}

// captures begins to listen on interfaces to what goes to or comes from addresses of net (a /24).
func captures(t *testing.T, net netip.Addr, interfaces ...int) *capture {
	t.Helper()
	c := &capture{t: t, flows: map[flow][]segment{}, begun: map[flow]int{}}
	if err := unix.Pipe2(c.stop[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, index := range interfaces {
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // hears nothing yet
		if err != nil {
			t.Fatal(err)
		}
		c.sockets = append(c.sockets, s)
		a := net.As4()
		of := binary.BigEndian.Uint32(a[:]) & 0xffffff00
		program := []unix.SockFilter{ // of those whose source, else whose destination is in the network all
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xffffff00},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: of, Jt: 3},
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xffffff00},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: of, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
			{Code: unix.BPF_RET | unix.BPF_K},
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}) // a socket for one protocol is not shown what goes out
		if err := errors.Join(
			unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
			unix.SetsockoptSockFprog(s, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}),
			unix.SetsockoptPacketMreq(s, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}), // a bridge shows what it hands on
			unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
		); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c.sockets {
		c.running.Go(func() { c.listen(s) })
	}
	t.Cleanup(func() { c.end() })
	return c
}

// ip is IPv4's number, as the kernel writes it.
var ip = binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff})

// listen takes in what a socket hears until the end.
func (c *capture) listen(s int) {
	buffer := make([]byte, 256<<10) // packets are not cut to the network's size yet
	for {
		n, from, err := unix.Recvfrom(s, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			wait := []unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}, {Fd: int32(c.stop[0]), Events: unix.POLLIN}}
			if _, err := unix.Poll(wait, -1); err != nil && !errors.Is(err, unix.EINTR) {
				c.t.Error(err)
				return
			}
			if wait[1].Revents != 0 && wait[0].Revents == 0 {
				return
			}
			continue
		}
		if err != nil {
			c.t.Error(err)
			return
		}
		at, ok := from.(*unix.SockaddrLinklayer)
		if ok && (at.Pkttype == unix.PACKET_OUTGOING && at.Hatype == unix.ARPHRD_LOOPBACK || at.Protocol != ip) {
			continue // on that interface all comes in, too
		}
		c.take(buffer[:n])
	}
}

// take keeps a packet of IPv4.
func (c *capture) take(p []byte) {
	if len(p) < 20 || len(p) < int(p[0]&15)*4 {
		return
	}
	size := int(binary.BigEndian.Uint16(p[2:]))
	if size == 0 || size > len(p) { // larger than a packet can be
		size = len(p)
	}
	from, _ := netip.AddrFromSlice(p[12:16])
	to, _ := netip.AddrFromSlice(p[16:20])
	body := p[int(p[0]&15)*4 : size]
	c.mu.Lock()
	defer c.mu.Unlock()
	if p[9] != unix.IPPROTO_TCP || len(body) < 20 || len(body) < int(body[12]>>4)*4 {
		c.others = append(c.others, bytes.Clone(body))
		return
	}
	f := flow{from: netip.AddrPortFrom(from, binary.BigEndian.Uint16(body)), to: netip.AddrPortFrom(to, binary.BigEndian.Uint16(body[2:]))}
	if syn := body[13]&2 != 0; syn {
		c.begun[f]++
	}
	f.nth = c.begun[flow{from: f.from, to: f.to}]
	if data := body[int(body[12]>>4)*4:]; len(data) > 0 {
		c.flows[f] = append(c.flows[f], segment{binary.BigEndian.Uint32(body[4:]), bytes.Clone(data)})
		c.bytes += len(data)
	}
}

// end stops listening, and gives what each direction of each connection carried. What was lost on the way to us fails the test.
func (c *capture) end() map[flow][]byte {
	c.t.Helper()
	if c.sockets == nil {
		return nil // for the second time
	}
	unix.Close(c.stop[1])
	c.running.Wait()
	unix.Close(c.stop[0])
	for _, s := range c.sockets {
		lost, err := unix.GetsockoptTpacketStats(s, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil || lost.Drops > 0 {
			c.t.Errorf("%+v %v: packets were not seen", lost, err)
		}
		unix.Close(s)
	}
	c.sockets = nil
	streams := map[flow][]byte{}
	for f, list := range c.flows {
		first := list[0].at
		slices.SortStableFunc(list, func(a, b segment) int { return int(int32(a.at-first)) - int(int32(b.at-first)) }) // under 2 GiB
		next := list[0].at
		var all []byte
		for _, s := range list {
			had := int(int32(next - s.at)) // sent again
			if had < 0 {
				all, had, next = append(all, 0), 0, s.at // nobody saw it
			}
			if had < len(s.data) {
				all = append(all, s.data[had:]...)
				next = s.at + uint32(len(s.data))
			}
		}
		streams[f] = all
	}
	for _, body := range c.others {
		f := flow{}
		streams[f] = append(append(streams[f], body...), 0)
	}
	return streams
}

// writings are how something may be written: as it is, in hexadecimal and in base64, wherever in a longer text that begins.
func writings(b []byte) [][]byte {
	list := [][]byte{b, []byte(hex.EncodeToString(b)), bytes.ToUpper([]byte(hex.EncodeToString(b)))}
	for shift := range 3 {
		for _, by := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := by.EncodeToString(append(make([]byte, shift), b...))
			from, to := (shift*8+5)/6, (shift+len(b))*8/6 // characters that are of it alone
			list = append(list, []byte(text[from:to]))
		}
	}
	return list
}

// carriers lists the connections on which something went that can be read.
func carriers(streams map[flow][]byte, what []byte) (found []flow) {
	for _, form := range writings(what) {
		for f, all := range streams {
			if bytes.Contains(all, form) && !slices.Contains(found, f) {
				found = append(found, f)
			}
		}
	}
	return found
}
