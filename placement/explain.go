package placement

import (
	"fmt"
	"slices"
	"strings"
)

// Explanation is why a request is not placed. Text is for people; the rest is what it was made from.
type Explanation struct {
	Verdict Verdict
	Summary string   // one line: "needs 16 GPU, the cluster has 8"
	Reasons []Reason // one for each kind of node
	Advice  string   // the nearest shape that fits: "2 of the 4 bundles would fit now"
	Nearest *Request // that shape; nil: none
}

// Reason is why some nodes don't take a bundle, or no more of them.
type Reason struct {
	Code     string   // closed, label, small, used, parts
	Nodes    []string // names; the reason is the same on all
	Indexes  []int
	Bundle   int    // the bundle asked about, which stands for all that are equal
	Fits     int    // so many of them the node takes now
	Resource string // what is short; for label its key
	Need     Amount
	Free     Amount
	Total    Amount
	Holders  []Holder // who holds that resource there
	Text     string   // without the names
}

// Text is the whole explanation, one statement a line.
func (e *Explanation) Text() string {
	var b strings.Builder
	b.WriteString(e.Summary)
	for i := range e.Reasons {
		fmt.Fprintf(&b, "\n%s: %s", FoldNames(e.Reasons[i].Nodes), e.Reasons[i].Text)
	}
	if e.Advice != "" {
		b.WriteString("\n" + e.Advice)
	}
	return b.String()
}

// explainSteps bounds each search that Explain makes; it makes some 20 of them.
const explainSteps = 50_000

// Explain runs the request again and says why there is no plan; nil if there is one.
func Explain(v *View, r *Request) *Explanation {
	_, u := Solve(v, r)
	if u == nil {
		return nil
	}
	x := &explainer{v: v, r: r, u: u, s: newSolver(v, r, u.Verdict == Infeasible)}
	e := &Explanation{Verdict: u.Verdict}
	x.reasons(e)
	e.Summary = x.summary()
	x.nearest(e)
	return e
}

// explainer asks the same rooms, by the same test, that the search asked.
type explainer struct {
	v *View
	r *Request
	u *Unplaced
	s *solver
}

func (x *explainer) reasons(e *Explanation) {
	shapes := []int{0}
	if x.u.Bundle >= 0 {
		shapes[0] = int(x.s.shape[x.u.Bundle])
	} else if x.r.Strategy != StrictPack {
		shapes = x.s.hard[:min(len(x.s.hard), 3)]
	}
	for _, n := range x.v.nodes {
		var r *room
		for i := range x.s.rooms {
			if x.s.rooms[i].node == n {
				r = &x.s.rooms[i]
			}
		}
		for _, sh := range shapes {
			why := x.why(n, r, sh)
			if why.Text == "" {
				continue
			}
			if len(shapes) > 1 && why.Code != "closed" {
				why.Text = "for " + x.s.shapes[sh].res.String() + ": " + why.Text
			}
			at := slices.IndexFunc(e.Reasons, func(o Reason) bool { return o.Text == why.Text && o.Bundle == why.Bundle })
			if at < 0 {
				at = len(e.Reasons)
				e.Reasons = append(e.Reasons, why)
			}
			if !slices.Contains(e.Reasons[at].Indexes, n.Index) {
				e.Reasons[at].Nodes = append(e.Reasons[at].Nodes, n.Name)
				e.Reasons[at].Indexes = append(e.Reasons[at].Indexes, n.Index)
			}
			if why.Code == "closed" {
				break
			}
		}
	}
}

// why says what holds the shape (under STRICT_PACK the whole request) off a node; an empty text: nothing does.
func (x *explainer) why(n *Node, r *room, sh int) Reason {
	w := Reason{Bundle: int(x.s.shapes[sh].members[0])}
	if r == nil {
		w.Code, w.Text = "closed", [...]string{"", "paused", "draining"}[min(n.State, Draining)]
		if n.Why != "" {
			w.Text += ": " + n.Why
		}
		return w
	}
	var short, column = 0, noColumn
	var put []int
	if x.r.Strategy == StrictPack {
		put, column = x.fillAll(r)
		short = len(put)
	} else {
		limit := len(x.s.shapes[sh].members)
		if x.r.Strategy == StrictSpread {
			limit = 1
		}
		for column == noColumn && len(put) < limit {
			if c, ok := x.s.fit(r, sh); !ok {
				column = c
				break
			}
			x.s.put(r, sh)
			put = append(put, sh)
		}
		w.Fits, short = len(put), len(put)
	}
	for _, p := range put {
		x.s.pull(r, p)
	}
	switch column {
	case noColumn:
		if x.r.Strategy == StrictSpread {
			w.Code, w.Text = "fits", "takes one bundle"
			if short == 0 {
				w.Text = ""
			}
		} else {
			w.Code, w.Text = "fits", fmt.Sprintf("takes %s", count(short, "bundle"))
		}
		if x.u.Bundle < 0 { // each fits, not all of them: whoever holds a part of this node is in the way
			for _, name := range x.s.cols {
				for _, h := range x.v.holders(n.Index, name) {
					if !slices.Contains(w.Holders, h) {
						w.Holders = append(w.Holders, h)
					}
				}
			}
			if len(w.Holders) > 0 && w.Text != "" {
				w.Text += "; a part is held by " + names(w.Holders)
			}
		}
		return w
	case labelColumn:
		return x.whyLabel(w, n, sh)
	}
	return x.whyShort(w, n, r, sh, column)
}

