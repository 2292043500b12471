package slurm

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Infinite is a time without limit (UNLIMITED, INFINITE).
const Infinite = time.Duration(math.MaxInt64)

// maxDays keeps a duration in its 64 bits.
const maxDays = 100_000

// ParseDuration reads a time in any of Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds,
// days-hours, days-hours:minutes, days-hours:minutes:seconds, and UNLIMITED. A fraction of a second,
// as sacct prints it, is kept.
func ParseDuration(s string) (time.Duration, error) {
	switch strings.ToUpper(s) {
	case "UNLIMITED", "INFINITE", "-1":
		return Infinite, nil
	}
	bad := func(why string) (time.Duration, error) {
		return 0, fmt.Errorf("slurm: time %q: %s; write MINUTES, HH:MM:SS or D-HH:MM:SS", clip(s), why)
	}
	body, fraction, hasFraction := strings.Cut(s, ".")
	days, clock, hasDays := strings.Cut(body, "-")
	if !hasDays {
		days, clock = "0", body
	}
	fields := strings.Split(clock, ":")
	if len(fields) > 3 {
		return bad("too many colons")
	}
	// What the fields mean depends on how many there are and on whether days stand before them.
	units := [][]time.Duration{{time.Minute}, {time.Minute, time.Second}, {time.Hour, time.Minute, time.Second}}[len(fields)-1]
	if hasDays {
		units = []time.Duration{time.Hour, time.Minute, time.Second}[:len(fields)]
	}
	d, err := parseNumber(days)
	if err != nil || d > maxDays {
		return bad("the days are no number")
	}
	total := time.Duration(d) * 24 * time.Hour
	for i, f := range fields {
		n, err := parseNumber(f)
		if err != nil || n > maxDays*24*3600 || time.Duration(n) > Infinite/units[i]-total/units[i] {
			return bad("not a number")
		}
		total += time.Duration(n) * units[i]
	}
	if hasFraction {
		f, err := strconv.ParseFloat("0."+fraction, 64)
		if err != nil || f < 0 || strings.ContainsAny(fraction, "eExXpP_+-") {
			return bad("not a fraction of a second")
		}
		total += time.Duration(f * float64(time.Second))
	}
	return total, nil
}

// FormatDuration writes a time as squeue does: [D-]HH:MM:SS.
func FormatDuration(d time.Duration) string {
	if d == Infinite {
		return "UNLIMITED"
	}
	if d < 0 {
		d = 0
	}
	s := int64(d / time.Second)
	clock := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%s", days, clock)
	}
	return clock
}

// ParseTime reads a point in time as Slurm prints it with its default format, in the given zone.
// Unknown, N/A, None and NONE are the zero time.
func ParseTime(s string, zone *time.Location) (time.Time, error) {
	switch strings.ToUpper(s) {
	case "", "UNKNOWN", "N/A", "NONE", "(NULL)", "INVALID":
		return time.Time{}, nil
	}
	t, err := time.ParseInLocation("2006-01-02T15:04:05", s, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("slurm: time %q: not YYYY-MM-DDTHH:MM:SS: unset SLURM_TIME_FORMAT", clip(s))
	}
	return t, nil
}
