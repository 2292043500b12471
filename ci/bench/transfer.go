package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What goes from node to node.

var cpuOfGiB = quotient("cpu", "gib", 1)

var nodeToNode = race{program: "transfer.py", args: []string{"1024", "3"}, quick: []string{"64", "3"}, limit: 4 * time.Minute, bars: []bar{
	atLeast("node to node, 1 GiB: share of a bare copy over TLS", "node to node", "", figure("share"), 0.9).
		noted("from the get of a value that lies on another node of this machine until it is here; beside it crypto/tls between two processes, from mapped memory to mapped memory, with as many connections, " +
			"before and after each; the fastest of each"),
	told("node to node, 1 GiB", "node to node", "GB/s", figure("rate"), true),
	told("node to node: CPU of a GiB", "node to node", "s", cpuOfGiB, true).noted("of all processes"),
	told("a bare copy over TLS: CPU of a GiB", "node to node", "s", figure("bare cpu"), false),
	told("node to node, 1 MiB", "node to node", "ms", figure("small"), true),
	atLeast("node to node unencrypted, 1 GiB: share of iperf3", "unencrypted", "", figure("share"), 0.9).noted("with as many connections; iperf3 has one thread on each side, and the same few pages over and over; with --clear-values"),
	told("node to node unencrypted, 1 GiB", "unencrypted", "GB/s", figure("rate"), false),
	told("node to node unencrypted: CPU of a GiB", "unencrypted", "s", cpuOfGiB, false),
	told("iperf3: CPU of a GiB", "unencrypted", "s", figure("bare cpu"), false),
	told("from a node to one on the same machine, 1 GiB", "one machine", "GB/s", figure("rate"), false).noted("handed over and copied; the rows above are without that"),
}}

// transfer runs it with the programs for what stands beside: for the bare copy this one, and iperf3.
func transfer(l *lab) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("bash", filepath.Join(l.top, "ci/bench/iperf3.sh"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("iperf3 can't be had: %w", err)
	}
	r := nodeToNode
	more := []string{strconv.Itoa(transferStreams), self, strings.TrimSpace(string(out))}
	r.args, r.quick = append(r.args[:2:2], more...), append(r.quick[:2:2], more...)
	return r.experiment(l)
}

// transferStreams is how many connections an agent opens to another one on a machine of two cores.
const transferStreams = 2