// fillAll puts all bundles into a room as far as they go and says which column was short.
func (x *explainer) fillAll(r *room) (put []int, column int) {
	for _, sh := range x.s.hard {
		for range x.s.shapes[sh].members {
			c, ok := x.s.fit(r, sh)
			if !ok {
				return put, c
			}
			x.s.put(r, sh)
			put = append(put, sh)
		}
	}
	return put, noColumn
}

func (x *explainer) whyLabel(w Reason, n *Node, sh int) Reason {
	w.Code = "label"
	shapes := []shape{x.s.shapes[sh]}
	if x.r.Strategy == StrictPack {
		shapes = x.s.shapes
	}
	for _, s := range shapes {
		for t := range s.tests {
			if s.tests[t].met(n) {
				continue
			}
			has, ok := n.label(s.needs[t].Key)
			if !ok {
				has = "no such label"
			}
			w.Resource = s.needs[t].Key
			w.Text = fmt.Sprintf("label %s=%s wanted, it has %s", s.needs[t].Key, s.needs[t].Expr, has)
			return w
		}
	}
	return w
}

func (x *explainer) whyShort(w Reason, n *Node, r *room, sh, column int) Reason {
	name := x.s.cols[column]
	w.Resource, w.Need = name, x.s.shapes[sh].need[column]
	if x.r.Strategy == StrictPack {
		var all wide
		for i := range x.s.shapes {
			all = all.plus(times(x.s.shapes[i].need[column], len(x.s.shapes[i].members)))
		}
		w.Need = all.amount()
	}
	w.Free, w.Total = r.free[column], n.Total.Get(name)
	room := ""
	if w.Fits > 0 {
		room = fmt.Sprintf("takes %s; ", count(w.Fits, "bundle"))
	}
	w.Holders = x.v.holders(n.Index, name)
	switch {
	case w.Total < w.Need, x.s.empty && w.Fits == 0 && w.Free < w.Need:
		w.Code, w.Text = "small", fmt.Sprintf("%shas %s, %s wanted", room, quantity(name, w.Total), quantity(name, w.Need))
		w.Holders = nil
		return w
	case w.Fits == 0 && w.Free >= w.Need:
		w.Code = "parts"
		what := "no device has so much left"
		if w.Need >= One {
			what = fmt.Sprintf("not %s in one piece", count(int(w.Need/One), "device"))
		}
		w.Text = fmt.Sprintf("%s of %s free, but %s", human(name, w.Free), quantity(name, w.Total), what)
	case x.s.empty:
		w.Code, w.Text = "small", fmt.Sprintf("%shas %s", room, quantity(name, w.Total))
		w.Holders = nil
		return w
	default:
		w.Code, w.Text = "used", fmt.Sprintf("%s%s of %s free", room, human(name, w.Free), quantity(name, w.Total))
	}
	if len(w.Holders) > 0 {
		w.Text += ", held by " + names(w.Holders)
	}
	return w
}

// holders are those who hold some of a resource on a node.
func (v *View) holders(index int, resource string) (out []Holder) {
	for _, h := range v.held {
		for i := range h.plan.Places {
			if p := &h.plan.Places[i]; p.Node == index && p.Resources.Get(resource) > 0 {
				out = append(out, h.Holder)
				break
			}
		}
	}
	return out
}

// names of holders, no more than three.
func names(list []Holder) string {
	var b strings.Builder
	for i, h := range list {
		if i == 3 {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("gang ")
		if h.Name != "" {
			fmt.Fprintf(&b, "%s (%v)", h.Name, h.ID)
		} else {
			b.WriteString(h.ID.String())
		}
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// quantity is "4 CPU" or "3.5 GiB of memory"; human is the same without the name.
func quantity(name string, a Amount) string {
	if name == Memory {
		return human(name, a) + " of memory"
	}
	return a.String() + " " + name
}

func human(name string, a Amount) string {
	if name != Memory {
		return a.String()
	}
	return humanBytes(float64(a) / float64(One))
}

func humanBytes(b float64) string {
	unit := -1
	for b >= 1024 && unit < len(suffixes)-1 {
		b, unit = b/1024, unit+1
	}
	s := strings.TrimSuffix(fmt.Sprintf("%.1f", b), ".0")
	if unit < 0 {
		return s + " bytes"
	}
	return s + " " + suffixes[unit:unit+1] + "iB"
}
