package gang

import (
	"bytes"
	"os"
	"unicode/utf8"
)

// terminal is the last line of a terminal: what a rank has not ended yet (a progress bar, a question)
// is shown there, and shown again below whatever is written meanwhile.
type terminal struct {
	width int
	text  string // what is to be seen
	drawn bool
	stale bool // text changed since it was drawn
}

func newTerminal(f *os.File) *terminal {
	_, cols := (&tty{fd: int(f.Fd())}).size()
	if cols == 0 {
		cols = 80
	}
	return &terminal{width: int(cols)}
}

// status sets the last line; "": none.
func (t *terminal) status(text string) {
	if text != t.text {
		t.text, t.stale = text, true
	}
}

// clear takes the last line away, before others are written.
func (t *terminal) clear(b *bytes.Buffer) {
	if t.drawn {
		b.WriteString("\r\x1b[K")
		t.drawn = false
	}
}

// draw shows the last line again.
func (t *terminal) draw(b *bytes.Buffer) {
	if t.drawn && !t.stale {
		return
	}
	t.clear(b)
	t.stale = false
	if t.text == "" {
		return
	}
	text := t.text
	for n, i := 0, 0; i < len(text); n++ { // one that wraps could not be taken away
		if n == t.width-1 {
			text = text[:i]
			break
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		i += size
	}
	b.WriteString(text)
	t.drawn = true
}
