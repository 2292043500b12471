package bootdoc

import (
	"fmt"
	"net"
	"os"
	"path"
	"strconv"
	"strings"
)

// NodeName is the name of this node: the document's; inside a Slurm job Slurm's own, which need not be
// the host's; else the host name up to the first dot.
func (d *Doc) NodeName() (string, error) {
	if d.Node.Name != "" {
		return d.Node.Name, nil
	}
	if name := os.Getenv("SLURMD_NODENAME"); d.Job != "" && fileName(name) {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("bootdoc: host name: %w", err)
	}
	host, _, _ = strings.Cut(host, ".")
	if !fileName(host) {
		return "", fmt.Errorf("bootdoc: the host name %q can't be used as the node's name; give it one", host)
	}
	return host, nil
}

func fileName(s string) bool {
	return s != "" && len(s) <= 255 && s[0] != '.' && !strings.ContainsAny(s, "/\x00\n")
}

// bridges are interfaces that lead to containers and virtual machines of this node, not to other nodes.
var bridges = []string{"docker*", "virbr*", "veth*", "br-*", "cni*", "flannel*", "lxc*", "podman*", "tun*", "tap*"}

// Addresses gives host:port under which others reach `port` of this node, in order of preference:
// interfaces that are up, by the order of d.Interfaces, IPv4 before IPv6.
func (d *Doc) Addresses(port int) ([]string, error) {
	if d.Loopback {
		return []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("bootdoc: network interfaces: %w", err)
	}
	globs := d.Interfaces
	if len(globs) == 0 {
		globs = []string{"*"}
	}
	var four, six []string
	taken := make(map[string]bool)
	for _, glob := range globs {
		for _, i := range interfaces {
			if ok, err := path.Match(glob, i.Name); err != nil {
				return nil, fmt.Errorf("bootdoc: interface pattern %q: %w", glob, err)
			} else if !ok || taken[i.Name] || i.Flags&net.FlagUp == 0 || (len(d.Interfaces) == 0 && internal(i)) {
				continue
			}
			taken[i.Name] = true
			addresses, err := i.Addrs()
			if err != nil {
				continue // went away meanwhile
			}
			for _, a := range addresses {
				ip, ok := a.(*net.IPNet)
				if !ok || ip.IP.IsLinkLocalUnicast() || ip.IP.IsMulticast() {
					continue
				}
				address := net.JoinHostPort(ip.IP.String(), strconv.Itoa(port))
				if ip.IP.To4() != nil {
					four = append(four, address)
				} else {
					six = append(six, address)
				}
			}
		}
	}
	if all := append(four, six...); len(all) > 0 {
		return all, nil
	}
	if len(d.Interfaces) > 0 {
		return nil, fmt.Errorf("bootdoc: no interface that is up and has an address matches %s", strings.Join(d.Interfaces, ","))
	}
	return []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, nil // off the network: a cluster of one node still works
}

func internal(i net.Interface) bool {
	if i.Flags&net.FlagLoopback != 0 {
		return true
	}
	for _, glob := range bridges {
		if ok, _ := path.Match(glob, i.Name); ok {
			return true
		}
	}
	return false
}
