package main

import (
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent"
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
	atLeast(fabricShare, "by the fabric", "", figure("share"), 1).noted("both from the get of a value until it is here, as of agents; the fastest of three of each"),
	told("node to node by the fabric, 1 GiB", "by the fabric", "GB/s", figure("rate"), false),
	told("node to node by the fabric: CPU of a GiB", "by the fabric", "s", cpuOfGiB, false).noted("of all processes; who waits for libfabric spins"),
	told("from a node to one on the same machine, 1 GiB", "one machine", "GB/s", figure("rate"), false).noted("handed over and copied; the rows above are without that"),
}}

const fabricShare = "node to node by the fabric with its tcp provider, 1 GiB: share of unencrypted TCP"

// transfer runs it with the programs for what stands beside: for the bare copy this one, and iperf3.
func transfer(l *lab) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	iperf3, err := l.debian("iperf3")
	if err != nil {
		return err
	}
	r := nodeToNode
	_, libraries, why := l.fabric()
	if why != "" {
		l.add(Result{Schema: schema, Name: fabricShare, Skipped: "not run: " + why})
		r.bars = slices.DeleteFunc(slices.Clone(r.bars), func(b bar) bool { return b.part == "by the fabric" })
	}
	return r.with(strconv.Itoa(agent.Streams()), self, iperf3, libraries).experiment(l)
}
