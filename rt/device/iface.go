package device

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Link is a network interface as the kernel has it.
type Link struct {
	Name     string
	Up       bool
	Loopback bool
	Addrs    []netip.Addr
}

// hidden are interfaces that lead to containers, virtual machines and tunnels of this node, not to other nodes.
var hidden = []string{"docker*", "virbr*", "veth*", "br-*", "cni*", "flannel*", "podman*", "lxc*", "lxdbr*", "kube*", "tun*", "tap*"}

// fast are the names that high-speed networks have by custom; they come first.
var fast = []string{"hsn*", "ib*", "bond-ib*", "opa*"}

// Addresses gives host:port under which others reach port of this node, in order of preference.
func Addresses(o Options, port int) ([]string, error) {
	f := Facts{}
	if err := o.machine().detectInterfaces(&f, &o); err != nil {
		return nil, err
	}
	return f.HostPorts(port), nil
}

// detectInterfaces fills Interfaces in order of preference: as the globs say, and no others, even the loopback
// if they name it; else high-speed networks, then the faster, then as the kernel has them, and bridges last.
// Which one really connects, others find out by trying in this order. It is the one rule for addresses.
func (m *machine) detectInterfaces(f *Facts, o *Options) error {
	if o.Loopback { // a cluster on this machine listens on this address and no other
		f.Interfaces = []Interface{{Name: "lo", Addresses: []string{"127.0.0.1"}, NUMA: -1}}
		return nil
	}
	for _, g := range o.Interfaces {
		if _, err := path.Match(g, ""); err != nil {
			return fmt.Errorf("device: interface pattern %q: %w; * and ? stand for any characters and any one", g, err)
		}
	}
	links := o.Links
	if links == nil {
		links = kernelLinks
	}
	all, err := links()
	if err != nil {
		return fmt.Errorf("device: network interfaces: %w", err)
	}
	type choice struct {
		Interface
		rank int
	}
	var list []choice
	var seen []string
	for _, l := range all {
		c := choice{Interface: Interface{Name: l.Name, NUMA: int(m.number(path.Join("sys/class/net", l.Name, "device/numa_node"))), Speed: int(max(m.number(path.Join("sys/class/net", l.Name, "speed")), 0))}}
		named := match(o.Interfaces, l.Name)
		for _, a := range l.Addrs {
			if a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsLoopback() && named < 0 {
				continue
			}
			c.Addresses = append(c.Addresses, a.String())
		}
		if !l.Up || len(c.Addresses) == 0 || l.Loopback && named < 0 {
			continue
		}
		seen = append(seen, l.Name)
		switch {
		case len(o.Interfaces) > 0:
			if c.rank = named; named < 0 {
				continue
			}
		case match(hidden, l.Name) >= 0:
			continue
		case m.exists(path.Join("sys/class/net", l.Name, "bridge")):
			c.rank = 2
		case match(fast, l.Name) < 0:
			c.rank = 1
		}
		// IPv4 first: on a cluster it is the one that is set up.
		slices.SortStableFunc(c.Addresses, func(a, b string) int {
			return cmp.Compare(min(strings.Count(a, ":"), 1), min(strings.Count(b, ":"), 1))
		})
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b choice) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.Speed, a.Speed)) })
	for _, c := range list {
		f.Interfaces = append(f.Interfaces, c.Interface)
	}
	switch {
	case len(list) > 0:
	case len(o.Interfaces) > 0:
		return fmt.Errorf("device: no interface with an address is called %s; there are %s", strings.Join(o.Interfaces, " or "), cmp.Or(strings.Join(seen, ", "), "none"))
	default:
		f.Interfaces = []Interface{{Name: "lo", Addresses: []string{"127.0.0.1"}, NUMA: -1}}
		f.warn("no network interface has an address: other nodes can't reach this one")
	}
	return nil
}

// match is the place of the first glob that fits, -1 if none does.
func match(globs []string, name string) int {
	return slices.IndexFunc(globs, func(g string) bool { ok, _ := path.Match(g, name); return ok })
}

func kernelLinks() ([]Link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []Link
	for _, i := range interfaces {
		l := Link{Name: i.Name, Up: i.Flags&net.FlagUp != 0, Loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone since
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					l.Addrs = append(l.Addrs, ip.Unmap())
				}
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// Addresses are the node's addresses in order of preference, without ports.
func (f *Facts) Addresses() []string {
	var out []string
	for _, i := range f.Interfaces {
		out = append(out, i.Addresses...)
	}
	return out
}

// HostPorts are the node's addresses with a port.
func (f *Facts) HostPorts(port int) []string {
	out := f.Addresses()
	for i, a := range out {
		out[i] = net.JoinHostPort(a, strconv.Itoa(port))
	}
	return out
}
