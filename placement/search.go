package placement

// search looks for any placement on at most so many nodes, hardest bundles first, and remembers it in assign.
// It is exact: what it leaves out has an equal that it tries. Out of steps it says no and sets unsure.
func (s *solver) search(nodes, steps int) bool {
	s.fresh()
	s.classify()
	q := &search{s: s, nodes: nodes, until: s.steps + steps, dead: make(map[[3]uint64]struct{})}
	for _, sh := range s.hard {
		for range s.shapes[sh].members {
			q.items = append(q.items, sh)
		}
	}
	q.to = make([]int32, len(q.items))
	q.need = make([]wide, len(s.cols))
	q.used = make([]wide, len(s.cols))
	q.rest = make([]wide, len(s.cols))
	for c := range s.cols {
		for i := range s.shapes {
			q.need[c] = q.need[c].plus(times(s.shapes[i].need[c], len(s.shapes[i].members)))
		}
		for _, r := range s.active {
			q.rest[c] = q.rest[c].add(s.rooms[r].free[c])
		}
	}
	if !q.place(0) {
		s.fresh()
		return false
	}
	next := make([]int, len(s.shapes))
	for i, sh := range q.items {
		s.assign[s.shapes[sh].members[next[sh]]] = q.to[i]
		next[sh]++
	}
	return true
}

type search struct {
	s     *solver
	items []int   // shapes, equal ones next to each other
	to    []int32 // the room of each item
	nodes int     // how many may be used
	open  int     // how many are
	until int     // steps

	need []wide // what the rest of the items ask, by column
	used []wide // what is free in rooms in use
	rest []wide // what is free in the others

	sum  [2]uint64 // of the hashes of all rooms in use
	dead map[[3]uint64]struct{}
}

// maxTried bounds how many kinds of rooms are remembered at one item; an equal one beyond is tried again.
const maxTried = 32

// maxDead bounds the memory of the search's list of dead ends.
const maxDead = 100_000

// place puts items[i:]. The first of equal items goes to the earliest room of all, and of rooms that are equal
// in what they began with and hold, only the first is tried: the least solution in that order passes both tests.
func (q *search) place(i int) bool {
	s := q.s
	if i == len(q.items) {
		return true
	}
	sh := q.items[i]
	from := 0
	if i > 0 && q.items[i-1] == sh {
		from = int(q.to[i-1])
	}
	for c := range s.cols {
		have := q.used[c]
		if q.open < q.nodes {
			have = have.plus(q.rest[c])
		}
		if have.less(q.need[c]) {
			return false
		}
	}
	key := [3]uint64{uint64(i), q.sum[0], q.sum[1]}
	if from == 0 {
		if _, known := q.dead[key]; known {
			return false
		}
	}
	// Rooms in use first, for the fewest nodes; for SPREAD the untouched first.
	order := [2]bool{true, false}
	if s.req.Strategy == Spread {
		order = [2]bool{false, true}
	}
	for _, inUse := range order {
		if !inUse && q.open >= q.nodes {
			continue
		}
		if q.among(i, sh, from, inUse) {
			return true
		}
		if s.unsure && s.steps > q.until {
			return false
		}
	}
	if from == 0 && len(q.dead) < maxDead {
		q.dead[key] = struct{}{}
	}
	return false
}

func (q *search) among(i, sh, from int, inUse bool) bool {
	s := q.s
	var tried [][3]uint64
	for _, at := range s.active {
		r := &s.rooms[at]
		if (r.placed > 0) != inUse {
			continue
		}
		if s.steps > q.until {
			s.unsure = true
			return false
		}
		s.steps++
		kind := [3]uint64{uint64(r.class), r.load[0], r.load[1]}
		if containsKind(tried, kind) {
			continue
		}
		if len(tried) < maxTried {
			tried = append(tried, kind)
		}
		if int(at) < from {
			continue
		}
		if _, ok := s.fit(r, sh); !ok {
			continue
		}
		q.move(r, sh, true)
		q.to[i] = at
		if q.place(i + 1) {
			return true
		}
		q.move(r, sh, false)
		if s.unsure && s.steps > q.until {
			return false
		}
	}
	return false
}

func containsKind(list [][3]uint64, kind [3]uint64) bool {
	for i := range list {
		if list[i] == kind {
			return true
		}
	}
	return false
}

// move puts an item into a room or takes it out, and keeps the sums.
func (q *search) move(r *room, sh int, in bool) {
	s := q.s
	before := r.placed
	q.hash(r, -1)
	if in {
		s.put(r, sh)
	} else {
		s.pull(r, sh)
	}
	q.hash(r, 1)
	opens, closes := before == 0, r.placed == 0
	for c, need := range s.shapes[sh].need {
		switch {
		case opens: // the room moves over with what it has left
			q.rest[c] = q.rest[c].sub(r.free[c] + need)
			q.used[c] = q.used[c].add(r.free[c])
			q.need[c] = q.need[c].sub(need)
		case closes:
			q.rest[c] = q.rest[c].add(r.free[c])
			q.used[c] = q.used[c].sub(r.free[c] - need)
			q.need[c] = q.need[c].add(need)
		case in:
			q.used[c] = q.used[c].sub(need)
			q.need[c] = q.need[c].sub(need)
		default:
			q.used[c] = q.used[c].add(need)
			q.need[c] = q.need[c].add(need)
		}
	}
	if opens {
		q.open++
	}
	if closes {
		q.open--
	}
}

func (q *search) hash(r *room, sign int) {
	if r.placed == 0 {
		return
	}
	for i := range q.sum {
		h := mix(r.load[i] ^ mix(uint64(r.class)+uint64(i)*0x51ed27))
		if sign > 0 {
			q.sum[i] += h
		} else {
			q.sum[i] -= h
		}
	}
}
