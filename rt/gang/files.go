package gang

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// names is what a pattern's letters stand for, for one rank.
type names struct {
	job, gang, user, node string
	rank, nodeRank        int
}

// expand writes a file's name: %j job, %x the gang's name, %t rank, %N node, %n its number in the gang,
// %u user, %% a percent sign. A number between pads with zeros, as in sbatch: %4t. What is unknown stays.
func expand(pattern string, n names) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' || i+1 == len(pattern) {
			b.WriteByte(pattern[i])
			continue
		}
		j := i + 1
		for j < len(pattern) && pattern[j] >= '0' && pattern[j] <= '9' && j-i <= 2 {
			j++
		}
		if j == len(pattern) {
			b.WriteString(pattern[i:])
			break
		}
		width, _ := strconv.Atoi(pattern[i+1 : j])
		switch pattern[j] {
		case 'j':
			b.WriteString(pad(n.job, width))
		case 'x':
			b.WriteString(n.gang)
		case 't':
			b.WriteString(pad(strconv.Itoa(n.rank), width))
		case 'N':
			b.WriteString(n.node)
		case 'n':
			b.WriteString(pad(strconv.Itoa(n.nodeRank), width))
		case 'u':
			b.WriteString(n.user)
		case '%':
			b.WriteByte('%')
		default:
			b.WriteString(pattern[i : j+1])
		}
		i = j
	}
	return b.String()
}

func pad(s string, width int) string {
	for len(s) < width {
		s = "0" + s
	}
	return s
}

// perPlace tells whether a pattern's file depends on where a rank runs.
func perPlace(pattern string) bool {
	n := names{node: "a", nodeRank: 1}
	return expand(pattern, n) != expand(pattern, names{node: "b", nodeRank: 2})
}

// openFiles is how many files are open at a time.
const openFiles = 256

// files are the output files of a run. One is truncated only when it is opened for the first time.
type files struct {
	add    bool // to what is in them
	opened map[string]bool
	open   map[string]*os.File
	order  []string // of open, the longest unused first
	failed map[string]error
}

func newFiles(add bool) *files {
	return &files{add: add, opened: map[string]bool{}, open: map[string]*os.File{}, failed: map[string]error{}}
}

func (f *files) file(path string) (*os.File, error) {
	if err := f.failed[path]; err != nil {
		return nil, err
	}
	if h := f.open[path]; h != nil {
		for i, p := range f.order {
			if p == path {
				f.order = append(append(f.order[:i], f.order[i+1:]...), path)
				break
			}
		}
		return h, nil
	}
	if len(f.order) >= openFiles {
		_ = f.open[f.order[0]].Close()
		delete(f.open, f.order[0])
		f.order = f.order[1:]
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if !f.add && !f.opened[path] {
		flags |= os.O_TRUNC
	}
	h, err := os.OpenFile(path, flags, 0o666)
	if err != nil {
		f.failed[path] = fmt.Errorf("output file: %w", err)
		return nil, f.failed[path]
	}
	f.opened[path] = true
	f.open[path] = h
	f.order = append(f.order, path)
	return h, nil
}

func (f *files) Write(path string, data []byte) error {
	h, err := f.file(path)
	if err != nil {
		return err
	}
	if _, err := h.Write(data); err != nil {
		f.failed[path] = fmt.Errorf("output file: %w; output to it is lost from here on", err)
		return f.failed[path]
	}
	return nil
}

func (f *files) close() error {
	var first error
	for _, p := range f.order {
		if err := f.open[p].Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// checkPattern finds out before anything runs whether files can be made.
func checkPattern(pattern, dir string, f *files, n names) error {
	path := expand(pattern, n)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if path == expand(pattern, names{job: n.job, gang: n.gang, user: n.user, node: "?", rank: 1, nodeRank: 1}) {
		_, err := f.file(path)
		return err
	}
	info, err := os.Stat(filepath.Dir(path))
	switch {
	case err == nil && !info.IsDir():
		err = fmt.Errorf("gang: output files: %s is no directory", filepath.Dir(path))
	case err != nil && !strings.Contains(filepath.Dir(pattern), "%"):
		err = fmt.Errorf("gang: output files: %w", err)
	case err != nil:
		err = nil
	}
	return err
}
