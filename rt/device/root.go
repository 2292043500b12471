package device

import (
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// machine is what all readers look at: files below a root, and an environment.
type machine struct {
	root   string
	lookup func(string) (string, bool)
}

func (o *Options) machine() *machine {
	m := &machine{root: o.Root, lookup: o.LookupEnv}
	if m.root == "" {
		m.root = "/"
	}
	switch {
	case m.lookup != nil:
	case o.Getenv == nil:
		m.lookup = os.LookupEnv
	default:
		m.lookup = func(name string) (string, bool) { v := o.Getenv(name); return v, v != "" }
	}
	return m
}

func (m *machine) getenv(name string) string {
	v, _ := m.lookup(name)
	return v
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

// read is a small file without its last newline; "" if it can't be read, which to all callers means: no such fact.
func (m *machine) read(name string) string {
	data, err := os.ReadFile(m.path(name))
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(data), "\n\x00")
}

// number is a file that holds one; -1 if it doesn't.
func (m *machine) number(name string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(m.read(name)), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// list is the names in a directory, in order of the numbers at their ends.
func (m *machine) list(dir string) []string {
	entries, _ := os.ReadDir(m.path(dir))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.SliceStable(names, func(i, j int) bool {
		a, b := names[i], names[j]
		x, y := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789")
		if x != y {
			return x < y
		}
		p, _ := strconv.Atoi(a[len(x):])
		q, _ := strconv.Atoi(b[len(y):])
		return p < q
	})
	return names
}

func (m *machine) exists(name string) bool {
	_, err := os.Stat(m.path(name))
	return err == nil
}

// env is the first of the variables that is set to something.
func (m *machine) env(names ...string) (value, name string) {
	for _, name := range names {
		if v := strings.TrimSpace(m.getenv(name)); v != "" {
			return v, name
		}
	}
	return "", ""
}

// parseList reads the kernel's and Slurm's lists: "0-3,8,10-11".
func parseList(s string) (out []int, ok bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(lo)
		if err != nil {
			return nil, false
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(hi); err != nil {
				return nil, false
			}
		}
		if a < 0 || b < a || b > 1<<16 {
			return nil, false
		}
		for n := a; n <= b; n++ {
			out = append(out, n)
		}
	}
	return out, true
}
