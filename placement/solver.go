package placement

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// solver is one search. It works on rooms and never touches the view.
type solver struct {
	req    *Request
	cols   []string // the names of resources that the request asks for
	shapes []shape
	hard   []int // shapes, the hardest to place first
	shape  []int32
	rooms  []room
	active []int32 // rooms in play, by index
	empty  bool    // everything is taken as free, to tell infeasible from not now
	assign []int32 // bundle -> room
	steps  int
	budget int  // of steps, for each search
	unsure bool // a bounded search ran out: a no is no proof
	short  int  // shape that found no place, -1: all together
}

func newSolver(v *View, r *Request, empty bool) *solver {
	s := &solver{req: r, empty: empty, short: -1, budget: maxSteps, assign: make([]int32, len(r.Bundles))}
	s.makeShapes()
	s.makeRooms(v)
	s.weigh()
	return s
}

// makeShapes gathers equal bundles. Maps are looked up here, never ranged over.
func (s *solver) makeShapes() {
	byText := make(map[string]int)
	s.shape = make([]int32, len(s.req.Bundles))
	var last *Bundle
	var key []byte
	for i := range s.req.Bundles {
		b := &s.req.Bundles[i]
		if last != nil && last.Resources.Equal(b.Resources) && slices.Equal(last.Needs, b.Needs) {
			s.shape[i] = s.shape[i-1]
			s.shapes[s.shape[i]].members = append(s.shapes[s.shape[i]].members, int32(i))
			continue
		}
		last = b
		key = key[:0]
		for _, e := range b.Resources {
			key = append(append(key, e.Name...), 0)
			key = binary.LittleEndian.AppendUint64(key, uint64(e.Amount))
		}
		for _, n := range b.Needs {
			key = append(append(append(append(key, 1), n.Key...), 0), n.Expr...)
			key = append(key, 0)
		}
		at, known := byText[string(key)]
		if !known {
			at = len(s.shapes)
			byText[string(key)] = at
			sh := shape{res: b.Resources, needs: b.Needs}
			if s.req.Within != "" {
				sh.needs = append(slices.Clip(b.Needs), Need{s.req.Within, "exists()"})
			}
			for _, n := range sh.needs {
				t, err := n.parse()
				if err != nil { // Validate says so; here it is a need that nothing meets
					t = test{key: n.Key, values: nil}
				}
				sh.tests = append(sh.tests, t)
			}
			s.shapes = append(s.shapes, sh)
		}
		s.shape[i] = int32(at)
		s.shapes[at].members = append(s.shapes[at].members, int32(i))
	}
	for i := range s.shapes {
		for _, e := range s.shapes[i].res {
			if at, found := slices.BinarySearch(s.cols, e.Name); !found {
				s.cols = slices.Insert(s.cols, at, e.Name)
			}
		}
	}
	for i := range s.shapes {
		sh := &s.shapes[i]
		sh.need = make([]Amount, len(s.cols))
		for _, e := range sh.res {
			c, _ := slices.BinarySearch(s.cols, e.Name)
			sh.need[c] = e.Amount
			sh.cols = append(sh.cols, c)
		}
	}
}

func (s *solver) makeRooms(v *View) {
	labels := slices.ContainsFunc(s.shapes, func(sh shape) bool { return len(sh.tests) > 0 })
	s.rooms = make([]room, 0, len(v.nodes))
	free := make([]Amount, len(v.nodes)*len(s.cols))
	for _, n := range v.nodes {
		if n.State != Open && !s.empty {
			continue
		}
		r := room{node: n, rank: uint64(len(s.rooms))}
		if s.req.Seed != 0 {
			r.rank = mix(s.req.Seed ^ mix(uint64(n.Index)))
		}
		r.free, free = free[:len(s.cols):len(s.cols)], free[len(s.cols):]
		list := n.Free
		if s.empty {
			list = n.Total
		}
		for c, name := range s.cols {
			r.free[c] = list.Get(name)
		}
		s.makeDevices(&r)
		if labels {
			r.allowed = make([]bool, len(s.shapes))
			for i := range s.shapes {
				r.allowed[i] = true
				for t := range s.shapes[i].tests {
					r.allowed[i] = r.allowed[i] && s.shapes[i].tests[t].met(n)
				}
			}
		}
		s.active = append(s.active, int32(len(s.rooms)))
		s.rooms = append(s.rooms, r)
	}
}

func (s *solver) makeDevices(r *room) {
	for i := range r.node.Devices {
		d := &r.node.Devices[i]
		c, wanted := slices.BinarySearch(s.cols, d.Resource)
		if !wanted {
			r.spare = true
			continue
		}
		if r.devs == nil {
			r.devs = make([]devices, len(s.cols))
		}
		r.devs[c].has = true
		switch {
		case s.empty || d.Free == One:
			r.devs[c].whole++
		case d.Free > 0:
			r.devs[c].parts = slices.Insert(r.devs[c].parts, insertAt(r.devs[c].parts, d.Free), d.Free)
		}
	}
}

