package yarn

import (
	"fmt"
	"strings"
)

// Resource is an amount of memory, cores and whatever else the cluster counts.
type Resource struct {
	MemoryMB int64           `pb:"1"` // in MiB
	VCores   int32           `pb:"2"`
	Others   []ResourceValue `pb:"3"` // yarn.io/gpu and the like. What a ResourceManager says repeats memory-mb and vcores here.
}

// ResourceValue is an amount of one kind.
type ResourceValue struct {
	Name  string `pb:"1,required"`
	Value int64  `pb:"2"`
	Units string `pb:"3"` // "", or a prefix such as k, M, Mi
	Type  int32  `pb:"4"` // 0: countable
}

// GPU is the name under which Hadoop counts GPUs.
const GPU = "yarn.io/gpu"

// ResourceType is a kind that the cluster counts.
type ResourceType struct {
	Name  string `pb:"1,required"`
	Units string `pb:"2"`
	Type  int32  `pb:"3"`
}

// With is a copy with n of the kind name.
func (r Resource) With(name string, n int64) Resource {
	others := make([]ResourceValue, 0, len(r.Others)+1)
	for _, o := range r.Others {
		if o.Name != name {
			others = append(others, o)
		}
	}
	r.Others = append(others, ResourceValue{Name: name, Value: n})
	return r
}

// Of is how much of a kind there is: memory-mb, vcores or the name of another.
func (r Resource) Of(name string) int64 {
	switch name {
	case "memory-mb":
		return r.MemoryMB
	case "vcores":
		return int64(r.VCores)
	}
	for _, o := range r.Others {
		if o.Name == name {
			return o.Value
		}
	}
	return 0
}

// String writes it as Hadoop does: <memory:1024, vCores:1, yarn.io/gpu: 2>.
func (r Resource) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<memory:%d, vCores:%d", r.MemoryMB, r.VCores)
	for _, o := range r.Others {
		if o.Name != "memory-mb" && o.Name != "vcores" && o.Value != 0 {
			fmt.Fprintf(&b, ", %s: %d%s", o.Name, o.Value, o.Units)
		}
	}
	return b.String() + ">"
}
