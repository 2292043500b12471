package sim

// event is something that happens at a moment.
type event struct {
	at   int64
	tie  uint64 // from the seed: orders what happens at the same moment
	seq  uint64
	kind string // for the hash and for people
	who  uint64
	host *host // that may be stopped, which delays it; nil: nobody's
	do   func()
}

func (e *event) before(o *event) bool {
	if e.at != o.at {
		return e.at < o.at
	}
	if e.tie != o.tie {
		return e.tie < o.tie
	}
	return e.seq < o.seq
}

// events is a binary heap.
type events struct{ list []event }

func (h *events) push(e event) {
	h.list = append(h.list, e)
	i := len(h.list) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h.list[i].before(&h.list[parent]) {
			break
		}
		h.list[i], h.list[parent] = h.list[parent], h.list[i]
		i = parent
	}
}

func (h *events) pop() event {
	top := h.list[0]
	n := len(h.list) - 1
	h.list[0] = h.list[n]
	h.list[n] = event{}
	h.list = h.list[:n]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if h.list[child].before(&h.list[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		h.list[i], h.list[least] = h.list[least], h.list[i]
		i = least
	}
}
