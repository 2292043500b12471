package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// race is a program that both systems run in pairs, in an order by lot for each pair, and the bars that it is for.
type race struct {
	program     string
	args, quick []string // quick: in place of args when BARS_QUICK asks for a trial
	limit       time.Duration
	alone       bool   // Ray does not run it
	looks       looks  // when the program asks
	on          player // where it runs; nil: beside the bench, as lab.play has it
	python      string // its environment; default: Ray's, for both
	bars        []bar
}

// player runs a program on one side elsewhere, and gives what it said of its parts.
type player func(l *lab, s side, program string, limit time.Duration, args ...string) (map[string]part, error)

// bar is one line of a report, made of what the runs of a program said of one part of it.
type bar struct {
	name, part, unit string
	of               func(part) (float64, error)
	beside           bool // the bar is on the ratio to Ray; otherwise Ray's figure is only told
	hold             func(Result) Result
	note             string
}

// runs are what the programs of a race said.
type runs struct {
	ours, theirs []map[string]part
	repeated     int   // runs of Ray that failed once
	void         int   // runs of ours that were void, and were repeated
	err          error // why there are no more
	longest      time.Duration
}

// voidMost is how often a run that is void is repeated.
const voidMost = 2

// void tells whether a program found that its run says nothing.
func void(said map[string]part) bool {
	for _, p := range said {
		if strings.HasPrefix(p.Error, "Void:") {
			return true
		}
	}
	return false
}

// valid runs a program again while its run is void, and tells how often.
func valid(play func() (map[string]part, error)) (said map[string]part, again int, err error) {
	for ; ; again++ {
		if said, err = play(); err != nil || !void(said) || again == voidMost {
			return said, again, err
		}
	}
}

// long is how much a run alone may take to be repeated.
const long = time.Minute

// experiment runs the race and adds its bars: each of them, also when nothing ran.
func (r race) experiment(l *lab) error {
	got := r.run(l)
	for _, b := range r.bars {
		l.add(b.result(got, r.alone, l.folders()...))
	}
	return nil
}

func (r race) run(l *lab) (got runs) {
	ours, err := l.ours()
	var theirs side
	if err == nil && r.python != "" {
		var python string
		if python, err = l.python(r.python); err == nil {
			ours, err = l.oursWith(python)
		}
	}
	if err == nil && !r.alone {
		theirs, err = l.theirs()
	}
	if got.err = err; err != nil {
		return got
	}
	args := r.args
	if quick {
		args = r.quick
	}
	play := func(s side, limit time.Duration) (map[string]part, error) {
		if r.on != nil {
			return r.on(l, s, r.program, limit, args...)
		}
		return l.play(s, r.program, limit, r.looks, args...)
	}
	for i := range pairs {
		turns := []bool{true, false} // ours
		if rand.IntN(2) == 0 {
			slices.Reverse(turns)
		}
		for _, mine := range turns {
			if !mine && r.alone {
				continue
			}
			began := time.Now()
			if mine {
				var said map[string]part
				var again int
				said, again, got.err = valid(func() (map[string]part, error) { return play(ours, r.limit) })
				got.void += again
				got.ours = append(got.ours, said)
				got.longest = max(got.longest, time.Since(began))
			} else {
				var said map[string]part
				if said, got.err = play(theirs, 2*r.limit); got.err != nil {
					got.repeated++ // a peer that failed once gets another try
					said, got.err = play(theirs, 2*r.limit)
				}
				got.theirs = append(got.theirs, said)
			}
			fmt.Fprintf(os.Stderr, "    %d of %d, %s: %.1f s\n", i+1, pairs, map[bool]string{true: ours.name, false: theirs.name}[mine], time.Since(began).Seconds())
			if got.err != nil {
				return got
			}
		}
		if r.alone && got.longest > long {
			return got
		}
	}
	return got
}

