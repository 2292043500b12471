package placement

import (
	"slices"
)

// shape is what equal bundles ask for. Solving goes by shapes, so that a thousand equal bundles cost as much as one.
type shape struct {
	res     Resources
	needs   []Need
	tests   []test
	need    []Amount // by column
	cols    []int    // columns of which it needs something
	members []int32  // bundles
	weight  float64  // the largest share of any total that one bundle takes
}

// room is a node during one search: what is left of it, in the request's columns only.
type room struct {
	node    *Node
	free    []Amount
	devs    []devices // by column; nil: no column comes in devices here
	allowed []bool    // by shape: labels are met; nil: all
	class   int32     // rooms that began equal have one class
	spare   bool      // has devices that the request does not want
	placed  int32     // bundles
	load    [2]uint64 // sum of the hashes of the shapes placed: rooms of one class and load are equal
	rank    uint64    // order among rooms that are as good as each other
}

// devices is a resource of a room that comes in devices.
type devices struct {
	has   bool
	whole int      // wholly free at the start
	parts []Amount // free parts of the others, largest first
	used  int      // whole ones given to bundles
	fracs []Amount // parts asked by bundles of this search, largest first
}

const noColumn, labelColumn = -1, -2

// fit tells whether one more bundle of the shape fits. If not, it names the column that is short. This is the
// one test there is: every strategy asks it, and so does Explain (PLACE-8).
func (s *solver) fit(r *room, sh int) (short int, ok bool) {
	s.steps++
	if r.allowed != nil && !r.allowed[sh] {
		return labelColumn, false
	}
	shape := &s.shapes[sh]
	for _, c := range shape.cols {
		need := shape.need[c]
		if r.free[c] < need {
			return c, false
		}
		if r.devs != nil && r.devs[c].has && !s.fitDevices(&r.devs[c], need) {
			return c, false
		}
	}
	return noColumn, true
}

func (s *solver) fitDevices(d *devices, need Amount) bool {
	switch {
	case need.IsWhole():
		k := int(need / One)
		if len(d.fracs) == 0 {
			return d.whole-d.used >= k
		}
		return d.whole-d.used >= k && s.packable(d.parts, d.whole-d.used-k, d.fracs)
	case need > One:
		return false
	case len(d.fracs) == 0:
		return d.whole > d.used || len(d.parts) > 0 && d.parts[0] >= need
	}
	at := insertAt(d.fracs, need)
	d.fracs = slices.Insert(d.fracs, at, need)
	ok := s.packable(d.parts, d.whole-d.used, d.fracs)
	d.fracs = slices.Delete(d.fracs, at, at+1)
	return ok
}

// insertAt is where need goes in a list with the largest first.
func insertAt(list []Amount, need Amount) int {
	at := 0
	for at < len(list) && list[at] >= need {
		at++
	}
	return at
}

// put places one bundle, which must fit; pull takes it back.
func (s *solver) put(r *room, sh int) {
	shape := &s.shapes[sh]
	for _, c := range shape.cols {
		need := shape.need[c]
		r.free[c] -= need
		if r.devs != nil && r.devs[c].has {
			d := &r.devs[c]
			if need.IsWhole() {
				d.used += int(need / One)
			} else {
				d.fracs = slices.Insert(d.fracs, insertAt(d.fracs, need), need)
			}
		}
	}
	r.placed++
	for i := range r.load {
		r.load[i] += shapeHash(sh, i)
	}
}

func (s *solver) pull(r *room, sh int) {
	shape := &s.shapes[sh]
	for _, c := range shape.cols {
		need := shape.need[c]
		r.free[c] += need
		if r.devs != nil && r.devs[c].has {
			d := &r.devs[c]
			if need.IsWhole() {
				d.used -= int(need / One)
			} else {
				at := slices.Index(d.fracs, need)
				d.fracs = slices.Delete(d.fracs, at, at+1)
			}
		}
	}
	r.placed--
	for i := range r.load {
		r.load[i] -= shapeHash(sh, i)
	}
}

func shapeHash(sh, i int) uint64 { return mix(uint64(sh)*2 + uint64(i) + 1) }

// mix is splitmix64's finaliser: a fixed permutation of the 64-bit numbers that looks random.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// capacity is how many bundles of the shape an untouched room takes, up to limit.
func (s *solver) capacity(r *room, sh, limit int) int {
	s.steps++
	if r.allowed != nil && !r.allowed[sh] {
		return 0
	}
	shape := &s.shapes[sh]
	for _, c := range shape.cols {
		need := shape.need[c]
		n := r.free[c] / need
		if r.devs != nil && r.devs[c].has {
			d := &r.devs[c]
			switch {
			case need.IsWhole():
				n = Amount(d.whole) / (need / One)
			case need > One:
				n = 0
			default:
				n = Amount(d.whole) * (One / need)
				for _, p := range d.parts {
					n += p / need
				}
			}
		}
		if n < Amount(limit) {
			limit = int(n)
		}
	}
	return limit
}
