package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxHosts bounds what one host list may expand to; the largest machines have a tenth of it.
const MaxHosts = 1 << 17

// maxDigits keeps numbers in an int64; a longer run of digits is part of the name.
const maxDigits = 18

// ParseHosts expands a host list such as "n[01-03,7],gpu[0-1]x[0-3]-ib,login" in its own order, which
// is the order in which Slurm numbers the nodes. Several brackets in one name multiply, the last one
// turning fastest.
func ParseHosts(s string) ([]string, error) {
	var hosts []string
	for len(s) > 0 {
		part, rest, err := cutHosts(s)
		if err != nil {
			return nil, fmt.Errorf("slurm: host list: %w", err)
		}
		if part == "" {
			return nil, fmt.Errorf("slurm: host list: empty name before %q", clip(rest))
		}
		if hosts, err = expand(hosts, part); err != nil {
			return nil, fmt.Errorf("slurm: host list: %w", err)
		}
		s = rest
	}
	return hosts, nil
}

// cutHosts takes the text up to the first comma outside of brackets.
func cutHosts(s string) (part, rest string, err error) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '[':
			if depth++; depth > 1 {
				return "", "", fmt.Errorf("a bracket inside of a bracket in %q", clip(s))
			}
		case ']':
			if depth--; depth < 0 {
				return "", "", fmt.Errorf("a ] without its [ in %q", clip(s))
			}
		case ',':
			if depth == 0 {
				if rest = s[i+1:]; rest == "" {
					return "", "", fmt.Errorf("a comma at the end of %q", clip(s))
				}
				return s[:i], rest, nil
			}
		case ' ', '\t', '\n':
			return "", "", fmt.Errorf("a space in %q", clip(s))
		}
	}
	if depth != 0 {
		return "", "", fmt.Errorf("a [ without its ] in %q", clip(s))
	}
	return s, "", nil
}

// expand appends the names that one part stands for.
func expand(hosts []string, part string) ([]string, error) {
	names := []string{""}
	for part != "" {
		text, rest, found := strings.Cut(part, "[")
		for i := range names {
			names[i] += text
		}
		if !found {
			break
		}
		inside, after, _ := strings.Cut(rest, "]")
		room := (MaxHosts - len(hosts)) / len(names)
		numbers, err := expandRanges(inside, room)
		if err != nil {
			return nil, err
		}
		product := make([]string, 0, len(names)*len(numbers))
		for _, name := range names {
			for _, number := range numbers {
				product = append(product, name+number)
			}
		}
		names, part = product, after
	}
	if len(hosts)+len(names) > MaxHosts {
		return nil, fmt.Errorf("more than %d hosts", MaxHosts)
	}
	return append(hosts, names...), nil
}

// expandRanges turns "01-03,7" into 01, 02, 03, 7: the width of the lower end is kept.
func expandRanges(s string, room int) ([]string, error) {
	var numbers []string
	for _, r := range strings.Split(s, ",") {
		low, high, isRange := strings.Cut(r, "-")
		if !isRange {
			high = low
		}
		a, errA := parseNumber(low)
		b, errB := parseNumber(high)
		switch {
		case errA != nil || errB != nil:
			return nil, fmt.Errorf("%q is not a range of numbers", clip(r))
		case b < a:
			return nil, fmt.Errorf("the range %q runs backwards", clip(r))
		case b-a >= int64(room-len(numbers)):
			return nil, fmt.Errorf("more than %d hosts", MaxHosts)
		}
		for n := a; n <= b; n++ {
			numbers = append(numbers, pad(n, len(low)))
		}
	}
	return numbers, nil
}

func parseNumber(s string) (int64, error) {
	if s == "" || len(s) > maxDigits {
		return 0, strconv.ErrSyntax
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, strconv.ErrSyntax
		}
	}
	return strconv.ParseInt(s, 10, 64)
}

func pad(n int64, width int) string {
	s := strconv.FormatInt(n, 10)
	if len(s) < width {
		s = strings.Repeat("0", width-len(s)) + s
	}
	return s
}

// name is a host name cut at its last number: prefix, digits, suffix.
type name struct {
	prefix, digits, suffix string
	number                 int64
}

func cutName(s string) name {
	end := len(s)
	for end > 0 && (s[end-1] < '0' || s[end-1] > '9') {
		end--
	}
	start := end
	for start > 0 && end-start < maxDigits && s[start-1] >= '0' && s[start-1] <= '9' {
		start--
	}
	n := name{prefix: s[:start], digits: s[start:end], suffix: s[end:]}
	if n.digits == "" {
		return name{prefix: s}
	}
	n.number, _ = strconv.ParseInt(n.digits, 10, 64)
	return n
}

func sortedNames(hosts []string) []name {
	names := make([]name, len(hosts))
	for i, h := range hosts {
		names[i] = cutName(h)
	}
	slices.SortFunc(names, func(a, b name) int {
		if c := strings.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		if c := strings.Compare(a.suffix, b.suffix); c != 0 {
			return c
		}
		// Shorter numbers first: for plain ones that is their order, and padded ones stay together.
		if d := len(a.digits) - len(b.digits); d != 0 {
			return d
		}
		return strings.Compare(a.digits, b.digits)
	})
	return slices.Compact(names)
}

// FoldHosts is the short form of a set of host names, sorted: n1,n2,n3 is n[1-3].
func FoldHosts(hosts []string) string {
	names := sortedNames(hosts)
	var b strings.Builder
	for i := 0; i < len(names); {
		if i > 0 {
			b.WriteByte(',')
		}
		group := i
		for group < len(names) && names[group].prefix == names[i].prefix && names[group].suffix == names[i].suffix && names[i].digits != "" {
			group++
		}
		if group <= i+1 {
			b.WriteString(names[i].prefix + names[i].digits + names[i].suffix)
			i++
			continue
		}
		b.WriteString(names[i].prefix + "[")
		writeRuns(&b, names[i:group])
		b.WriteString("]" + names[i].suffix)
		i = group
	}
	return b.String()
}

func writeRuns(b *strings.Builder, names []name) {
	for i := 0; i < len(names); {
		width, last := len(names[i].digits), i
		for last+1 < len(names) && names[last+1].number == names[last].number+1 && names[last+1].digits == pad(names[last+1].number, width) {
			last++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(names[i].digits)
		if last > i {
			b.WriteString("-" + names[last].digits)
		}
		i = last + 1
	}
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}