// samples are the figures of all runs of a side, or the first reason why there is none.
func (b bar) samples(said []map[string]part, failed error) (out []float64, err error) {
	for _, parts := range said {
		p, known := parts[b.part]
		if !known {
			if failed == nil {
				failed = errors.New("the program did not say it")
			}
			return out, fmt.Errorf("%s: %w", b.part, failed)
		}
		value, err := b.of(p)
		if err != nil {
			return out, fmt.Errorf("%s: %w", b.part, err)
		}
		out = append(out, value)
	}
	return out, nil
}

// result is the bar's line.
func (b bar) result(got runs, alone bool, folders ...string) Result {
	ours, err := b.samples(got.ours, got.err)
	theirs, theirErr := b.samples(got.theirs, got.err)
	if err == nil && b.beside && theirErr != nil {
		err = fmt.Errorf("with Ray: %w", theirErr)
	}
	wanted, had := pairs, len(ours)
	if alone && got.longest > long {
		wanted = 1
	}
	if b.beside {
		had = min(had, len(theirs))
	}
	if err == nil && had < wanted {
		err = fmt.Errorf("%d of %d runs: %w", had, wanted, got.err)
	}
	if err != nil {
		return Result{Schema: schema, Name: b.name, Bar: true, Error: anonymous(err.Error(), folders...)}
	}
	r := single(b.name, b.unit, ours)
	note := b.note
	if b.beside {
		r = paired(b.name, b.unit, "Ray", ours, theirs)
	} else if theirErr == nil && len(theirs) > 0 {
		note = join(note, fmt.Sprintf("Ray %.4g %s", result("", "", "", theirs).Figure, b.unit))
	}
	if got.repeated > 0 {
		note = join(note, fmt.Sprintf("%d runs of Ray failed and were repeated", got.repeated))
	}
	if got.void > 0 {
		note = join(note, fmt.Sprintf("%d runs of ours were void and were repeated", got.void))
	}
	for _, parts := range got.ours[:1] {
		note = join(note, parts[b.part].Note)
	}
	return b.hold(r).noted(note)
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// Figures of a part.

func figure(name string) func(part) (float64, error) {
	return func(p part) (float64, error) { return p.figure(name) }
}

// quotient is one figure over another, in some unit.
func quotient(over, under string, unit float64) func(part) (float64, error) {
	return func(p part) (float64, error) {
		a, err := p.figure(over)
		if err != nil {
			return 0, err
		}
		b, err := p.figure(under)
		if err == nil && b == 0 {
			err = fmt.Errorf("its %s is 0", under)
		}
		return a / b * unit, err
	}
}

var (
	perSecond = quotient("count", "seconds", 1)
	cpuEach   = quotient("cpu", "count", 1e6)
)

// Bars.

// faster: so many times what Ray does in a second.
func faster(name, part, unit string, times float64) bar {
	return bar{name: name + ", beside Ray", part: part, unit: unit, of: perSecond, beside: true, hold: func(r Result) Result { return r.atLeast(times) }}
}

// share: at most such a share of what Ray takes.
func share(name, part, unit string, of func(part) (float64, error), most float64) bar {
	return bar{name: name, part: part, unit: unit, of: of, beside: true, hold: func(r Result) Result { return r.atMost(most) }}
}

// atLeast and atMost: figures of ours alone.
func atLeast(name, part, unit string, of func(part) (float64, error), least float64) bar {
	return bar{name: name, part: part, unit: unit, of: of, hold: func(r Result) Result { return r.atLeast(least) }}
}

func atMost(name, part, unit string, of func(part) (float64, error), most float64) bar {
	return bar{name: name, part: part, unit: unit, of: of, hold: func(r Result) Result { return r.atMost(most) }}
}

// everyAtMost is the bar of a count, that no run has more.
func everyAtMost(name, part string, of func(part) (float64, error), most float64) bar {
	return bar{name: name, part: part, of: of, hold: func(r Result) Result { return r.most(most) }}
}

// told is a figure without a bar.
func told(name, part, unit string, of func(part) (float64, error), beside bool) bar {
	return bar{name: name, part: part, unit: unit, of: of, beside: beside, hold: func(r Result) Result { return r }}
}

func (b bar) noted(text string) bar {
	b.note = text
	return b
}
