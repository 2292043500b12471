package objstore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Explanation is who holds what of the node's memory.
type Explanation struct {
	Limit, Total       int64
	Accounts           [accounts]int64
	Primary, Secondary Tally // objects in arenas
	Copies             Tally // of the secondary ones, what can be had elsewhere
	Open               int64 // lent and not sealed
	Holes              int64 // released, but of slabs that processes still map
	Free               int64 // in arenas, of nobody
	Largest            int64 // piece that is free
	Growing            int64 // asked of the system
	Spilled            Tally // objects in files, in memory or not
	Files              int64 // bytes of the files
	Writing            int64 // being written to files
	Moved              Traffic
	Disk               error // why nothing can be spilled; nil: nothing was tried, or it worked
	Holders            []Holder
	Waiting            int  // requests
	Bounded            bool // arenas may not grow to the limit now, because the node's memory is short
}

// Tally is a number of objects and their bytes.
type Tally struct {
	Objects int
	Bytes   int64
}

func (t *Tally) add(sign, bytes int64) {
	t.Objects += int(sign)
	t.Bytes += sign * bytes
}

// Holder is what one process keeps from being used otherwise.
type Holder struct {
	Process id.Process
	Open    int64 // bytes that it may write
	Views   Tally // objects whose location it has
}

// Explain says who holds what, holders of the most first.
func (s *Store) Explain() Explanation {
	e := Explanation{Limit: s.budget.limit, Total: s.budget.total, Accounts: s.budget.used,
		Primary: s.sealed[0], Secondary: s.sealed[1], Copies: s.copies, Waiting: len(s.queue),
		Bounded: s.bounded, Spilled: s.filed, Files: s.fileBytes, Writing: s.writingBytes, Moved: s.moved, Disk: s.diskErr}
	for _, sl := range s.lending {
		e.Open += sl.opened
		e.Holes += sl.holes
	}
	if s.growing != nil {
		e.Growing = s.growing.size
	}
	e.Free = s.budget.used[Arenas] - e.Growing - e.Open - e.Holes - e.Primary.Bytes - e.Secondary.Bytes
	e.Largest = s.pool.largest(Grain)
	numbers := make([]id.Process, 0, len(s.processes))
	for n := range s.processes {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		p := s.processes[n]
		if h := (Holder{p.number, p.opened, Tally{len(p.viewed), p.viewedBytes}}); h.Open > 0 || h.Views.Objects > 0 {
			e.Holders = append(e.Holders, h)
		}
	}
	slices.SortStableFunc(e.Holders, func(a, b Holder) int {
		return cmp.Compare(b.Open+b.Views.Bytes, a.Open+a.Views.Bytes)
	})
	return e
}

// named is how many holders a text names.
const named = 5

// Text is the explanation on one line.
func (e Explanation) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s are used: arenas %s (%s in %d objects", Bytes(e.Total), Bytes(e.Limit), Bytes(e.Accounts[Arenas]), Bytes(e.Primary.Bytes), e.Primary.Objects)
	for _, part := range []struct {
		n    int64
		what string
	}{
		{e.Secondary.Bytes, "that can be had again, and go first"}, {e.Open, "being written"}, {e.Holes, "released in slabs that their writers keep"},
		{e.Growing, "asked of the system"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&b, ", %s %s", Bytes(part.n), part.what)
		}
	}
	fmt.Fprintf(&b, ", %s free, in pieces of up to %s)", Bytes(e.Free), Bytes(e.Largest))
	for a := Inline; a < accounts; a++ {
		if e.Accounts[a] > 0 {
			fmt.Fprintf(&b, ", %s %s", a, Bytes(e.Accounts[a]))
		}
	}
	if e.Bounded {
		b.WriteString(", and the node has no memory for more now")
	}
	if e.Files > 0 {
		fmt.Fprintf(&b, ", %s in %d objects spilled to files", Bytes(e.Spilled.Bytes), e.Spilled.Objects)
	}
	for i, h := range e.Holders {
		if i == named {
			fmt.Fprintf(&b, "; and %d more processes", len(e.Holders)-named)
			break
		}
		fmt.Fprintf(&b, "; %s", ProcessName(h.Process))
		if h.Views.Objects > 0 {
			fmt.Fprintf(&b, " holds %s in %d objects", Bytes(h.Views.Bytes), h.Views.Objects)
		}
		if h.Open > 0 {
			if h.Views.Objects > 0 {
				b.WriteString(" and")
			}
			fmt.Fprintf(&b, " has %s to write", Bytes(h.Open))
		}
	}
	return b.String()
}

// Bytes writes a size for people.
func Bytes(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/(1<<10), 0
	for f >= 1023.95 && u < len(units)-1 {
		f, u = f/(1<<10), u+1
	}
	return fmt.Sprintf("%.4g %s", f, units[u])
}
