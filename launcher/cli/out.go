package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// json prints v as one line.
func (a *app) json(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("json: %w", err)
	}
	_, err = a.stdout.Write(append(data, '\n'))
	return err
}

// raw prints a state reply, which is JSON with a version already.
func (a *app) raw(data json.RawMessage) error {
	_, err := fmt.Fprintf(a.stdout, "%s\n", data)
	return err
}

// table prints rows under headings, each line behind indent.
func table(w io.Writer, indent, headings string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, indent+strings.Join(strings.Fields(headings), "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.TrimRight(indent+strings.Join(r, "\t"), "\t "))
	}
	t.Flush()
}

// size is bytes as people read them.
func size(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			return trim(n) + " " + unit
		}
		n /= 1024
	}
	return trim(n) + " TiB"
}

func trim(n float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") }

// since says how long ago t was.
func since(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
