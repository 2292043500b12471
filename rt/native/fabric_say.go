package native

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// What an agent and its program say of a fabric: the questions' names, with JSON before and behind.
const (
	FabricOpen    = "fabric open"    // FabricWish; FabricHere
	FabricAdd     = "fabric add"     // FabricWish with Only; FabricHere, with that rail as its last
	FabricMap     = "fabric map"     // FabricArena with a descriptor; nothing
	FabricUnmap   = "fabric unmap"   // FabricArena; nothing
	FabricExpose  = "fabric expose"  // FabricRange; FabricExposed
	FabricConceal = "fabric conceal" // FabricExposed; nothing, when nobody reads it any more
	FabricRead    = "fabric read"    // FabricReading; FabricCame, when the bytes are there
	FabricLatency = "fabric latency" // FabricReading of 8 bytes; FabricTimes
	FabricFade    = "fabric fade"    // nothing; nothing
)

// FabricHung and the place of a rail is the exit status of a process that ended since a read by that rail hung, while others did not, or since it failed as a whole.
const FabricHung = 80

// FabricWish is what endpoint is to be opened.
type FabricWish struct {
	Provider   string   `json:"provider"`             // auto, or one of FabricProviders
	Hosts      []string `json:"hosts,omitempty"`      // addresses of this node, for providers that are reached by such: each is a rail
	Interfaces []string `json:"interfaces,omitempty"` // names or patterns of those that may be used; none: all
	Without    []string `json:"without,omitempty"`    // devices that are not used, if there are others
	Only       string   `json:"only,omitempty"`       // the device that alone is used; "": all
}

// FabricHere is the endpoint that was opened: one at each device, which are its rails.
type FabricHere struct {
	Provider string       `json:"provider"` // as libfabric calls it, such as verbs;ofi_rxm
	Rails    []FabricRail `json:"rails"`    // those that are near first
	Left     []FabricLeft `json:"left,omitempty"`
	Leaves   []string     `json:"leaves,omitempty"` // files that it leaves when it is killed
}

// FabricRail is a device by which the endpoint goes, and its address there.
type FabricRail struct {
	Device  string `json:"device"`
	Address []byte `json:"address"`
}

// FabricLeft is a device that is left out.
type FabricLeft struct {
	Device string `json:"device"`
	Why    string `json:"why"`
}

// Devices names those by which it goes.
func (h *FabricHere) Devices() string {
	var names []string
	for _, r := range h.Rails {
		names = append(names, r.Device)
	}
	return strings.Join(names, ", ")
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
	Number uint64      `json:"number"`
	Keys   []FabricKey `json:"keys,omitempty"` // for each rail
}

// FabricKey is what lets its holder read a part of memory by one rail, and the address of its first byte there.
type FabricKey struct {
	Key uint64 `json:"key"`
	At  uint64 `json:"at"`
}

// FabricPlace is where bytes of another node lie, for who has it. It holds keys: it goes over connections that are
// authenticated and encrypted, and nowhere else.
type FabricPlace struct {
	Provider string       `json:"provider"`
	Doors    []FabricDoor `json:"doors"` // the same bytes by each rail of the other node
}

// FabricDoor is the bytes as they are read by one rail of the node where they lie.
type FabricDoor struct {
	FabricRail
	FabricKey
}

// From gives the place that begins so many bytes later.
func (p FabricPlace) From(offset int64) FabricPlace {
	p.Doors = slices.Clone(p.Doors)
	for i := range p.Doors {
		p.Doors[i].At += uint64(offset)
	}
	return p
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

// FabricCame is what is told of a read that is over: rails that failed, whose part came by others.
type FabricCame struct {
	Left []FabricLeft `json:"left,omitempty"`
}

// FabricTimes are times of reads of 8 bytes.
type FabricTimes struct {
	Best   float64 `json:"best"` // microseconds
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
}
