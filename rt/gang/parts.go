package gang

import (
	"slices"
	"time"
)

// stateEvery is how often a line without an end (a progress bar) is written where no terminal shows it.
const stateEvery = 10 * time.Second

// parts shows what has no end yet: on a terminal's last line, elsewhere now and then as a line.
func (w *writer) parts(now int64) {
	if w.raw {
		return
	}
	keys := make([]streamKey, 0, len(w.parted))
	for k := range w.parted {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, streamKey.compare)
	var newest *received
	var who streamKey
	var where *folder
	for _, k := range keys {
		st := w.parted[k]
		f, path := w.target(k)
		if path != "" {
			continue
		}
		if f.term == nil {
			w.partAsLine(f, k, st, now)
			continue
		}
		if newest == nil || st.at >= newest.at {
			newest, who, where = st, k, f
		}
	}
	if w.stdout.term != nil || w.stderr.term != nil {
		text := ""
		if newest != nil {
			text = string(shown(newest.part.part))
			if !where.plain {
				text = where.mark(said{origin: origin{rank: int(who.rank)}}) + text
			}
		}
		for _, f := range []*folder{w.stdout, w.stderr} {
			if f.term != nil {
				f.term.status(text)
			}
		}
	}
}

// partAsLine writes a progress bar's state every now and then.
func (w *writer) partAsLine(f *folder, k streamKey, st *received, now int64) {
	if i := slices.Index(st.part.part, '\r'); i < 0 {
		return
	}
	if st.told == 0 {
		st.told = now
	}
	text := string(shown(st.part.part))
	if now-st.told >= int64(stateEvery) && text != st.seen {
		st.told, st.seen = now, text
		f.add(origin{rank: int(k.rank)}, []byte(text), now)
	}
}

// rest ends the lines of streams whose end never came.
func (w *writer) rest(now int64) {
	keys := make([]streamKey, 0, len(w.parted))
	for k := range w.parted {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, streamKey.compare)
	for _, k := range keys {
		w.ended(k, w.parted[k], now)
	}
}