// weigh orders shapes by the largest share that one bundle takes of what the rooms have in all.
func (s *solver) weigh() {
	totals := make([]wide, len(s.cols))
	for i := range s.rooms {
		for c, a := range s.rooms[i].free {
			totals[c] = totals[c].add(a)
		}
	}
	s.hard = make([]int, len(s.shapes))
	for i := range s.shapes {
		sh := &s.shapes[i]
		s.hard[i] = i
		for _, c := range sh.cols {
			if t := totals[c].float(); t > 0 {
				sh.weight = max(sh.weight, float64(sh.need[c])/t)
			}
		}
	}
	slices.SortStableFunc(s.hard, func(a, b int) int { return cmp.Compare(s.shapes[b].weight, s.shapes[a].weight) })
}

// classify numbers the rooms that are equal, which the searches use to try only one of a kind.
func (s *solver) classify() {
	known := make(map[string]int32)
	var key []byte
	for i := range s.rooms {
		r := &s.rooms[i]
		key = key[:0]
		for c := range r.free {
			key = binary.LittleEndian.AppendUint64(key, uint64(r.free[c]))
			if r.devs != nil && r.devs[c].has {
				key = binary.LittleEndian.AppendUint32(key, uint32(r.devs[c].whole)+1)
				for _, p := range r.devs[c].parts {
					key = binary.LittleEndian.AppendUint32(key, uint32(p))
				}
			}
			key = append(key, 0xff)
		}
		for _, ok := range r.allowed {
			if ok {
				key = append(key, 1)
			} else {
				key = append(key, 0)
			}
		}
		if r.spare {
			key = append(key, 2)
		}
		class, ok := known[string(key)]
		if !ok {
			class = int32(len(known))
			known[string(key)] = class
		}
		r.class = class
	}
}

// fresh takes every placement back.
func (s *solver) fresh() {
	for i := range s.rooms {
		r := &s.rooms[i]
		if r.placed == 0 {
			continue
		}
		list := r.node.Free
		if s.empty {
			list = r.node.Total
		}
		for c, name := range s.cols {
			r.free[c] = list.Get(name)
			if r.devs != nil {
				r.devs[c].used, r.devs[c].fracs = 0, r.devs[c].fracs[:0]
			}
		}
		r.placed, r.load = 0, [2]uint64{}
	}
}

// possible is the quick proof of a no: a total that is short, or a shape with too few places.
func (s *solver) possible() bool {
	for c := range s.cols {
		var free, need wide
		for _, i := range s.active {
			free = free.add(s.rooms[i].free[c])
		}
		for i := range s.shapes {
			need = need.plus(times(s.shapes[i].need[c], len(s.shapes[i].members)))
		}
		if free.less(need) {
			return false
		}
	}
	for i := range s.shapes {
		n := len(s.shapes[i].members)
		each := n
		if s.req.Strategy == StrictSpread {
			each = 1
		}
		for _, r := range s.active {
			if n <= 0 {
				break
			}
			n -= s.capacity(&s.rooms[r], i, each)
		}
		if n > 0 {
			s.short = i
			return false
		}
	}
	return true
}

// better orders rooms that could take the same thing: those without devices that nobody asked for, then rank.
func (s *solver) better(a, b int32) int {
	x, y := &s.rooms[a], &s.rooms[b]
	if x.spare != y.spare {
		if y.spare {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(x.rank, y.rank); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

// fullness is how much room has left, as a sum of shares, for choosing the tightest.
func (s *solver) fullness(r *room) float64 {
	var sum float64
	for c := range s.cols {
		if total := r.node.Total.Get(s.cols[c]); total > 0 {
			sum += float64(r.free[c]) / float64(total)
		}
	}
	return sum
}

// groups are the network's subtrees with more than one room, the innermost first; rooms by index.
func (s *solver) groups() [][]int32 {
	depth := 0
	for i := range s.rooms {
		depth = max(depth, len(s.rooms[i].node.Topology))
	}
	if depth == 0 {
		return nil
	}
	order := slices.Clone(s.active)
	slices.SortStableFunc(order, func(a, b int32) int {
		return slices.CompareFunc(s.rooms[a].node.Topology, s.rooms[b].node.Topology, strings.Compare)
	})
	var out [][]int32
	for d := depth; d > 0; d-- {
		for lo := 0; lo < len(order); {
			path := s.rooms[order[lo]].node.Topology
			hi := lo + 1
			for hi < len(order) && len(path) >= d && samePrefix(path, s.rooms[order[hi]].node.Topology, d) {
				hi++
			}
			if len(path) >= d && hi-lo < len(order) {
				g := slices.Clone(order[lo:hi])
				slices.Sort(g)
				out = append(out, g)
			}
			lo = hi
		}
	}
	return out
}

func samePrefix(a, b []string, d int) bool { return len(b) >= d && slices.Equal(a[:d], b[:d]) }
