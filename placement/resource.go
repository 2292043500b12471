package placement

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Amount is a quantity in steps of 1/10,000: exact under any order of additions, which floats are not.
type Amount int64

// One is one CPU, one GPU, one byte, one of whatever is counted.
const One Amount = 10_000

// Max is the largest amount.
const Max Amount = math.MaxInt64

// The resources that have a meaning of their own. Every other name is a custom resource: it is counted and no more.
const (
	CPU    = "CPU"
	GPU    = "GPU"
	Memory = "memory" // bytes
)

// Whole is the amount of n units; it saturates.
func Whole(n int64) Amount {
	if n > int64(Max/One) {
		return Max
	}
	return Amount(n) * One
}

// Float is a as a float, for display and JSON.
func (a Amount) Float() float64 { return float64(a) / float64(One) }

// IsWhole tells whether a has no fraction.
func (a Amount) IsWhole() bool { return a%One == 0 }

// String is the shortest decimal: "2", "0.5", "0.0001".
func (a Amount) String() string {
	neg := ""
	u := uint64(a)
	if a < 0 {
		neg, u = "-", -u
	}
	s := neg + strconv.FormatUint(u/uint64(One), 10)
	if frac := u % uint64(One); frac != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%04d", frac), "0")
	}
	return s
}

// Resource is an amount of something.
type Resource struct {
	Name   string
	Amount Amount
}

// Resources are sorted by name, without duplicates and without zeros. Treat them as immutable: values are shared.
type Resources []Resource

// Make sorts list, adds up equal names and leaves out zeros. It fails on a negative amount, a bad name or an overflow.
func Make(list ...Resource) (Resources, error) {
	out := make(Resources, 0, len(list))
	for _, r := range list {
		name, err := resourceName(r.Name)
		if err != nil {
			return nil, err
		}
		if r.Amount < 0 {
			return nil, fmt.Errorf("placement: %s=%v is negative", name, r.Amount)
		}
		at, found := out.find(name)
		switch {
		case r.Amount == 0:
		case !found:
			out = slices.Insert(out, at, Resource{name, r.Amount})
		case out[at].Amount > Max-r.Amount:
			return nil, fmt.Errorf("placement: %s adds up to more than %v", name, Max)
		default:
			out[at].Amount += r.Amount
		}
	}
	return out, nil
}

func (r Resources) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r, name, func(e Resource, name string) int { return strings.Compare(e.Name, name) })
}

// Get is the amount of name, zero if there is none.
func (r Resources) Get(name string) Amount {
	if at, found := r.find(name); found {
		return r[at].Amount
	}
	return 0
}

// With is a copy of r in which name has the given amount.
func (r Resources) With(name string, amount Amount) Resources {
	at, found := r.find(name)
	out := slices.Clone(r)
	switch {
	case found && amount == 0:
		return slices.Delete(out, at, at+1)
	case found:
		out[at].Amount = amount
	case amount != 0:
		out = slices.Insert(out, at, Resource{name, amount})
	}
	return out
}

// Is tells, at no cost, whether r and s are one value; two may be equal all the same.
func (r Resources) Is(s Resources) bool {
	return len(r) == len(s) && (len(r) == 0 || &r[0] == &s[0])
}

// Equal tells whether r and s are the same.
func (r Resources) Equal(s Resources) bool { return r.Is(s) || slices.Equal(r, s) }
