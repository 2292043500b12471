package head

import (
	"slices"
	"strconv"
	"strings"
)

// foldHosts writes names the way Slurm does: n[3-4,7],login. Names that differ only in their last
// number are folded; numbers keep their leading zeros. The order is by name, then number.
func foldHosts(names []string) string {
	type host struct {
		prefix string
		digits int // length of the number when it has leading zeros or could; names fold only with equal length then
		number uint64
		name   string
	}
	list := make([]host, 0, len(names))
	for _, name := range names {
		at := len(name)
		for at > 0 && name[at-1] >= '0' && name[at-1] <= '9' {
			at--
		}
		h := host{prefix: name, name: name, digits: -1}
		if n, err := strconv.ParseUint(name[at:], 10, 64); err == nil {
			h.prefix, h.number, h.digits = name[:at], n, 0
			if name[at] == '0' && len(name)-at > 1 {
				h.digits = len(name) - at
			}
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b host) int {
		switch {
		case a.prefix != b.prefix:
			return strings.Compare(a.prefix, b.prefix)
		case a.number != b.number && a.number < b.number:
			return -1
		case a.number != b.number:
			return 1
		}
		return a.digits - b.digits
	})
	// A number without leading zero belongs to a zero-padded run when it is as long: n009, n010.
	for i := 1; i < len(list); i++ {
		p, h := &list[i-1], &list[i]
		if h.digits == 0 && p.digits > 0 && p.prefix == h.prefix && len(h.name)-len(h.prefix) == p.digits {
			h.digits = p.digits
		}
	}
	list = slices.CompactFunc(list, func(a, b host) bool { return a.name == b.name })
	var out strings.Builder
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && list[i].digits >= 0 && list[j].prefix == list[i].prefix && list[j].digits == list[i].digits {
			j++
		}
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		if j == i+1 {
			out.WriteString(list[i].name)
			i = j
			continue
		}
		out.WriteString(list[i].prefix + "[")
		for k := i; k < j; {
			l := k + 1
			for l < j && list[l].number == list[l-1].number+1 {
				l++
			}
			if k > i {
				out.WriteByte(',')
			}
			out.WriteString(list[k].name[len(list[k].prefix):])
			if l > k+1 {
				out.WriteString("-" + list[l-1].name[len(list[l-1].prefix):])
			}
			k = l
		}
		out.WriteByte(']')
		i = j
	}
	return out.String()
}
