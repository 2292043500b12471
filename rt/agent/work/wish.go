package work

import (
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A wish is for nodes with certain labels, which tasks may do without. What was lent where it is met they use before anything else; for
// wishWait they wait for it, and then they run anywhere, until it is tried again.
const (
	wishWait  = int64(time.Second)
	wishAgain = int64(10 * time.Second)
)

// wishOf gives what a shape wishes beside what it needs, as placeOf writes it, "" for nothing; and a shape that needs it.
func wishOf(t *fb.ShapeT, where string) (wish string, needs *fb.ShapeT) {
	if taskOf(t.Group) != (id.Task{}) || t.Strategy == spread {
		return "", nil
	}
	all := *t
	all.Labels = nil
	words := []string{}
	for _, l := range t.Labels {
		if key, is := strings.CutPrefix(l.Key, "?"); is {
			l = &fb.LabelT{Key: key, Value: l.Value}
			words = append(words, l.Key+"="+l.Value)
		}
		all.Labels = append(all.Labels, l)
	}
	if len(words) == 0 {
		return "", nil
	}
	if where != "" {
		words = append([]string{where}, words...)
	}
	return "rather " + strings.Join(words, ", "), &all
}

// wishes tells whether tasks of a class wait for what they wish.
func (c *Core) wishes(cl *class) bool {
	if cl.wish == "" || cl.home {
		return false
	}
	if cl.wishFrom == 0 || c.now >= cl.wishFrom+wishAgain {
		cl.wishFrom = c.now
	}
	if c.now >= cl.wishFrom+wishWait {
		return false
	}
	c.later(cl.wishFrom + wishWait)
	return true
}

// wished tells whether another agent has room where a class wishes to be.
func (c *Core) wished(cl *class) bool {
	for _, p := range c.places {
		if cl.wish != "" && p.where == cl.wish && cl.mayGo(p) && cl.need.fits(p.free) {
			return true
		}
	}
	return false
}

// unwish has tasks run anywhere for now: there is no node such as they wish.
func (c *Core) unwish(cl *class) {
	cl.wishFrom, cl.wishing = c.now-wishWait, false
	c.restless = true
}
