package main

import (
	"os"
	"strconv"
	"time"
)

// What goes from node to node.

var nodeToNode = race{program: "transfer.py", args: []string{"1024", "5"}, quick: []string{"64", "3"}, limit: 3 * time.Minute, bars: []bar{
	atLeast("node to node, 1 GiB: share of a bare copy over TLS", "node to node", "", figure("share"), 0.9).
		noted("from the get of a value that lies on another node of this machine until it is here; beside it crypto/tls between two processes, from mapped memory to mapped memory, with as many connections, " +
			"before and after each; the fastest of each"),
	told("node to node, 1 GiB", "node to node", "GB/s", figure("rate"), true),
	told("node to node, 1 MiB", "node to node", "ms", figure("small"), true),
	told("from a node to one on the same machine, 1 GiB", "one machine", "GB/s", figure("rate"), false).noted("handed over and copied; the rows above are without that"),
}}

// transfer runs it with a program for the bare copy, which is this one.
func transfer(l *lab) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r := nodeToNode
	r.args, r.quick = append(r.args[:2:2], strconv.Itoa(transferStreams), self), append(r.quick[:2:2], strconv.Itoa(transferStreams), self)
	return r.experiment(l)
}

// transferStreams is how many connections an agent opens to another one on a machine of two cores.
const transferStreams = 2
