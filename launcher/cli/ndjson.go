package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
)

// With --json standard output is NDJSON from the first line to the last: what programs print comes as
// records too, so that a script can read all of it with one parser.

// outputRecord is a line that ranks printed.
type outputRecord struct {
	Version int    `json:"version"`
	Event   string `json:"event"`           // output
	Ranks   []int  `json:"ranks,omitempty"` // who printed it, within a moment; absent for a driver or a batch job
	Count   int    `json:"count,omitempty"` // how many, where the ranks are too scattered to be named
	Task    string `json:"task,omitempty"`  // of a batch job's array
	Stream  string `json:"stream"`          // stdout, stderr
	Text    string `json:"text"`            // without its end; bytes that are no UTF-8 are replaced
}

// records makes records of the lines of one stream. A gang marks each line with its ranks; what bears no
// mark is a message of ours and goes where messages go.
type records struct {
	to, messages io.Writer
	stream, task string
	marked       bool // lines begin with "[ranks] "
	driver       bool // whose rank 0 is no rank
	part         []byte
}

func (r *records) Write(p []byte) (int, error) {
	r.part = append(r.part, p...)
	end := bytes.LastIndexByte(r.part, '\n') + 1
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for line := range bytes.Lines(r.part[:end]) {
		rec := outputRecord{Version: 1, Event: "output", Task: r.task, Stream: r.stream, Text: string(line[:len(line)-1])}
		if r.marked && !r.mark(&rec) {
			if _, err := r.messages.Write(line); err != nil {
				return 0, err
			}
			continue
		}
		if err := enc.Encode(rec); err != nil {
			return 0, err
		}
	}
	r.part = append(r.part[:0], r.part[end:]...)
	if out.Len() > 0 {
		if _, err := r.to.Write(out.Bytes()); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// mark moves the mark of a line to where it belongs in the record; false: there is none.
func (r *records) mark(rec *outputRecord) bool {
	who, text, ok := strings.Cut(rec.Text, "] ")
	if !ok || who[:min(1, len(who))] != "[" {
		return false
	}
	if n, ok := strings.CutSuffix(strings.TrimPrefix(who, "[x"), " ranks"); ok {
		count, err := strconv.Atoi(n)
		rec.Count, rec.Text = count, text
		return err == nil
	}
	var ranks []int
	for _, piece := range strings.Split(who[1:], ",") {
		lo, hi, isRange := strings.Cut(piece, "-")
		if !isRange {
			hi = lo
		}
		a, err1 := strconv.Atoi(lo)
		b, err2 := strconv.Atoi(hi)
		if err1 != nil || err2 != nil || b-a > 1<<20 {
			return false
		}
		for ; a <= b; a++ {
			ranks = append(ranks, a)
		}
	}
	rec.Text = text
	if !r.driver {
		rec.Ranks = ranks
	}
	return true
}
