//go:build !cgo

package main

import "github.com/maniple-hpc/maniple/rt/native"

// devices says why it has none.
func devices([]string) native.Devices {
	return native.Devices{Error: "this " + native.Name + " was built without cgo"}
}
