package work

import (
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A wish is for nodes with certain labels, which tasks may do without: soft ones, or those to which there is a fallback. A class has any number of them
// in their order, and behind them what it needs. What was lent where a wish is met is used before what comes behind it. For wishWait tasks wait for
// the first wish, then for the next one, and then they run where they may at all, until all are tried again. What no node has is not waited for.
type wish struct {
	where string // as placeOf writes it
	shape *fb.ShapeT
	never int64 // no node has it, as the head said; that is believed until then, or until there are other nodes
}

const (
	wishWait  = int64(time.Second)
	wishAgain = int64(9 * time.Second)  // after the last one
	wishNever = int64(30 * time.Second) // as the shell asks again after so long
)

// choose works out where a shape's tasks are to run: the wishes of a class, and what it needs.
func (c *Core) choose(cl *class) {
	t := cl.table
	words, home := c.placeOf(t)
	cl.needs = wish{shape: t}
	cl.home = home
	if taskOf(t.Group) != (id.Task{}) {
		return
	}
	sets := []*fb.LabelSetT{{Labels: t.Labels}}
	for _, s := range t.Fallbacks {
		if s != nil {
			sets = append(sets, s)
		}
	}
	for _, s := range sets {
		hard, all := &fb.LabelSetT{}, &fb.LabelSetT{}
		for _, l := range s.Labels {
			key, soft := strings.CutPrefix(l.Key, "?")
			l = &fb.LabelT{Key: key, Value: l.Value}
			if all.Labels = append(all.Labels, l); !soft {
				hard.Labels = append(hard.Labels, l)
			}
		}
		if len(hard.Labels) < len(all.Labels) && t.Strategy != spread {
			cl.add(wishOf(t, words, all))
		}
		cl.add(wishOf(t, words, hard))
		if len(hard.Labels) == 0 { // which is to be had anywhere
			break
		}
	}
	last := len(cl.wishes) - 1
	cl.needs, cl.wishes = cl.wishes[last], cl.wishes[:last]
	cl.where = cl.needs.where
	for i := range cl.wishes {
		cl.wishes[i].where = "rather " + cl.wishes[i].where
	}
}

// add puts a wish behind the others, unless it is one of them.
func (cl *class) add(w wish) {
	if cl.rank(w.where) == len(cl.wishes) {
		cl.wishes = append(cl.wishes, w)
	}
}

// wishOf says what a shape would need with other labels.
func wishOf(t *fb.ShapeT, words []string, set *fb.LabelSetT) wish {
	shape := *t
	shape.Labels, shape.Fallbacks = set.Labels, nil
	for _, l := range set.Labels {
		words = append(words[:len(words):len(words)], l.Key+"="+l.Value)
	}
	return wish{where: strings.Join(words, ", "), shape: &shape}
}

// wishing tells whether tasks of a class wait for what they wish.
func (cl *class) wishing() bool { return cl.stage < len(cl.wishes) }

// rank is which of the wishes of a class a place meets, 0 the first; of one that meets none it is how many there are.
func (cl *class) rank(where string) int {
	for i := range cl.wishes {
		if cl.wishes[i].where == where {
			return i
		}
	}
	return len(cl.wishes)
}

// meets tells whether a place is lent for a wish of a class that it may have now.
func (cl *class) meets(where string) bool {
	r := cl.rank(where)
	return r < len(cl.wishes) && r <= cl.stage
}

// wish works out for which of its wishes a class waits now.
func (c *Core) wish(cl *class) {
	cl.stage = len(cl.wishes)
	if cl.stage == 0 || cl.home {
		return
	}
	open := 0
	for i := range cl.wishes {
		if !c.barred(&cl.wishes[i]) {
			open++
		}
	}
	end := cl.wishFrom + int64(open)*wishWait
	if cl.wishFrom == 0 || c.now >= end+wishAgain || c.now >= end && c.barred(&cl.needs) {
		cl.wishFrom = c.now
	}
	at := int((c.now - cl.wishFrom) / wishWait)
	for i := range cl.wishes {
		if c.barred(&cl.wishes[i]) {
			continue
		}
		if at--; at < 0 {
			cl.stage = i
			c.later(c.now + wishWait - (c.now-cl.wishFrom)%wishWait)
			return
		}
	}
}

// barred tells whether no node has what a wish is for, for all that is known.
func (c *Core) barred(w *wish) bool { return w.never > c.now && w.never >= c.nodesAt+wishNever }

// wished tells whether another agent has room where a class would rather be than at a grant.
func (c *Core) wished(cl *class, g *grant) bool {
	if len(cl.wishes) == 0 {
		return false
	}
	for _, p := range c.places {
		if cl.rank(p.where) < cl.rank(g.where) && cl.mayGo(p) && cl.need.fits(p.free) {
			return true
		}
	}
	return false
}

// hopeless tells whether no node has anything that a class may do with, for all that was said.
func (c *Core) hopeless(cl *class) bool {
	for i := range cl.wishes {
		if !c.barred(&cl.wishes[i]) {
			return false
		}
	}
	return c.barred(&cl.needs)
}

// places names all that a class may do with, for an error.
func (cl *class) places() string {
	var all []string
	for _, w := range cl.wishes {
		all = append(all, strings.TrimPrefix(w.where, "rather "))
	}
	return strings.Join(append(all, cl.where), ", or else ")
}
