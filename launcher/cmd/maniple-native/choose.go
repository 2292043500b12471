package main

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// alone are the providers that are taken without being named, in order: a card of Slingshot, AWS or Omni-Path is known to verbs as well.
var alone = []string{"cxi", "efa", "opx", "verbs"}

// named are those that are taken only when somebody names them: they open a port that asks nobody who he is, or serve for tests.
var named = []string{"tcp", "shm"}

// entry is a device by which a provider goes.
type entry struct {
	provider, device string // as libfabric calls them
}

// railsMost is how many devices are used at once.
const railsMost = 8

// choose picks the devices that are used at once: those that --interface names, each once and all of one provider, and first among them those near
// the processors that this process has. networks gives the network interfaces of a device, near tells whether it is near.
func choose(entries []entry, patterns []string, networks func(device string) []string, near func(device string) bool) (rails []int) {
	var far []int
	provider, seen := "", map[string]bool{}
	for i, e := range entries {
		device := plain(e.device)
		names := append(networks(e.device), e.device, device)
		if seen[device] || provider != "" && e.provider != provider || len(patterns) > 0 && !slices.ContainsFunc(names, func(name string) bool { return matches(name, patterns) }) {
			continue
		}
		seen[device], provider = true, e.provider
		if near(e.device) {
			rails = append(rails, i)
		} else {
			far = append(far, i)
		}
	}
	rails = append(rails, far...)
	return rails[:min(len(rails), railsMost)]
}

// plain is a device's name without what verbs makes of it.
func plain(device string) string {
	return strings.TrimSuffix(strings.TrimSuffix(device, "-dgram"), "-xrc")
}

// join gives for each device here the one there that is read by it, -1: none. Devices of the same name are on the same network, as a rule; what is left
// is taken in order.
func join(here, there []string) []int {
	to, taken := make([]int, len(here)), make([]bool, len(there))
	for i, name := range here {
		to[i] = -1
		for j, other := range there {
			if !taken[j] && other == name {
				to[i], taken[j] = j, true
				break
			}
		}
	}
	for i := range here {
		if j := slices.Index(taken, false); to[i] < 0 && j >= 0 {
			to[i], taken[j] = j, true
		}
	}
	return to
}

// gaps gives what lies between parts of memory of some size.
func gaps(size int64, parts [][2]int64) (out [][2]int64) {
	slices.SortFunc(parts, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	at := int64(0)
	for _, p := range append(parts, [2]int64{size, size}) {
		if p[0] > at {
			out = append(out, [2]int64{at, p[0]})
		}
		at = max(at, p[1])
	}
	return out
}

func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// system is where the kernel tells of devices; below it lie sys and proc.
type system string

// class is the folder of a device.
func (s system) class(device string) string {
	device = plain(device)
	for _, class := range []string{"infiniband", "cxi", "net"} {
		dir := filepath.Join(string(s), "sys/class", class, device)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

// networks gives the interfaces that belong to a device.
func (s system) networks(device string) (names []string) {
	dir := s.class(device)
	if dir == "" {
		return nil
	}
	list, _ := os.ReadDir(filepath.Join(dir, "device/net"))
	for _, n := range list {
		names = append(names, n.Name())
	}
	return names
}

// near tells whether a device is at a NUMA node of which this process has processors. What is not known is near.
func (s system) near(device string) bool {
	text, err := os.ReadFile(filepath.Join(s.class(device), "device/numa_node"))
	node, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if s.class(device) == "" || err != nil || bad != nil || node < 0 {
		return true
	}
	all, err := os.ReadFile(filepath.Join(string(s), "sys/devices/system/node", fmt.Sprintf("node%d", node), "cpulist"))
	if err != nil {
		return true
	}
	status, err := os.ReadFile(filepath.Join(string(s), "proc/self/status"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(status), "Cpus_allowed_list:")
	mine, _, _ := strings.Cut(after, "\n")
	theirs := ranges(string(all))
	return slices.ContainsFunc(ranges(mine), func(a [2]int) bool {
		return slices.ContainsFunc(theirs, func(b [2]int) bool { return a[0] <= b[1] && b[0] <= a[1] })
	})
}

// ranges reads a list as the kernel writes it: 0-3,8.
func ranges(text string) (out [][2]int) {
	for _, part := range strings.Split(strings.TrimSpace(text), ",") {
		low, high, _ := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		if err != nil {
			continue
		}
		b, err := strconv.Atoi(cmp.Or(high, low))
		if err != nil {
			continue
		}
		out = append(out, [2]int{a, b})
	}
	return out
}
