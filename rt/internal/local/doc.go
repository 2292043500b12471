// Package local finds the cluster of this machine, and starts one that ends with this process.
//
// Find looks where keepers make their directories, as the Python SDK does. Start runs `maniple up --with-stdin`, whose standard input is a
// pipe that this process holds: whatever way the process dies, be it while the cluster is brought up, the command ends the cluster. Nothing
// else does, so a cluster that this process did not bring up is never ended by it.
//
// Limits: Linux. Only clusters of this user on this machine are found.
package local
