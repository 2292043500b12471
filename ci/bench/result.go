package main

import (
	"math"
	"slices"
)

// Result is one line of docs/perf/*.json (schema 2).
type Result struct {
	Schema  int       `json:"schema"`
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`   // of ours and theirs: s, ms, MiB, count
	Of      string    `json:"of"`     // what the figure is: "median", "median ratio", "median difference", "failures"
	Figure  float64   `json:"figure"` // what the bar is about
	Low     float64   `json:"low"`    // range of the figure over the pairs or runs
	High    float64   `json:"high"`
	P90     float64   `json:"p90"`
	P99     float64   `json:"p99"`
	Limit   float64   `json:"limit,omitempty"`  // meaningful if Bar
	Each    float64   `json:"each,omitempty"`   // what no pair or run may pass, if not 0
	Bar     bool      `json:"bar"`              // false: reported only
	Least   bool      `json:"least,omitempty"`  // the limit is a least value, not a most
	Pass    bool      `json:"pass"`             // the bar holds, or there is none
	Peer    string    `json:"peer,omitempty"`   // what ours was paired with
	Ours    []float64 `json:"ours,omitempty"`   // per run
	Theirs  []float64 `json:"theirs,omitempty"` // per run, in the same order
	Note    string    `json:"note,omitempty"`
	Error   string    `json:"error,omitempty"`   // why it could not be measured; it then does not pass
	Skipped string    `json:"skipped,omitempty"` // why it was left out on purpose; it then does not pass
}

// result makes a result of samples, each of which is one value of the figure.
func result(name, unit, of string, samples []float64) Result {
	sorted := slices.Sorted(slices.Values(samples))
	r := Result{Schema: schema, Name: name, Unit: unit, Of: of, Pass: true}
	if len(sorted) == 0 {
		r.Pass, r.Error = false, "nothing was measured"
		return r
	}
	r.Figure, r.Low, r.High = median(sorted), sorted[0], sorted[len(sorted)-1]
	r.P90, r.P99 = percentile(sorted, 90), percentile(sorted, 99)
	return r
}

// paired makes a result of runs in pairs: the figure is the median of ours/theirs.
func paired(name, unit, peer string, ours, theirs []float64) Result {
	r := result(name, unit, "median ratio", each(ours, theirs, func(a, b float64) float64 { return a / b }))
	r.Peer, r.Ours, r.Theirs = peer, ours, theirs
	return r
}

// more makes a result of runs in pairs: the figure is the median of ours less theirs.
func more(name, unit, peer string, ours, theirs []float64) Result {
	r := result(name, unit, "median difference", each(ours, theirs, func(a, b float64) float64 { return a - b }))
	r.Peer, r.Ours, r.Theirs = peer, ours, theirs
	return r
}

// single makes a result of runs of ours alone.
func single(name, unit string, runs []float64) Result {
	r := result(name, unit, "median", runs)
	r.Ours = runs
	return r
}

// failures makes a result of things that hold or don't; one that doesn't is too many.
func failures(name string, failed int) Result {
	return result(name, "", "failures", []float64{float64(failed)}).most(0)
}

// most is r with a bar: of pairs the median has to be within the limit, of runs of ours alone the median
// and nine in ten.
func (r Result) most(limit float64) Result {
	r.Bar, r.Limit = true, limit
	r.Pass = r.Pass && r.Figure <= limit && (r.Peer != "" || r.P90 <= limit)
	return r
}

// least is r with a bar from below, which every run has to reach.
func (r Result) least(limit float64) Result {
	r.Bar, r.Limit, r.Least = true, limit, true
	r.Pass = r.Pass && r.Low >= limit
	return r
}

// atMost is r with a bar of which the median has to be within the limit, and no pair or run beyond twice it.
func (r Result) atMost(limit float64) Result {
	r.Bar, r.Limit, r.Each = true, limit, 2*limit
	r.Pass = r.Pass && r.Figure <= limit && r.High <= r.Each
	return r
}

// atLeast is r with a bar from below: the median has to reach the limit, and each pair or run half of it.
func (r Result) atLeast(limit float64) Result {
	r.Bar, r.Limit, r.Each, r.Least = true, limit, limit/2, true
	r.Pass = r.Pass && r.Figure >= limit && r.Low >= r.Each
	return r
}

func (r Result) noted(text string) Result {
	r.Note = text
	return r
}

func each(a, b []float64, f func(a, b float64) float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = f(a[i], b[i])
	}
	return out
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// percentile is the smallest sample that p in a hundred samples do not exceed.
func percentile(sorted []float64, p float64) float64 {
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}
