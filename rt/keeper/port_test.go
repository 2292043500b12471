package keeper_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func (l *link) hold(number uint32, free bool) *fb.PortHeldT {
	l.n.t.Helper()
	l.send(&fb.PortHoldT{Group: group, Incarnation: number, Free: free})
	return l.recv("PortHeld").m.(*fb.PortHeldT)
}

// KEEP-5, with two keepers that draw from a range that is just large enough.
func TestHeldPortsAreDistinct(t *testing.T) {
	const holds = 200
	narrow := func(d *bootdoc.Doc) { d.PortRange = [2]int{21000, 21000 + 2*holds + 9} }
	var nodes [2]*node
	var agents [2]*link
	for i := range nodes {
		nodes[i] = boot(t, setup{doc: narrow})
		agents[i] = nodes[i].agent()
	}
	got := make([][]*fb.PortHeldT, 2)
	var wait sync.WaitGroup
	for i, a := range agents {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for number := range uint32(holds) {
				if err := a.conn.Send(&fb.PortHoldT{Group: group, Incarnation: number}, 0, nil); err != nil {
					t.Error(err)
					return
				}
			}
			for range holds {
				m, ok := <-a.other
				if !ok {
					t.Error("connection closed")
					return
				}
				got[i] = append(got[i], m.m.(*fb.PortHeldT))
			}
		}()
	}
	wait.Wait()
	taken := make(map[uint16]bool)
	for _, list := range got {
		for _, h := range list {
			if h.Error != "" || h.Port < 21000 || taken[h.Port] {
				t.Fatalf("held %+v, taken before: %v", h, taken[h.Port])
			}
			taken[h.Port] = true
		}
	}
	if len(taken) != 2*holds {
		t.Errorf("%d ports held", len(taken))
	}
	for _, a := range agents {
		a.stop()
	}
}

func TestHeldPort(t *testing.T) {
	t.Parallel()
	python := needPython(t)
	n := boot(t, setup{})
	a := n.agent()
	held := a.hold(0, false)
	if held.Error != "" {
		t.Fatal(held.Error)
	}
	var low, high int
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if _, serr := fmt.Sscan(string(data), &low, &high); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	if p := int(held.Port); p < 1024 || (p >= low && p <= high) {
		t.Errorf("port %d is ephemeral (%d-%d) or privileged", p, low, high)
	}
	if again := a.hold(0, false); again.Port != held.Port {
		t.Errorf("asked again it is %d, not %d", again.Port, held.Port)
	}
	listen := func(option bool, family string, address string) (string, error) {
		script := fmt.Sprintf(`
import socket
s = socket.socket(socket.%s)
if %s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((%q, %d)); s.listen(5)
c = socket.create_connection(("127.0.0.1", %d)); s.accept()
print("listening")`, family, map[bool]string{true: "True", false: "False"}[option], address, held.Port, held.Port)
		out, err := exec.Command(python, "-c", script).CombinedOutput()
		return string(out), err
	}
	for _, where := range [][2]string{{"AF_INET", "0.0.0.0"}, {"AF_INET", "127.0.0.1"}, {"AF_INET6", "::"}} {
		if out, err := listen(true, where[0], where[1]); err != nil || !strings.Contains(out, "listening") {
			t.Errorf("a program with SO_REUSEADDR on %s: %v: %s", where[1], err, out)
		}
		if out, err := listen(false, where[0], where[1]); err == nil || !strings.Contains(out, "Address already in use") {
			t.Errorf("a program without SO_REUSEADDR on %s: %v: %s", where[1], err, out)
		}
	}
	a.send(&fb.PortReleaseT{Group: group})
	free := a.hold(1, true)
	if free.Error != "" || free.Port == 0 {
		t.Errorf("free port: %+v", free)
	}
	for _, port := range []uint16{held.Port, free.Port} { // released, and not kept
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			t.Errorf("port %d: %v", port, err)
			continue
		}
		l.Close()
	}
	a.stop()
}

func TestPortsExhausted(t *testing.T) {
	n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.PortRange = [2]int{21990, 21992} }})
	a := n.agent() // one is the node's own
	if p := a.config.ListenPort; p < 21990 || p > 21992 {
		t.Errorf("the node's port is %d", p)
	}
	for number := range uint32(2) {
		if h := a.hold(number, false); h.Error != "" {
			t.Fatal(h.Error)
		}
	}
	if h := a.hold(2, false); !strings.Contains(h.Error, "none of the 3 ports 21990-21992 is free") || h.Port != 0 {
		t.Errorf("held %+v", h)
	}
	// A second node that has no port left says so.
	second := boot(t, setup{doc: func(d *bootdoc.Doc) { d.PortRange = [2]int{21990, 21992} }})
	if ev := second.event("error"); ev["code"] != "PORT" || !strings.Contains(ev["text"].(string), "21990-21992") {
		t.Errorf("error: %v", ev)
	}
	second.ended(73)
	a.stop()
}

// The node's own port is taken as exclusively as a held one: it can't land on another keeper's.
func TestListenerDoesNotTakeHeldPort(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 21980}); err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	n := boot(t, setup{doc: func(d *bootdoc.Doc) { d.PortRange = [2]int{21980, 21980} }})
	if ev := n.event("error"); ev["code"] != "PORT" {
		t.Errorf("error: %v", ev)
	}
	n.ended(73)
}
