// Package alike has messages about groups say once what many of their bundles have in common: 64 equal bundles are one with a number, and those of them that a
// node has are one with a list. Groups of many bundles are made of equal ones, as a rule, and most of what making one takes is to write and read them.
package alike

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Most is how many bundles a group may have.
const Most = 1 << 20

// Bundles gives a description's bundles one by one. Those that are alike are the same one. nil: there are more than Most.
func Bundles(list []*fb.BundleT) []*fb.BundleT {
	n := 0
	for _, b := range list {
		n += int(max(b.Times, 1))
	}
	if n > Most {
		return nil
	}
	if n == len(list) {
		return list
	}
	out := make([]*fb.BundleT, 0, n)
	for _, b := range list {
		one := *b
		one.Times = 0
		for range max(b.Times, 1) {
			out = append(out, &one)
		}
	}
	return out
}

// Fold says of bundles in their places what they have in common. same tells whether two have the same resources. Ranks, devices and CPUs are no two bundles'.
func Fold(list []*fb.BundlePlaceT, same func(a, b *fb.BundlePlaceT) bool) []*fb.BundlePlaceT {
	var out []*fb.BundlePlaceT
	for i, b := range list {
		if i > 0 {
			if last := out[len(out)-1]; bare(last) && bare(b) && same(last, b) {
				last.Also = append(last.Also, b.Index)
				continue
			}
		}
		one := *b
		out = append(out, &one)
	}
	return out
}

func bare(b *fb.BundlePlaceT) bool { return len(b.Devices)+len(b.Cpus) == 0 && b.Ranks == 0 }

// Places gives bundles in their places one by one.
func Places(list []*fb.BundlePlaceT) []*fb.BundlePlaceT {
	if !slices.ContainsFunc(list, func(b *fb.BundlePlaceT) bool { return len(b.Also) > 0 }) {
		return list
	}
	n := len(list)
	for _, b := range list {
		n += len(b.Also)
	}
	each, out := make([]fb.BundlePlaceT, n), make([]*fb.BundlePlaceT, n)
	at := 0
	for _, b := range list {
		for k := -1; k < len(b.Also); k++ {
			each[at] = *b
			each[at].Also = nil
			if k >= 0 {
				each[at].Index = b.Also[k]
			}
			out[at] = &each[at]
			at++
		}
	}
	return out
}
