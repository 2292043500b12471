package gang

import "bytes"

// maxLine is where a line on a terminal or in a shared file is cut.
const maxLine = 64 << 10

// lines cuts a stream into lines. A carriage return begins the line anew, as on a terminal: of a
// progress bar's hundred states the last before the newline is the line.
type lines struct {
	part []byte // after the last newline
}

// feed gives each line that data ends to f, without its end, and how many bytes came after it.
func (l *lines) feed(data []byte, f func(line []byte, after int)) {
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			break
		}
		if len(l.part) > 0 {
			l.part = append(l.part, data[:i]...)
			f(shown(l.part), len(data)-i-1)
			l.part = l.part[:0]
		} else {
			f(shown(data[:i]), len(data)-i-1)
		}
		data = data[i+1:]
	}
	l.part = append(l.part, data...)
	if i := bytes.LastIndexByte(l.part, '\r'); i > 4<<10 { // only the last state can ever be shown
		if j := bytes.LastIndexByte(l.part[:i], '\r'); j > 0 {
			l.part = append(l.part[:0], l.part[j:]...)
		}
	}
	for len(l.part) > maxLine {
		f(shown(l.part[:maxLine]), len(l.part)-maxLine)
		l.part = append(l.part[:0], l.part[maxLine:]...)
	}
	if cap(l.part) > 2*maxLine && len(l.part) == 0 {
		l.part = nil
	}
}

// rest gives what has no end yet to f, as a line, when no more will come.
func (l *lines) rest(f func(line []byte)) {
	if len(l.part) > 0 {
		f(shown(l.part))
		l.part = nil
	}
}

// shown is what a terminal would show of a line: what follows the last carriage return that anything
// follows.
func shown(line []byte) []byte {
	line = bytes.TrimRight(line, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		return line[i+1:]
	}
	return line
}
