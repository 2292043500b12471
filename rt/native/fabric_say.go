package native

import (
	"encoding/json"
	"fmt"
)

// What an agent and its program say of a fabric: the questions' names, with JSON before and behind.
const (
	FabricOpen    = "fabric open"    // FabricWish; FabricHere
	FabricMap     = "fabric map"     // FabricArena with a descriptor; nothing
	FabricUnmap   = "fabric unmap"   // FabricArena; nothing
	FabricExpose  = "fabric expose"  // FabricRange; FabricExposed
	FabricConceal = "fabric conceal" // FabricExposed; nothing, when nobody reads it any more
	FabricRead    = "fabric read"    // FabricReading; nothing, when the bytes are there
	FabricLatency = "fabric latency" // FabricReading of 8 bytes; FabricTimes
)

// FabricWish is what endpoint is to be opened.
type FabricWish struct {
	Provider   string   `json:"provider"`             // auto, or one of FabricProviders
	Host       string   `json:"host,omitempty"`       // address of this node, for providers that are reached by such
	Interfaces []string `json:"interfaces,omitempty"` // names or patterns of those that may be used; none: all
}

// FabricHere is the endpoint that was opened.
type FabricHere struct {
	Provider string   `json:"provider"` // as libfabric calls it, such as verbs;ofi_rxm
	Device   string   `json:"device"`   // by which it goes
	Address  []byte   `json:"address"`
	Leaves   []string `json:"leaves,omitempty"` // files that it leaves when it is killed
}

// FabricArena is an arena of this node.
type FabricArena struct {
	Arena uint64 `json:"arena"`
	Size  int64  `json:"size,omitempty"`
}

// FabricRange is a part of an arena that was mapped.
type FabricRange struct {
	Arena  uint64 `json:"arena"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// FabricExposed is a part of memory that others may read.
type FabricExposed struct {
	Number uint64 `json:"number"`
	Key    uint64 `json:"key"`
	At     uint64 `json:"at"`
}

// FabricPlace is where bytes of another node lie, for who has it. It holds a key: it goes over connections that are
// authenticated and encrypted, and nowhere else.
type FabricPlace struct {
	Provider string `json:"provider"`
	Address  []byte `json:"address"`
	Key      uint64 `json:"key"`
	At       uint64 `json:"at"`
}

// Encode gives a place as bytes.
func (p FabricPlace) Encode() []byte {
	b, _ := json.Marshal(p) // of such fields it never fails
	return b
}

// DecodePlace reads one.
func DecodePlace(b []byte) (p FabricPlace, err error) {
	if err = json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("native: a place in a fabric: %w", err)
	}
	return p, nil
}

// FabricReading is a read: bytes of another node, to a part of an arena here.
type FabricReading struct {
	Into  FabricRange `json:"into"`
	Place FabricPlace `json:"place"`
	Count int         `json:"count,omitempty"` // how often, to measure
}

// FabricTimes are times of reads of 8 bytes.
type FabricTimes struct {
	Best   float64 `json:"best"` // microseconds
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
}
