//go:build e2e

// Package local tests the product on this machine with real processes: the binary as a user runs it,
// real signals, real torch. Every test ends with the check that nothing was left behind.
package local
