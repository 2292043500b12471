package placement

import (
	"fmt"
	"slices"
)

// summary is the first line: the total that is short if one is, else the bundle, else the whole.
func (x *explainer) summary() string {
	switch {
	case len(x.v.nodes) == 0:
		return "there are no nodes"
	case x.u.Verdict == GaveUp:
		return fmt.Sprintf("no placement found in %d steps, though there may be one: bundles that are equal are quicker to place", x.u.Steps)
	case len(x.s.rooms) == 0:
		return "no node is open"
	}
	if x.r.Within != "" {
		return x.within()
	}
	return x.short()
}

// short says what is short on the rooms in play.
func (x *explainer) short() string {
	if s := x.shortTotal(); s != "" {
		return s
	}
	if x.r.Strategy == StrictPack {
		return x.shortOnOne()
	}
	if x.u.Bundle >= 0 {
		return x.shortBundle(int(x.s.shape[x.u.Bundle]))
	}
	if x.u.Verdict == NotNow {
		return "the bundles fit one by one, but not together in what is free"
	}
	return "the bundles fit one by one, but not together"
}

func (x *explainer) shortTotal() string {
	for c, name := range x.s.cols {
		var need, free, total wide
		for i := range x.s.shapes {
			need = need.plus(times(x.s.shapes[i].need[c], len(x.s.shapes[i].members)))
		}
		for i := range x.s.rooms {
			free = free.add(x.s.rooms[i].free[c])
			total = total.add(x.s.rooms[i].node.Total.Get(name))
		}
		if !free.less(need) {
			continue
		}
		if x.s.empty {
			who := "the cluster has"
			if x.r.Within != "" {
				who = "it has"
			}
			return fmt.Sprintf("needs %s, %s %s", wideQuantity(name, need), who, wideHuman(name, total))
		}
		return fmt.Sprintf("needs %s, %s of %s are free%s", wideQuantity(name, need), wideHuman(name, free), wideHuman(name, total), x.heldBy(name))
	}
	return ""
}

// heldBy names those who hold some of a resource on the rooms in play.
func (x *explainer) heldBy(name string) string {
	var all []Holder
	for _, h := range x.v.held {
		if slices.ContainsFunc(h.plan.Places, func(p Place) bool {
			return p.Resources.Get(name) > 0 && (x.r.Within == "" || slices.ContainsFunc(x.s.rooms, func(r room) bool { return r.node.Index == p.Node }))
		}) {
			all = append(all, h.Holder)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return ", held by " + names(all)
}

// shortOnOne is for STRICT_PACK.
func (x *explainer) shortOnOne() string {
	for c, name := range x.s.cols {
		var need, most wide
		for i := range x.s.shapes {
			need = need.plus(times(x.s.shapes[i].need[c], len(x.s.shapes[i].members)))
		}
		for i := range x.s.rooms {
			if free := (wide{}).add(x.s.rooms[i].free[c]); most.less(free) {
				most = free
			}
		}
		if most.less(need) {
			return fmt.Sprintf("needs %s on one node, the %s has %s%s", wideQuantity(name, need), x.superlative(), wideHuman(name, most), x.freeWord())
		}
	}
	return "no single node takes all bundles" + x.freeWord()
}

func (x *explainer) superlative() string {
	if x.s.empty {
		return "largest"
	}
	return "emptiest"
}

func (x *explainer) freeWord() string {
	if x.s.empty {
		return ""
	}
	return " free now"
}

func (x *explainer) shortBundle(sh int) string {
	shape := &x.s.shapes[sh]
	fits, rooms := 0, 0
	for i := range x.s.rooms {
		n := x.s.capacity(&x.s.rooms[i], sh, len(shape.members))
		fits += n
		rooms += min(n, 1)
	}
	what := "a bundle of " + shape.res.String()
	if len(shape.res) == 0 {
		what = "a bundle"
	}
	for _, n := range shape.needs {
		what += fmt.Sprintf(" with label %s=%s", n.Key, n.Expr)
	}
	switch {
	case fits == 0 && x.s.empty:
		return "no node takes " + what
	case fits == 0:
		return "no node takes " + what + " now"
	case x.r.Strategy == StrictSpread:
		return fmt.Sprintf("needs %s, each with %s; %d could take one%s", count(len(shape.members), "node"), what, rooms, x.now())
	}
	return fmt.Sprintf("needs room for %d times %s, the nodes have room for %d%s", len(shape.members), what, fits, x.now())
}

func (x *explainer) now() string {
	if x.s.empty {
		return ""
	}
	return " now"
}

func wideQuantity(name string, w wide) string {
	if name == Memory {
		return wideHuman(name, w) + " of memory"
	}
	return wideHuman(name, w) + " " + name
}

func wideHuman(name string, w wide) string {
	if name != Memory && w.hi == 0 {
		return w.amount().String()
	}
	return humanBytes(w.float() / float64(One))
}
