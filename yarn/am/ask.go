package am

import (
	"errors"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/yarn"
)

// Ask is how many containers of one kind are wanted.
type Ask struct {
	ID        int64         // over 0, the caller's choice; containers that answer it carry it in their field Ask
	Count     int32         // still wanted from now on; 0 takes the ask back
	Resource  yarn.Resource // of each
	Priority  int32         // a lower number is served first
	NodeLabel string        // "": the application's

	Hosts  []string // where they should be; empty: anywhere
	Racks  []string // racks that will do; with Hosts those of the hosts, "/default-rack" if empty
	Strict bool     // nowhere but there
}

// anywhere is the name of all hosts in a request.
const anywhere = "*"

// resourceRequest is a line of an ask: so many on this host, in this rack or anywhere.
type resourceRequest struct {
	Priority  yarn.Priority `pb:"1,required"`
	Name      string        `pb:"2"`
	Resource  yarn.Resource `pb:"3"`
	Count     int32         `pb:"4"`
	Relax     bool          `pb:"5,default=1"`
	NodeLabel string        `pb:"6"`
	Ask       int64         `pb:"8,default=-1"`
}

func (a Ask) check(max yarn.Resource, types []yarn.ResourceType) error {
	const op = "ask for containers"
	switch {
	case a.ID <= 0:
		return errors.New("yarn: " + op + ": an ask's ID is over 0")
	case a.Count < 0:
		return errors.New("yarn: " + op + ": a count is not negative")
	case a.Resource.MemoryMB <= 0 || a.Resource.VCores <= 0:
		return &yarn.Error{Op: op, Text: "an ask needs memory and cores", Kind: yarn.ErrRefused}
	case a.Strict && len(a.Hosts)+len(a.Racks) == 0:
		return errors.New("yarn: " + op + ": a strict ask names hosts or racks")
	}
	if len(types) > 0 {
		if err := yarn.Counted(op, a.Resource, types); err != nil {
			return err
		}
	}
	kinds := []string{"memory-mb", "vcores"}
	for _, o := range a.Resource.Others {
		kinds = append(kinds, o.Name)
	}
	for _, k := range kinds {
		if have, most := a.Resource.Of(k), max.Of(k); have > most && max.MemoryMB > 0 {
			return &yarn.Error{
				Op: op, Text: fmt.Sprintf("%d of %s is more than the largest container has: %s", have, k, max), Kind: yarn.ErrRefused,
				Do: "ask for less, or for more containers",
			}
		}
	}
	return nil
}

// lines are what is sent for an ask.
func (a Ask) lines() []resourceRequest {
	racks := a.Racks
	if len(a.Hosts) > 0 && len(racks) == 0 {
		racks = []string{"/default-rack"}
	}
	var out []resourceRequest
	line := func(name string, relax bool) {
		if !slices.ContainsFunc(out, func(r resourceRequest) bool { return r.Name == name }) {
			out = append(out, resourceRequest{yarn.Priority{Value: a.Priority}, name, a.Resource, a.Count, relax, a.NodeLabel, a.ID})
		}
	}
	for _, h := range a.Hosts {
		line(h, true)
	}
	for _, r := range racks {
		// A rack that only leads to the hosts in it must not be served for its own sake.
		line(r, !a.Strict || len(a.Hosts) == 0)
	}
	line(anywhere, !a.Strict)
	return out
}
