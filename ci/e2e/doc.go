// Package e2e is the library of the end-to-end tests: a real Slurm on this machine, brought up once per
// test binary and taken down after it, and what tests need to act on it as an ordinary user.
//
// The nouns: a Cluster is the testbed (scripts in testbed/): a controller, four nodes that are separate
// network, host name, process and mount namespaces with their own /tmp and /dev/shm, and this machine as
// the login node. A Result is what a command did. Programs are the users' programs in programs/, which
// import nothing of ours and run unchanged in every form.
//
// Ownership. Main owns the testbed and the built binary; tests own their jobs and folders.
//
// Guarantees.
//
//	E2E-1: several test binaries and checkouts run beside each other: nothing of the testbed has a fixed
//	       name, port, subnet or user.
//	E2E-2: a testbed whose test binary died is swept by the next one.
//	E2E-3: as root a testbed that does not come up is a failure, never a skip; without root the tests skip
//	       and say so.
//
// Limits. Needs root and Debian's packages (installed if missing). No cgroups, no real GPUs (their
// stand-ins are character devices), two cores for all nodes together: times are not those of a cluster.
package e2e
