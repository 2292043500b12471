package slurm

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// GRES is a generic resource: gpu:h100:4 is {gpu, h100, 4}. Index holds the devices where Slurm
// prints them, as "gpu:h100:2(IDX:0-1)".
type GRES struct {
	Name  string
	Type  string
	Count int64
	Index []int
}

// ParseGRES reads a list such as "gpu:h100:4(S:0-1),shard:1K", "gres:gpu:4", "gres/gpu:h100=4".
// (null), N/A and the empty string are no resources.
func ParseGRES(s string) ([]GRES, error) {
	if none(s) {
		return nil, nil
	}
	var list []GRES
	for _, part := range splitOutside(s) {
		g, err := parseOneGRES(part)
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

func parseOneGRES(part string) (g GRES, err error) {
	bad := func() (GRES, error) {
		return GRES{}, fmt.Errorf("slurm: gres %q: not NAME[:TYPE][:COUNT]", clip(part))
	}
	text, note, noted := strings.Cut(part, "(")
	if noted {
		note, _ = strings.CutSuffix(note, ")")
		if list, ok := strings.CutPrefix(note, "IDX:"); ok && list != "N/A" {
			if g.Index, err = ParseIndexes(list); err != nil {
				return bad()
			}
		}
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "gres/"), "gres:")
	text = strings.Replace(text, "=", ":", 1)
	fields := strings.Split(text, ":")
	g.Name, g.Count = fields[0], 1
	if g.Name == "" || len(fields) > 3 {
		return bad()
	}
	last := fields[len(fields)-1]
	if count, err := parseCount(last); err == nil && len(fields) > 1 {
		g.Count, fields = count, fields[:len(fields)-1]
	} else if len(fields) == 3 {
		return bad()
	}
	if len(fields) == 2 {
		if g.Type = fields[1]; g.Type == "" {
			return bad()
		}
	}
	return g, nil
}

// parseCount reads a number with Slurm's binary suffixes.
func parseCount(s string) (int64, error) {
	shift := 0
	if n := len(s); n > 1 {
		if i := strings.IndexByte("KMGTP", s[n-1]&^0x20); i >= 0 {
			shift, s = 10*(i+1), s[:n-1]
		}
	}
	n, err := parseNumber(s)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, strconv.ErrSyntax
	}
	return n << shift, nil
}

// ParseIndexes reads a list of small numbers such as "0-1,3", as in SLURM_JOB_GPUS.
func ParseIndexes(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	numbers, err := expandRanges(s, 4096)
	if err != nil {
		return nil, fmt.Errorf("slurm: indexes: %w", err)
	}
	list := make([]int, len(numbers))
	for i, n := range numbers {
		list[i], _ = strconv.Atoi(n)
	}
	return list, nil
}

// TRES are trackable resources by name, in the units of Slurm: mem in bytes, the rest counted.
type TRES map[string]int64

// ParseTRES reads a list such as "cpu=8,mem=4000M,node=2,billing=8,gres/gpu:h100=4".
func ParseTRES(s string) (TRES, error) {
	t := TRES{}
	if none(s) {
		return t, nil
	}
	for _, part := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		var n int64
		var err error
		if key == "mem" {
			n, err = ParseMemory(value)
		} else {
			n, err = parseCount(value)
		}
		if !ok || key == "" || err != nil {
			return nil, fmt.Errorf("slurm: tres %q: not NAME=COUNT", clip(part))
		}
		t[key] = n
	}
	return t, nil
}

// none says whether Slurm means "nothing" by s.
func none(s string) bool { return s == "" || s == "(null)" || s == "N/A" || s == "none" }

// splitOutside splits at commas that are not in parentheses or brackets.
func splitOutside(s string) []string {
	var parts []string
	depth, start := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, s[start:])
}
