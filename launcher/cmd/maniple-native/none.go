//go:build !cgo

package main

import (
	"errors"

	"github.com/maniple-hpc/maniple/rt/native"
)

// devices says why it has none.
func devices([]string) native.Devices {
	return native.Devices{Error: "this " + native.Name + " was built without cgo"}
}

// endpoint is none.
type endpoint struct{}

func newEndpoint() *endpoint { return &endpoint{} }

func (*endpoint) fabric(_ native.Question, reply func([]byte, error)) {
	reply(nil, errors.New("this "+native.Name+" was built without cgo"))
}

func (*endpoint) close() {}
