package placement

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// FoldNames writes node names as Slurm does: n1, n2, n3, gpu07 becomes "gpu07,n[1-3]".
func FoldNames(list []string) string {
	type name struct {
		prefix string
		width  int // 0: no leading zero, so any width
		n      uint64
		digits bool
	}
	parsed := make([]name, 0, len(list))
	for _, s := range list {
		at := len(s)
		for at > 0 && s[at-1] >= '0' && s[at-1] <= '9' {
			at--
		}
		p := name{prefix: s}
		if n, err := strconv.ParseUint(s[at:], 10, 64); err == nil {
			p = name{prefix: s[:at], n: n, digits: true}
			if s[at] == '0' && len(s)-at > 1 {
				p.width = len(s) - at
			}
		}
		parsed = append(parsed, p)
	}
	// Numbers with leading zeros share a bracket with full ones of the same width.
	for i := range parsed {
		if parsed[i].width == 0 && parsed[i].digits {
			w := len(strconv.FormatUint(parsed[i].n, 10))
			if slices.ContainsFunc(parsed, func(p name) bool { return p.prefix == parsed[i].prefix && p.width == w }) {
				parsed[i].width = w
			}
		}
	}
	slices.SortFunc(parsed, func(a, b name) int {
		return cmp.Or(strings.Compare(a.prefix, b.prefix), boolCompare(a.digits, b.digits), cmp.Compare(a.width, b.width), cmp.Compare(a.n, b.n))
	})
	var b strings.Builder
	for lo := 0; lo < len(parsed); {
		hi := lo + 1
		for hi < len(parsed) && parsed[lo].digits && parsed[hi].digits && parsed[hi].prefix == parsed[lo].prefix && parsed[hi].width == parsed[lo].width {
			hi++
		}
		if lo > 0 {
			b.WriteByte(',')
		}
		b.WriteString(parsed[lo].prefix)
		if !parsed[lo].digits {
			lo = hi
			continue
		}
		number := func(n uint64) string {
			s := strconv.FormatUint(n, 10)
			return strings.Repeat("0", max(parsed[lo].width-len(s), 0)) + s
		}
		if hi-lo > 1 {
			b.WriteByte('[')
		}
		for i := lo; i < hi; {
			j := i
			for j+1 < hi && parsed[j+1].n <= parsed[j].n+1 {
				j++
			}
			if i > lo {
				b.WriteByte(',')
			}
			b.WriteString(number(parsed[i].n))
			if j > i {
				b.WriteString("-" + number(parsed[j].n))
			}
			i = j + 1
		}
		if hi-lo > 1 {
			b.WriteByte(']')
		}
		lo = hi
	}
	return b.String()
}
