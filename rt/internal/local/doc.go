// Package local finds the cluster of this machine, and starts one that ends with this process.
//
// Find looks where keepers make their directories, as the Python SDK does. Start runs `maniple up`. A Guard is a shell
// that waits for the end of a pipe, which this process holds: whatever way the process dies, the shell ends the cluster.
//
// Limits: Linux. Only clusters of this user on this machine are found.
package local
