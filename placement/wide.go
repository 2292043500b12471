package placement

import "math/bits"

// wide is a sum of amounts. Memory of a large cluster does not fit an Amount: 1,000 nodes of 1 TiB overflow it.
type wide struct{ hi, lo uint64 }

func (w wide) add(a Amount) wide {
	lo, carry := bits.Add64(w.lo, uint64(a), 0)
	return wide{w.hi + carry, lo}
}

func (w wide) sub(a Amount) wide {
	lo, borrow := bits.Sub64(w.lo, uint64(a), 0)
	return wide{w.hi - borrow, lo}
}

// times is n of a.
func times(a Amount, n int) wide {
	hi, lo := bits.Mul64(uint64(a), uint64(n))
	return wide{hi, lo}
}

func (w wide) plus(x wide) wide {
	lo, carry := bits.Add64(w.lo, x.lo, 0)
	return wide{w.hi + x.hi + carry, lo}
}

func (w wide) less(x wide) bool { return w.hi < x.hi || w.hi == x.hi && w.lo < x.lo }

// amount is w, or Max if it is more.
func (w wide) amount() Amount {
	if w.hi > 0 || w.lo > uint64(Max) {
		return Max
	}
	return Amount(w.lo)
}

// float is for scores, where a relative error does no harm.
func (w wide) float() float64 { return float64(w.hi)*float64(1<<63)*2 + float64(w.lo) }
