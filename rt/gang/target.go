package gang

import "path/filepath"

// target is a file of the rank's own, or the folder that it shares with others.
type target struct {
	folder *folder
	path   string
}

func (w *writer) target(k streamKey) (*folder, string) {
	t, ok := w.goes[k]
	if !ok {
		t.folder, t.path = w.resolve(k)
		w.goes[k] = t
	}
	return t.folder, t.path
}

func (w *writer) resolve(k streamKey) (*folder, string) {
	pattern, f := w.io.Output, w.stdout
	if k.stream == 2 {
		f = w.stderr
		if w.io.Error != "" {
			pattern = w.io.Error
		}
	}
	if pattern == "" {
		return f, ""
	}
	path := w.path(pattern, k)
	if w.world <= 1 || !w.isShared(pattern, path, k.incarnation) {
		return nil, path
	}
	if f = w.shared[path]; f == nil {
		f = newFolder(pathWriter{w.files, path}, w.world, w.io.Prefix == PrefixNever, nil)
		f.both = w.io.Error == ""
		w.shared[path] = f
	}
	return f, ""
}

func (w *writer) path(pattern string, k streamKey) string {
	path := expand(pattern, w.names(k.incarnation, k.rank))
	if !filepath.IsAbs(path) {
		path = filepath.Join(w.io.Dir, path)
	}
	return path
}

// isShared tells whether another rank writes to the same file.
func (w *writer) isShared(pattern, path string, incarnation uint32) bool {
	if _, have := w.shared[path]; have {
		return true
	}
	of := written{pattern, incarnation}
	if w.writes[of] == nil {
		w.writes[of] = make(map[string]int, w.world)
		for r := range uint32(w.world) {
			w.writes[of][w.path(pattern, streamKey{incarnation: incarnation, rank: r})]++
		}
	}
	return w.writes[of][path] > 1
}

// written names the files of an incarnation by one pattern.
type written struct {
	pattern     string
	incarnation uint32
}

// create makes the files of an incarnation's ranks before they write: of those that never will, too.
func (w *writer) create(incarnation uint32) {
	for r := range uint32(w.world) {
		for s := uint8(1); s <= 2; s++ {
			f, path := w.target(streamKey{incarnation, r, s})
			if f != nil {
				shared, _ := f.w.(pathWriter)
				path = shared.path
			}
			if path == "" {
				continue
			}
			if _, err := w.files.file(path); err != nil {
				w.unwritten(path, err)
			}
		}
	}
}

func (w *writer) names(incarnation, rank uint32) names {
	w.mu.Lock()
	n := w.node[[2]uint32{incarnation, rank}]
	w.mu.Unlock()
	n.job, n.gang, n.user, n.rank = w.io.Job, w.spec.Name, w.io.User, int(rank)
	return n
}

// pathWriter writes to a file of the set.
type pathWriter struct {
	files *files
	path  string
}

func (p pathWriter) Write(data []byte) (int, error) { return len(data), p.files.Write(p.path, data) }
